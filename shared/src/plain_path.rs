//! The one spelling of a path. Routers decode, rules compare: what is spelt in another way is not found, so that both
//! see the same.

/// Whether a path, as it came, is unreserved characters (RFC 3986 section 2.3) and single slashes, without dot segments.
/// No path of the API needs more.
pub fn is_plain(path: &str) -> bool {
    let plain = path
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"/-._~".contains(&c));
    let is_dots = |segment: &str| segment == "." || segment == "..";
    plain && !path.contains("//") && !path.split('/').any(is_dots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_spelling_of_a_path_is_plain() {
        for good in ["/", "/api/generate", "/api/jobs/0190-ab/events", "/a~b_c.d"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [
            "/api/%67enerate",
            "/api//generate",
            "//api/generate",
            "/api/./generate",
            "/api/../generate",
            "/api/gener\u{e4}te",
            "/api/generate;a=b",
            "/api\\generate",
            "/api/generate%00",
            "/%2e%2e/x",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_path_has_nothing_to_decode(path in "/[a-z%./~;=&?]{0,30}") {
            if is_plain(&path) {
                prop_assert!(!path.contains(['%', '?', ';']));
            }
        }
    }
}
