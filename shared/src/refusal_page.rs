//! A refusal as a page, for people who follow a link: what happened, and what to do. It runs no script, loads nothing and
//! holds nothing of the request, so that it is the same for everybody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// The page's media type.
pub const MEDIA_TYPE: &str = "text/html; charset=utf-8";

const STYLE: &str = "\
:root{color-scheme:light dark;font:1.0625rem/1.55 system-ui,sans-serif}\
body{margin:0;min-height:100vh;display:grid;place-content:center;background:Canvas;color:CanvasText}\
main{max-width:34rem;padding:2rem 1.5rem}\
h1{font-size:1.6rem;line-height:1.25;margin:0 0 1rem;text-wrap:balance}\
p{margin:0 0 1rem}\
footer{border-top:1px solid;border-color:color-mix(in srgb,CanvasText 20%,Canvas);padding-top:1rem;font-size:.875rem;opacity:.75}\
code{font-family:ui-monospace,monospace}";

/// Headers of the page beside its type.
pub fn headers() -> [(&'static str, String); 3] {
    [
        ("content-security-policy", policy()),
        ("referrer-policy", "no-referrer".into()),
        ("x-robots-tag", "noindex".into()),
    ]
}

/// Nothing but the page's own style.
fn policy() -> String {
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    )
}

/// Heading, what happened, what to do.
fn words(code: &str) -> [&'static str; 3] {
    match code {
        "link_expired" => [
            "This link has expired",
            "Links to pictures here open for a limited time, and this one's has passed.",
            "Go back to the page or app where you found the picture and open it there again: you get a fresh link.",
        ],
        "malformed_link" => [
            "This link is not complete",
            "Something was cut off from the link, or added to it or changed in it on its way. A full stop or bracket behind it, or a line break in an e-mail, is enough.",
            "Go back to where you found the link and copy all of it, from https:// to its last character, or ask whoever sent it to send it again.",
        ],
        "bad_signature" => [
            "This link does not open anything",
            "It has no valid signature: a part of it is missing or was changed, or the key that signed it is no longer in use.",
            "Go back to the page or app where you found the picture and open it there, or ask whoever sent the link for a new one.",
        ],
        "life_too_long" => [
            "This link does not open anything",
            "It was made for a longer time than links may have here.",
            "Ask whoever sent it for a new one.",
        ],
        "ip_mismatch" => [
            "This link is for another connection",
            "It opens only from the internet connection that it was made for. A mobile network, a VPN or another Wi-Fi changes that.",
            "Go back to the page or app where you found the picture and open it there again on this connection.",
        ],
        "referer_denied" => [
            "This picture does not open from that page",
            "Its owner lets it show on their own pages only.",
            "If you were given the link, copy it into the address bar of your browser. Else look for the picture on its owner's page.",
        ],
        "link_revoked" => [
            "This link was withdrawn",
            "Whoever shares the picture has taken the link back.",
            "Ask them for a new one.",
        ],
        "rate_limited" => [
            "Too many pictures at once",
            "More pictures were asked for from your connection in the last minute than one may open.",
            "Wait a minute, and reload this page.",
        ],
        "not_found" => [
            "This picture is gone",
            "The link is a good one, but the picture was deleted, or its time of storage is over.",
            "Ask whoever sent the link whether there is another copy.",
        ],
        "method_not_allowed" => [
            "That cannot be done here",
            "A link to a picture can be opened, and nothing else.",
            "Open the link in the address bar of your browser.",
        ],
        "range_not_satisfiable" | "precondition_failed" => [
            "The picture has changed",
            "Your browser asked for a part of a picture that is not there any more.",
            "Reload this page.",
        ],
        _ => [
            "The picture cannot be shown right now",
            "Something is wrong on our side, not with your link.",
            "Try again in a few minutes.",
        ],
    }
}

/// The page of a refusal.
pub fn page(problem: Problem) -> String {
    let [heading, happened, todo] = words(problem.code);
    let Problem { status, code, .. } = problem;
    // All of it is ours: nothing needs escaping.
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{heading}</title>\n<style>{STYLE}</style>\n\
         <main>\n<h1>{heading}</h1>\n<p>{happened}</p>\n<p>{todo}</p>\n\
         <footer>{status} <code>{code}</code></footer>\n</main>\n</html>\n"
    )
}

/// Whether `Accept` (RFC 9110 section 12.5.1) prefers a page to JSON: browsers that go somewhere do, those that show a
/// picture in a page, and programs, do not.
pub fn is_preferred(accept: &str) -> bool {
    let quality = |kinds: &[&str]| {
        let of = |kind: &str| {
            let (family, _) = kind.split_once('/')?;
            let any = format!("{family}/*");
            // The most specific range that fits decides.
            [kind, &any, "*/*"]
                .iter()
                .find_map(|wanted| {
                    ranges(accept).find(|(range, _)| range.eq_ignore_ascii_case(wanted))
                })
                .map(|(_, quality)| quality)
        };
        kinds.iter().filter_map(|kind| of(kind)).max().unwrap_or(0)
    };
    quality(&["text/html"]) > quality(&["application/problem+json", "application/json"])
}

/// Media ranges and their qualities in thousandths. Other parameters say nothing here.
fn ranges(accept: &str) -> impl Iterator<Item = (&str, u16)> {
    accept.split(',').map(|part| {
        let mut pieces = part.split(';').map(|piece| piece.trim_matches([' ', '\t']));
        let range = pieces.next().unwrap_or("");
        let quality = pieces
            .find_map(|piece| {
                piece
                    .strip_prefix("q=")
                    .or_else(|| piece.strip_prefix("Q="))
            })
            .map_or(1000, thousandths);
        (range, quality)
    })
}

/// `0.125` is 125; what is no quality is none.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let plain = part.len() <= 3 && part.bytes().all(|c| c.is_ascii_digit());
    match (whole, plain) {
        ("1", true) => 1000,
        ("0", true) => format!("{part:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem;
    use proptest::prelude::*;

    #[test]
    fn browsers_that_go_somewhere_prefer_a_page_and_nobody_else_does() {
        for page in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html",
            "TEXT/HTML",
            "application/json;q=0.5, text/html;q=0.501",
            "text/*;q=0.3, application/json;q=0.2",
        ] {
            assert!(is_preferred(page), "{page}");
        }
        for other in [
            "",
            "*/*",
            "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
            "application/json, text/html",
            "application/problem+json, text/html",
            "text/html;q=0, */*",
            "text/html;q=0.5, */*",
            "text/html;q=2",
            "text/html;q=x",
            "text/htmlx",
            "application/json, text/plain, */*",
        ] {
            assert!(!is_preferred(other), "{other}");
        }
    }

    #[test]
    fn a_page_says_its_code_and_status_and_runs_nothing() {
        let (styled, policy) = (format!("<style>{STYLE}</style>"), policy());
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe") && policy.ends_with("sandbox"));
        for problem in [
            problem::LINK_EXPIRED,
            problem::MALFORMED_LINK,
            problem::BAD_SIGNATURE,
            problem::LIFE_TOO_LONG,
            problem::IP_MISMATCH,
            problem::REFERER_DENIED,
            problem::LINK_REVOKED,
            problem::RATE_LIMITED,
            problem::NOT_FOUND,
            problem::METHOD_NOT_ALLOWED,
            problem::PRECONDITION_FAILED,
            problem::RANGE_NOT_SATISFIABLE,
            problem::STORE_UNAVAILABLE,
        ] {
            let page = page(problem);
            let told = format!("{} <code>{}</code>", problem.status, problem.code);
            assert!(page.contains(&told) && page.contains(&styled), "{told}");
            for word in [
                "<script",
                "javascript:",
                "onload",
                "onclick",
                "src=",
                "href",
                "url(",
            ] {
                assert!(!page.contains(word), "{told}: {word}");
            }
            assert!(page.len() < 4096);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_wishes_never_panic(accept in "(text/html|\\*/\\*|application/json|[ ,;=q.0-9]){0,8}|.{0,60}") {
            let _ = is_preferred(&accept);
        }
    }
}
