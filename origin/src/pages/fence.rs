//! The headers that fence our pages in: one function, so that there is one policy.

use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, InvalidHeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// Where pictures are shown from: scheme, host and port and nothing else, so that it cannot end a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesOrigin(String);

/// The text is not `http(s)://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not http(s)://host or http(s)://host:port")]
pub struct InvalidOrigin(pub String);

impl ImagesOrigin {
    /// # Errors
    /// [`InvalidOrigin`] for a path, a user name, or any character that a host or port does not have.
    pub fn parse(url: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(url.into());
        let text = url.strip_suffix('/').unwrap_or(url);
        let (scheme, authority) = text.split_once("://").ok_or_else(invalid)?;
        let is_known = matches!(scheme, "http" | "https");
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if !is_known || authority.is_empty() || !authority.chars().all(is_plain) {
            return Err(invalid());
        }
        Ok(Self(text.into()))
    }

    /// As it stands in the policy.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the page has no use for. It copies links, so `clipboard-write` is left to itself.
const PERMISSIONS: &str = "accelerometer=(), camera=(), clipboard-read=(), display-capture=(), encrypted-media=(), \
     fullscreen=(self), geolocation=(), gyroscope=(), hid=(), idle-detection=(), magnetometer=(), microphone=(), \
     midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=(), web-share=(), \
     xr-spatial-tracking=(), clipboard-write=(self)";

/// Headers of a page and all its files. Pictures come from its own origin and from `images` alone, scripts from its own
/// origin alone; nobody frames it, no script may build HTML from text, and no other origin is let in.
///
/// # Errors
/// Never for an [`ImagesOrigin`]; the type of a header's value just cannot know.
pub fn security_headers(
    images: Option<&ImagesOrigin>,
) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
    let images = images.map_or(String::new(), |images| format!(" {}", images.as_str()));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'{images}; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    );
    let fixed = |name: &'static str, value: &'static str| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    Ok(vec![
        (CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy)?),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // For browsers older than frame-ancestors.
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // The images host lets in whom it knows by Referer, so the page has to send its origin there; paths and
        // queries stay here.
        (
            REFERRER_POLICY,
            HeaderValue::from_static("strict-origin-when-cross-origin"),
        ),
        fixed("cross-origin-opener-policy", "same-origin"),
        fixed("cross-origin-resource-policy", "same-origin"),
        fixed("permissions-policy", PERMISSIONS),
        fixed("x-robots-tag", "noindex"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(name: &str) -> String {
        let images = ImagesOrigin::parse("https://img.example.com").unwrap();
        let headers = security_headers(Some(&images)).unwrap();
        let (_, value) = headers.iter().find(|(known, _)| known == name).unwrap();
        value.to_str().unwrap().into()
    }

    fn directives() -> Vec<String> {
        header("content-security-policy")
            .split("; ")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn everything_is_forbidden_that_is_not_named() {
        let policy = directives();
        assert_eq!(policy.first().unwrap(), "default-src 'none'");
        for directive in [
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' https://img.example.com",
            "connect-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            assert!(
                policy.iter().any(|known| known == directive),
                "{directive} in {policy:?}"
            );
        }
        for hole in ["unsafe-inline", "unsafe-eval", "*", "data:", "blob:"] {
            assert!(!header("content-security-policy").contains(hole), "{hole}");
        }
    }

    #[test]
    fn a_page_without_pictures_shows_none_from_elsewhere() {
        let headers = security_headers(None).unwrap();
        let policy = headers.first().unwrap().1.to_str().unwrap();
        assert!(policy.contains("; img-src 'self'; connect-src 'self';"));
    }

    #[test]
    fn no_other_origin_is_let_in() {
        let images = ImagesOrigin::parse("https://img.example.com").unwrap();
        for headers in [security_headers(None), security_headers(Some(&images))] {
            for (name, _) in headers.unwrap() {
                assert!(!name.as_str().starts_with("access-control-"), "{name}");
            }
        }
    }

    #[test]
    fn the_images_host_is_told_which_origin_shows_its_pictures() {
        assert_eq!(header("referrer-policy"), "strict-origin-when-cross-origin");
    }

    #[test]
    fn nobody_frames_sniffs_or_shares_the_page() {
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert!(header("permissions-policy").contains("camera=()"));
        assert!(header("permissions-policy").contains("clipboard-write=(self)"));
    }

    #[test]
    fn an_images_url_with_more_than_an_origin_is_refused() {
        for good in [
            "http://localhost:8787",
            "https://img.example.com",
            "https://img.example.com/",
            "http://[::1]:8081",
        ] {
            assert!(ImagesOrigin::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a;script-src *",
            "https://a b",
            "https://u@a",
            "https://a?b",
            "https://a,b",
            "javascript://a",
            "https://*",
            "https://a'",
            "https://a\r\nx: y",
        ] {
            assert!(ImagesOrigin::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_adds_no_directive_and_is_a_header(url in "https?://[ -~]{0,24}") {
            if let Ok(images) = ImagesOrigin::parse(&url) {
                let headers = security_headers(Some(&images)).unwrap();
                let policy = headers.first().unwrap().1.to_str().unwrap();
                prop_assert_eq!(policy.split(';').count(), 10);
            }
        }
    }
}
