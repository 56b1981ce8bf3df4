//! Error answers: RFC 9457 problem details with a stable `code`. [`crate::error_shape`] has the other ways to write them.

/// What a kind of refusal looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// One sentence for people; never holds anything of the request.
    pub title: &'static str,
}

/// Media type of the answer.
pub const MEDIA_TYPE: &str = "application/problem+json";

impl Problem {
    /// A problem of this status, code and title.
    pub const fn new(status: u16, code: &'static str, title: &'static str) -> Self {
        Self {
            status,
            code,
            title,
        }
    }
}

/// Links open with GET and HEAD only.
pub const METHOD_NOT_ALLOWED: Problem = Problem::new(
    405,
    "method_not_allowed",
    "This method is not allowed here.",
);
/// Not the one spelling of a link.
pub const MALFORMED_LINK: Problem = Problem::new(
    400,
    "malformed_link",
    "The link is not in the form that Signet signs.",
);
/// No or another signature.
pub const BAD_SIGNATURE: Problem =
    Problem::new(403, "bad_signature", "The link has no valid signature.");
/// Past its time.
pub const LINK_EXPIRED: Problem = Problem::new(410, "link_expired", "The link has expired.");
/// Signed for longer than allowed.
pub const LIFE_TOO_LONG: Problem = Problem::new(
    403,
    "life_too_long",
    "The link is valid for longer than links may be.",
);
/// Opened from elsewhere.
pub const IP_MISMATCH: Problem =
    Problem::new(403, "ip_mismatch", "The link is not for this address.");
/// Revoked link, epoch or owner.
pub const LINK_REVOKED: Problem = Problem::new(403, "link_revoked", "The link was revoked.");
/// An address that the operator closed out for a time.
pub const ADDRESS_REVOKED: Problem = Problem::new(
    403,
    "address_revoked",
    "Requests from this address are refused.",
);
/// The token's user may do nothing.
pub const SUSPENDED: Problem = Problem::new(403, "suspended", "This account is suspended.");
/// Embedded by a page that may not.
pub const REFERER_DENIED: Problem = Problem::new(
    403,
    "referer_denied",
    "This page may not embed the picture.",
);
/// Over a limit.
pub const RATE_LIMITED: Problem = Problem::new(429, "rate_limited", "Too many requests.");
/// No such object or route.
pub const NOT_FOUND: Problem = Problem::new(404, "not_found", "There is nothing here.");
/// Range outside the object.
pub const RANGE_NOT_SATISFIABLE: Problem = Problem::new(
    416,
    "range_not_satisfiable",
    "The range lies outside the picture.",
);
/// A host that is not ours.
pub const UNKNOWN_HOST: Problem =
    Problem::new(421, "unknown_host", "This host is not served here.");
/// Sent in clear where only HTTPS is served.
pub const HTTPS_REQUIRED: Problem = Problem::new(
    403,
    "https_required",
    "Only HTTPS is served here; what was sent in clear may have been read.",
);
/// Too large a body.
pub const BODY_TOO_LARGE: Problem =
    Problem::new(413, "body_too_large", "The body is larger than allowed.");
/// A header of those that an edge signs.
pub const MALFORMED_HEADER: Problem = Problem::new(
    400,
    "malformed_header",
    "A header holds characters that are not allowed.",
);
/// Not through the edge.
pub const EDGE_ONLY: Problem =
    Problem::new(403, "edge_only", "This origin answers only to its edge.");
/// A page of another site sent it.
pub const CROSS_SITE: Problem = Problem::new(
    403,
    "cross_site",
    "This request must come from the studio's own page, or carry a token.",
);
/// More signed requests within a minute than the origin can tell from replays.
pub const TOO_MANY_NONCES: Problem = Problem::new(
    503,
    "too_many_nonces",
    "More requests came through the edge than can be told from replays; try again in a moment.",
);
/// No valid access token.
pub const UNAUTHORIZED: Problem =
    Problem::new(401, "unauthorized", "A valid access token is needed.");
/// A token in a query string.
pub const TOKEN_IN_QUERY: Problem = Problem::new(
    400,
    "token_in_query",
    "Tokens are not accepted in the query string.",
);
/// The edge cannot reach the origin.
pub const ORIGIN_UNREACHABLE: Problem = Problem::new(
    502,
    "origin_unreachable",
    "The service behind the edge does not answer.",
);
/// The store cannot be reached.
pub const STORE_UNAVAILABLE: Problem =
    Problem::new(503, "store_unavailable", "The image store does not answer.");
/// `If-Match` names another object.
pub const PRECONDITION_FAILED: Problem = Problem::new(
    412,
    "precondition_failed",
    "The picture is not the one that If-Match names.",
);
/// Wrongly set up.
pub const MISCONFIGURED: Problem =
    Problem::new(503, "misconfigured", "The service is not set up correctly.");

/// The JSON body: `type`, `title`, `status`, `code`, and what is known of `detail` and `request_id`.
pub fn problem_json(problem: Problem, detail: Option<&str>, request_id: Option<&str>) -> String {
    let mut out = String::with_capacity(160);
    out.push_str("{\"type\":\"about:blank\",\"title\":");
    push_string(&mut out, problem.title);
    out.push_str(",\"status\":");
    out.push_str(&problem.status.to_string());
    out.push_str(",\"code\":");
    push_string(&mut out, problem.code);
    for (name, value) in [("detail", detail), ("request_id", request_id)] {
        if let Some(value) = value {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            push_string(&mut out, value);
        }
    }
    out.push('}');
    out
}

/// A JSON string (RFC 8259 section 7).
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if (c as u32) < 0x20 => {
                out.push_str("\\u00");
                for nibble in [c as u32 >> 4, c as u32 & 15] {
                    out.push(char::from_digit(nibble, 16).unwrap_or('0'));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_detail_is_valid_json_and_comes_back(detail in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let json = problem_json(NOT_FOUND, Some(&detail), Some("r1"));
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["detail"].as_str(), Some(detail.as_str()));
            prop_assert_eq!(&value["code"], "not_found");
            prop_assert_eq!(&value["status"], 404);
        }
    }
}
