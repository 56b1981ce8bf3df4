//! Which of a client's headers go on to the origin. What the edge says about a client, a client cannot say itself.

/// Connection-level headers, those that the runtime writes itself, and those that fronts use to tell addresses,
/// hosts or methods.
const DROPPED: [&str; 27] = [
    "connection",
    "content-digest",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
    "true-client-ip",
    "fastly-client-ip",
    "client-ip",
];

/// Families of the same kinds.
const DROPPED_PREFIXES: [&str; 4] = ["signature", "signet-", "x-forwarded", "cf-"];

/// The one header of our name that browsers send.
const STUDIO: &str = "signet-studio";

/// Whether the header `name` (lower case) goes on; `client_header` is the one that carries the client's address.
pub fn passes(name: &str, client_header: Option<&str>) -> bool {
    // An underscore reads like a hyphen to some servers.
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    let dropped = DROPPED.contains(&name)
        || Some(name) == client_header
        || DROPPED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    plain && (name == STUDIO || !dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_edge_may_say_is_dropped() {
        for name in [
            "signature",
            "signature-input",
            "signature-agent",
            "signet-client-ip",
            "signet-charged",
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "x-real-ip",
            "cf-connecting-ip",
            "cf-ray",
            "true-client-ip",
            "content-digest",
            "transfer-encoding",
            "x-request-id",
            "signet_client_ip",
            "x_forwarded_for",
            "",
            "x-front",
        ] {
            assert!(!passes(name, Some("x-front")), "{name}");
        }
        for name in [
            "authorization",
            "cookie",
            "content-type",
            "idempotency-key",
            "signet-studio",
            "prefer",
            "origin",
            "accept",
            "x-stainless-retry-count",
        ] {
            assert!(passes(name, Some("x-front")), "{name}");
        }
    }
}
