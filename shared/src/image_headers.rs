//! Headers of a picture's answer, the same from the Worker and from the origin's own listener.

use crate::link::PermittedLink;

/// Longest time a browser keeps a picture without asking again, in seconds.
const MAX_BROWSER_AGE: u64 = 3600;

/// Headers of every answer on the images host that opens a link; 200, 206, 304 and 416 alike.
pub const ALWAYS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("referrer-policy", "no-referrer"),
    ("x-robots-tag", "noindex"),
    ("accept-ranges", "bytes"),
    VARY,
];

/// Whose scripts may read an answer depends on `Origin`, so no copy of it may answer another one.
pub const VARY: (&str, &str) = ("vary", "Origin");

/// Headers of a preflight's answer beside [`readable_by`] (Fetch standard, "CORS-preflight fetch"); kept by browsers for
/// two hours, the longest that any of them does.
pub const PREFLIGHT: [(&str, &str); 4] = [
    ("access-control-allow-methods", "GET, HEAD"),
    (
        "access-control-allow-headers",
        "Range, If-Range, If-None-Match",
    ),
    ("access-control-max-age", "7200"),
    ("cache-control", "no-store"),
];

/// The headers that let the scripts of `origin`, which [`crate::referer::RefererPolicy::readable_by`] gave, read an answer.
pub const fn readable_by(origin: &str) -> [(&'static str, &str); 2] {
    [
        ("access-control-allow-origin", origin),
        (
            "access-control-expose-headers",
            "ETag, Content-Range, Accept-Ranges",
        ),
    ]
}

/// `Cache-Control`: private, and never longer than the link lives. `now` in Unix seconds.
pub fn cache_control(link: &PermittedLink, now: u64) -> String {
    format!(
        "private, max-age={}",
        link.exp().saturating_sub(now).min(MAX_BROWSER_AGE)
    )
}

/// `Content-Disposition` when the link names a file to save as (RFC 6266). The alphabet of `dl` needs no quoting rules; a
/// wide name stands in `filename*` (RFC 8187), with a shorter one of ASCII for programs that do not read that.
pub fn content_disposition(link: &PermittedLink) -> Option<String> {
    let name = link.download_name()?;
    if !link.is_wide_name() {
        return Some(format!("attachment; filename=\"{name}\""));
    }
    // A percent sign would be undone by some.
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii() && c != '%' { c } else { '_' })
        .collect();
    let mut extended = String::with_capacity(3 * name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            extended.push(char::from(byte));
        } else {
            extended.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}"
    ))
}

/// `Content-Range` of a part.
pub fn content_range(first: u64, last: u64, size: u64) -> String {
    format!("bytes {first}-{last}/{size}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;
    use crate::link::{SignRequest, UnverifiedLink, safe_name};
    use crate::object_key::ObjectKey;
    use crate::referer::{FetchHeaders, RefererPolicy};
    use proptest::prelude::*;

    fn disposition(name: &str) -> String {
        let ring = Keyring::parse("k1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=").unwrap();
        let key = ObjectKey::parse("generated/u/a.png").unwrap();
        let request = SignRequest {
            key: &key,
            exp: 9,
            dl: Some(name),
            ep: 0,
            ip: None,
        };
        let link = request.sign(&ring, 1).unwrap();
        let verified = UnverifiedLink::parse(&link).unwrap().verify(&ring, 1, None);
        let policy = RefererPolicy::new([]).unwrap();
        let permitted = verified.unwrap().permit(&policy, &FetchHeaders::default());
        content_disposition(&permitted.unwrap()).unwrap()
    }

    #[test]
    fn a_name_beyond_ascii_is_told_in_both_ways() {
        for (name, header) in [
            ("cat.png", "attachment; filename=\"cat.png\""),
            (
                "größe.png",
                "attachment; filename=\"gr__e.png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.png",
            ),
            (
                "(1) 50%.png",
                "attachment; filename=\"(1) 50_.png\"; filename*=UTF-8''%281%29%2050%25.png",
            ),
        ] {
            assert_eq!(disposition(name), header);
        }
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_quotes_or_the_line(wanted in "\\PC{0,40}|.{0,80}|[\\x00-\\x7f]{0,60}") {
            let name = safe_name(&wanted, "png").unwrap();
            let header = disposition(&name);
            prop_assert!(header.bytes().all(|c| (0x20..0x7f).contains(&c)), "{header}");
            prop_assert_eq!(header.matches('"').count(), 2);
            prop_assert!(!header.contains('\\'));
        }
    }
}
