//! Which host a request is for, and its target as it came.

/// Host and raw target of a URL as the runtime gives it; no URL parser may tidy the target up.
pub fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    }
}

/// Whether `host`, as it came, is the configured one; a port that says nothing may be left out or written.
pub fn host_is(configured: &str, host: &str) -> bool {
    let bare = |host: &'_ str| {
        let end = [":443", ":80"]
            .iter()
            .find_map(|port| host.strip_suffix(port));
        end.unwrap_or(host).len()
    };
    let (ours, theirs) = (bare(configured), bare(host));
    configured
        .get(..ours)
        .zip(host.get(..theirs))
        .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_without_tidying() {
        assert_eq!(
            split("http://a:1/b//c/../%67?x#y"),
            ("a:1", "/b//c/../%67?x#y")
        );
        assert_eq!(split("https://a"), ("a", "/"));
        assert_eq!(split("https://a?x"), ("a", "?x"));
    }

    #[test]
    fn hosts_match_whole_and_without_case() {
        assert!(host_is("img.example.com", "IMG.example.com"));
        assert!(host_is("img.example.com", "img.example.com:443"));
        assert!(host_is("localhost:8787", "localhost:8787"));
        assert!(!host_is("localhost:8787", "localhost"));
        assert!(!host_is("img.example.com", "evil-img.example.com"));
        assert!(!host_is("img.example.com", "img.example.com.evil"));
        assert!(!host_is("img.example.com", "img.example.com:8080"));
    }
}
