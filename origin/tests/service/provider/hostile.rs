//! A provider that is slow, cut off, elsewhere, huge, wrong or hostile: a clear code, nothing listed, nothing leaked.

use serde_json::json;

use super::upstream::{Act, Upstream, json as says, reply};
use super::{Case, KEY, ask, pictures, png};

/// The caller is told this and nothing of what the provider said; nothing is listed.
fn fails(case: &Case, act: Act, status: u16, code: &str) {
    case.upstream.act(vec![act]);
    let answer = case.generate(&ask());
    assert_eq!(answer.problem(), (status, code.into()));
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    for word in ["canary", KEY, "127.0.0.1", "image-1"] {
        assert!(!told.contains(word), "{told}");
    }
    let listed = case
        .service
        .get("/api/images")
        .token(&case.token)
        .send()
        .ok()
        .json();
    assert_eq!(listed["images"], json!([]));
    assert_eq!((case.used("jobs"), case.used("storage")), (0, 0));
}

#[test]
fn statuses_are_told_by_stable_codes_and_not_by_the_providers_words() {
    let case = Case::new(Act::Hang, &[]);
    let words = format!("{{\"error\":{{\"message\":\"canary {KEY} 127.0.0.1\"}}}}");
    for (status, expected, code) in [
        ("401 No", 503, "provider_misconfigured"),
        ("402 No", 503, "provider_misconfigured"),
        ("403 No", 503, "provider_misconfigured"),
        ("404 No", 502, "provider_failed"),
        ("500 No", 502, "provider_failed"),
        ("502 No", 502, "provider_failed"),
        ("204 No", 502, "provider_answer"),
    ] {
        let before = case.upstream.seen().len();
        fails(&case, reply(status, "", words.as_bytes()), expected, code);
        assert_eq!(
            case.upstream.seen().len(),
            before + 1,
            "{status} is not asked again"
        );
        // Who says that all went well may bill it.
        let paid = u64::from(status.starts_with("204"));
        assert_eq!(case.used("user-hour"), paid, "{status}");
    }
    // What the provider will not make is the caller's doing.
    fails(
        &case,
        reply("400 No", "", words.as_bytes()),
        422,
        "provider_rejected",
    );
    assert_eq!(case.used("user-hour"), 2);
    assert!(
        !case.service.log().contains(KEY),
        "the key stands in the log"
    );
    assert!(
        !case.service.log().contains("canary"),
        "the provider's words stand in the log"
    );
}

#[test]
fn redirects_are_not_followed_and_no_key_goes_along() {
    let elsewhere = Upstream::start(vec![pictures(&[png(64, 64)])]);
    let case = Case::new(Act::Hang, &[]);
    for status in ["301 Moved", "302 Found", "307 There", "308 There"] {
        let location = format!("location: {}/v1/images/generations\r\n", elsewhere.url());
        fails(&case, reply(status, &location, b""), 502, "provider_failed");
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[test]
fn a_busy_provider_is_asked_again_when_it_says_so_soon_and_not_when_late() {
    let case = Case::new(Act::Hang, &[]);
    let busy = |seconds: &str| reply("429 Busy", &format!("retry-after: {seconds}\r\n"), b"");
    case.upstream.act(vec![
        busy("1"),
        reply("503 Busy", "retry-after: 1\r\n", b""),
        pictures(&[png(64, 64)]),
    ]);
    case.generate(&ask()).ok();
    assert_eq!(case.upstream.seen().len(), 3);
    case.upstream.act(vec![busy("1800")]);
    let answer = case.generate(&ask());
    assert_eq!(answer.problem(), (503, "provider_busy".into()));
    assert_eq!(case.upstream.seen().len(), 4);
}

#[test]
fn cut_slow_huge_and_wrong_answers_fail_that_job_alone() {
    let case = Case::new(
        Act::Hang,
        &[
            ("SIGNET_PROVIDER__TIMEOUT_SECONDS", "3"),
            ("SIGNET_PROVIDER__ANSWER_MIB", "1"),
        ],
    );
    fails(&case, Act::Hang, 504, "provider_late");
    fails(&case, Act::Say(Vec::new()), 502, "provider_failed");
    fails(
        &case,
        Act::Say(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"data\"".to_vec()),
        502,
        "provider_failed",
    );
    fails(
        &case,
        Act::Say(b"SSH-2.0-canary\r\n".to_vec()),
        502,
        "provider_failed",
    );
    fails(&case, Act::Flood, 502, "provider_answer");
    for body in [
        "",
        "canary",
        "{}",
        "{\"data\":[]}",
        "{\"data\":[{\"b64_json\":\"!\"}]}",
        "<html>canary</html>",
    ] {
        fails(
            &case,
            reply("200 OK", "content-type: text/html\r\n", body.as_bytes()),
            502,
            "provider_answer",
        );
    }
    // More pictures than were asked for are not what was asked for.
    fails(
        &case,
        pictures(&[png(64, 64), png(64, 64)]),
        502,
        "provider_answer",
    );
    // All of it was asked for, and may be billed.
    assert_eq!(case.used("user-hour"), 12);
    case.upstream.act(vec![pictures(&[png(64, 64)])]);
    case.generate(&ask()).ok();
}

#[test]
fn hostile_pictures_end_at_the_sanitiser() {
    let case = Case::new(Act::Hang, &[]);
    let mut bomb = png(64, 64);
    // 60,000 × 60,000 in the header, with its checksum made right by nobody: refused before any of it is decoded.
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut cut = png(64, 64);
    cut.truncate(60);
    for file in [
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>".to_vec(),
        b"<script>alert(1)</script>".to_vec(),
        b"MZ\x90\0".to_vec(),
        Vec::new(),
        bomb,
        cut,
    ] {
        fails(&case, pictures(&[file]), 502, "provider_answer");
    }
    // What hides behind a good picture is not stored.
    let mut polyglot = png(64, 64);
    polyglot.extend_from_slice(b"<script>canary</script>");
    case.upstream.act(vec![pictures(&[polyglot])]);
    let image = case.generate(&ask()).ok().json()["images"][0].clone();
    let got = case
        .service
        .link(image["url"].as_str().unwrap())
        .send()
        .ok();
    assert!(!got.body.windows(6).any(|six| six == b"canary"));
}

#[test]
fn addresses_of_pictures_lead_nowhere_inside() {
    let case = Case::new(Act::Hang, &[]);
    let inside = case.service.operator;
    for url in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://10.0.0.1/x.png".to_owned(),
        "https://[fd00::1]/x.png".to_owned(),
        "https://0xa9fea9fe/x.png".to_owned(),
        "http://example.org/x.png".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
        // On this machine, where development may fetch: what is there is no picture.
        format!("http://{inside}/metrics"),
    ] {
        fails(
            &case,
            says(&json!({ "data": [{ "url": url }] })),
            502,
            "provider_answer",
        );
    }
    let wandering = Upstream::start(vec![reply(
        "302 Found",
        &format!("location: http://{inside}/healthz\r\n"),
        b"",
    )]);
    let url = format!("{}/x.png", wandering.url());
    fails(
        &case,
        says(&json!({ "data": [{ "url": url }] })),
        502,
        "provider_answer",
    );
}

#[test]
fn a_provider_whose_name_leads_inside_is_never_spoken_to() {
    for host in [
        "localhost",
        "0x7f000001",
        "10.0.0.1",
        "[::1]",
        "169.254.169.254",
        "0xc0a80101",
    ] {
        let case = Case::new(
            Act::Hang,
            &[
                ("SIGNET_PROVIDER__ALLOW_LOOPBACK", "false"),
                ("SIGNET_PROVIDER__BASE_URL", &format!("https://{host}:9/v1")),
            ],
        );
        let answer = case.generate(&ask());
        assert_eq!(
            answer.problem(),
            (502, "provider_unreachable".into()),
            "{host}"
        );
        // TLS knows no server by a name that only the system's look-up takes for an address.
        let why = match host.starts_with("0x") {
            true => "no connection",
            false => "its address is not public",
        };
        assert!(case.service.log().contains(why), "{host}");
    }
}

#[test]
fn a_provider_that_is_not_there_is_tried_again_and_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let base = format!("http://127.0.0.1:{port}/v1");
    let case = Case::new(Act::Hang, &[("SIGNET_PROVIDER__BASE_URL", &base)]);
    let answer = case.generate(&ask());
    assert_eq!(answer.problem(), (502, "provider_unreachable".into()));
    assert_eq!(case.used("user-hour"), 0);
}
