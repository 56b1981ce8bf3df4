//! Headers of a picture's answer, the same from the Worker and from the origin's own listener.

use crate::link::PermittedLink;

/// Longest time a browser keeps a picture without asking again, in seconds.
const MAX_BROWSER_AGE: u64 = 3600;

/// Headers of every answer on the images host that opens a link; 200, 206, 304 and 416 alike.
pub const ALWAYS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("referrer-policy", "no-referrer"),
    ("x-robots-tag", "noindex"),
    ("accept-ranges", "bytes"),
];

/// `Cache-Control`: private, and never longer than the link lives. `now` in Unix seconds.
pub fn cache_control(link: &PermittedLink, now: u64) -> String {
    format!(
        "private, max-age={}",
        link.exp().saturating_sub(now).min(MAX_BROWSER_AGE)
    )
}

/// `Content-Disposition` when the link names a file to save as; the name's alphabet needs no quoting rules.
pub fn content_disposition(link: &PermittedLink) -> Option<String> {
    link.download_name()
        .map(|name| format!("attachment; filename=\"{name}\""))
}

/// `Content-Range` of a part.
pub fn content_range(first: u64, last: u64, size: u64) -> String {
    format!("bytes {first}-{last}/{size}")
}
