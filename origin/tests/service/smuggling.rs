//! HTTP/1.1 as smugglers write it: whatever two servers in a row could frame differently is refused, or framed in the
//! one way of RFC 9112, and the connection is not used any further. Raw bytes against the real service.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::program::{ALL_SCOPES, Service, quick};

/// Sends bytes as they are; everything that comes back until the other side closes or is silent.
fn talk(service: &Service, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(service.public).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    // A server that has seen enough may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<u16> {
    answer
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|rest| rest.get(..3)?.parse().ok())
        .collect()
}

/// What a smuggled request would be answered with: nothing else in these tests is.
const PREY: &str = "GET /.well-known/jwks.json HTTP/1.1\r\nhost: HOST\r\n\r\n";

#[test]
fn a_body_with_two_lengths_is_no_way_to_hide_a_request() {
    let service = Service::start(&[]);
    let host = service.public.to_string();
    let prey = PREY.replace("HOST", &host);
    let whole = format!("{:x}\r\n{prey}\r\n0\r\n\r\n", prey.len());
    for (what, headers, body) in [
        (
            "both, the length first",
            "content-length: 5\r\ntransfer-encoding: chunked",
            format!("0\r\n\r\n{prey}"),
        ),
        (
            "both, the chunks first",
            "transfer-encoding: chunked\r\ncontent-length: 5",
            format!("0\r\n\r\n{prey}"),
        ),
        (
            "two lengths",
            "content-length: 0\r\ncontent-length: 60",
            prey.clone(),
        ),
        ("a list of lengths", "content-length: 0, 60", prey.clone()),
        ("a signed length", "content-length: +0", prey.clone()),
        ("a negative length", "content-length: -1", prey.clone()),
        ("a hexadecimal length", "content-length: 0x0", prey.clone()),
        (
            "an endless length",
            "content-length: 99999999999999999999999",
            prey.clone(),
        ),
        (
            "an unknown coding",
            "transfer-encoding: xchunked",
            whole.clone(),
        ),
        (
            "chunks and not last",
            "transfer-encoding: chunked, identity",
            whole.clone(),
        ),
        (
            "chunks twice",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            whole.clone(),
        ),
        (
            "chunks and something",
            "transfer-encoding: chunked\r\ntransfer-encoding: x",
            whole.clone(),
        ),
        (
            "a space before the colon",
            "transfer-encoding : chunked",
            whole.clone(),
        ),
        (
            "a folded header",
            "x: a\r\n transfer-encoding: chunked\r\ncontent-length: 0",
            prey.clone(),
        ),
        (
            "a folded coding",
            "transfer-encoding:\r\n chunked",
            whole.clone(),
        ),
        (
            "a bare CR",
            "x: a\rtransfer-encoding: chunked\r\ncontent-length: 0",
            prey.clone(),
        ),
        ("a NUL", "x: a\0b\r\ncontent-length: 0", prey.clone()),
        (
            "a header without a name",
            ": a\r\ncontent-length: 0",
            prey.clone(),
        ),
        (
            "a header without a colon",
            "content-length 60\r\ncontent-length: 0",
            prey.clone(),
        ),
        ("a vertical tab", "transfer-encoding: \u{b}chunked", whole),
    ] {
        let request =
            format!("POST /oauth/revoke HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n\r\n{body}");
        let answer = talk(&service, request.as_bytes());
        let got = statuses(&answer);
        assert!(
            got.len() <= 1 && got.iter().all(|status| (400..500).contains(status)),
            "{what}: {got:?} {answer}"
        );
        assert!(
            !answer.contains("\"keys\""),
            "{what}: the hidden request was answered"
        );
    }
    assert_eq!(service.get("/.well-known/jwks.json").send().status, 200);
    assert!(!service.log().contains("panicked"));
}

#[test]
fn chunks_are_framed_in_one_way_only() {
    let service = Service::start(&[]);
    let host = service.public.to_string();
    let prey = PREY.replace("HOST", &host);
    let head = format!(
        "POST /oauth/revoke HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\ncontent-type: application/x-www-form-urlencoded\r\n\r\n"
    );
    for (what, chunks) in [
        (
            "a size that overflows",
            format!("fffffffffffffffff\r\n{prey}"),
        ),
        (
            "a size of 2^64 and 0",
            format!("10000000000000000\r\n{prey}"),
        ),
        ("a signed size", format!("+1\r\na\r\n0\r\n\r\n{prey}")),
        ("a size with 0x", format!("0x1\r\na\r\n0\r\n\r\n{prey}")),
        (
            "a chunk longer than its size",
            format!("1\r\nabc\r\n0\r\n\r\n{prey}"),
        ),
        ("no size", format!("\r\n\r\n{prey}")),
        ("a size of letters", format!("xyz\r\n\r\n{prey}")),
    ] {
        let answer = talk(&service, format!("{head}{chunks}").as_bytes());
        assert!(statuses(&answer).len() <= 1, "{what}: {answer}");
        assert!(
            !answer.contains("\"keys\""),
            "{what}: the hidden request was answered"
        );
    }
    assert!(!service.log().contains("panicked"));
}

#[test]
fn floods_of_chunks_extensions_and_headers_end_in_a_refusal() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let host = service.public.to_string();
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    // A million chunks of one byte: more than a body may be.
    let tiny = format!("{chunked}{}0\r\n\r\n", "1\r\na\r\n".repeat(1_000_000));
    assert_eq!(statuses(&talk(&service, tiny.as_bytes())), [413]);
    let many = format!("{head}{}\r\n", "x: y\r\n".repeat(5_000));
    let long = format!("{head}x: {}\r\n\r\n", "y".repeat(2_000_000));
    let url = format!(
        "GET /{} HTTP/1.1\r\nhost: {host}\r\n\r\n",
        "a".repeat(2_000_000)
    );
    for flood in [many, long, url] {
        let got = statuses(&talk(&service, flood.as_bytes()));
        assert!(
            got.iter().all(|status| (400..500).contains(status)),
            "{got:?}"
        );
    }
    // Extensions are no part of the body, so that its limit does not see them.
    let body = quick().to_string();
    let extended = format!(
        "{chunked}{:x};{}\r\n{body}\r\n0\r\n\r\n",
        body.len(),
        "e=".repeat(5_000_000)
    );
    let got = statuses(&talk(&service, extended.as_bytes()));
    assert!(got.is_empty() || got == [200] || got == [400], "{got:?}");
    let answer = service.generate(&token, &quick());
    assert_eq!(answer.status, 200, "the service goes on");
    assert!(!service.log().contains("panicked"));
}

#[test]
fn a_transfer_that_breaks_off_leaves_nothing() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let host = service.public.to_string();
    let body = quick().to_string();
    for cut in [1, body.len() / 2, body.len() - 1] {
        let mut stream = TcpStream::connect(service.public).unwrap();
        let part = body.get(..cut).unwrap();
        let request = format!(
            "POST /api/generate HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{part}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            statuses(&answer)
                .iter()
                .all(|status| (400..500).contains(status)),
            "{answer}"
        );
    }
    let usage = service.get("/api/usage").token(&token).send().ok().json();
    for row in usage["limits"].as_array().unwrap() {
        if ["address", "token", "user-hour", "jobs", "storage"]
            .contains(&row["policy"].as_str().unwrap())
        {
            assert_eq!(row["used"], 0, "{row}");
        }
    }
}
