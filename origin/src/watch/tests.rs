//! The collection as a whole.

use super::*;

fn watch(clock: &Clock) -> (Watch, crate::telemetry::Metrics) {
    let metrics = crate::telemetry::Metrics::new().unwrap();
    let watch = Watch::new(
        clock.clone(),
        true,
        metrics.session_ips.clone(),
        metrics.user_generations.clone(),
    );
    (watch, metrics)
}

fn refused(
    status: u16,
    policy: Option<&'static str>,
    address: &str,
    user: Option<&str>,
) -> Refused {
    Refused {
        route: "/api/generate".into(),
        status,
        code: if policy.is_some() {
            "rate_limited"
        } else {
            "unauthorized"
        },
        policy,
        address: address.parse().ok(),
        user: user.map(Arc::from),
        request_id: "r".into(),
    }
}

#[test]
fn who_is_limited_and_why_is_named_by_what_the_limit_counts() {
    let clock = Clock::manual(1_000_000);
    let (watch, _) = watch(&clock);
    for _ in 0..3 {
        watch.refused(
            refused(429, Some("address"), "2001:db8::1", Some("u1")),
            None,
        );
        watch.refused(
            refused(429, Some("address"), "2001:db8::2", Some("u1")),
            None,
        );
    }
    watch.refused(
        refused(429, Some("user-hour"), "192.0.2.1", Some("u1")),
        None,
    );
    watch.refused(refused(401, None, "192.0.2.1", None), None);
    watch.answered(None, None);
    let seen = watch.overview(Gauges::default());
    assert_eq!(seen["limited"][0]["address"], "2001:db8::", "one /64");
    assert_eq!(seen["limited"][0]["count"], 6);
    assert_eq!(seen["limited"][1]["user"], "u1");
    assert_eq!(seen["refusals"][0]["code"], "unauthorized");
    let newest = |name: &str| &seen["slots"][name].as_array().unwrap()[SLOTS - 1];
    assert_eq!(
        [newest("limited"), newest("refused"), newest("ok")],
        [7, 1, 1]
    );
    assert_eq!(seen["reasons"][0]["reason"], "address");
}

#[test]
fn a_session_is_measured_once_its_hour_is_over() {
    let clock = Clock::manual(1_000_000);
    let (watch, metrics) = watch(&clock);
    let known = Recognised {
        user: "u1".into(),
        session: "jti-of-a-token".into(),
    };
    for address in [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.1",
        "2001:db8::1",
        "2001:db8::2",
    ] {
        watch.answered(Some(&known), address.parse().ok());
    }
    let seen = watch.overview(Gauges::default());
    assert_eq!(
        seen["sessions"][0]["addresses"].as_array().unwrap().len(),
        3
    );
    assert_eq!(seen["sessions"][0]["session"], "jti-of-a");
    assert_eq!(metrics.session_ips.get_sample_count(), 0);
    clock.advance(3600);
    watch.tick(None, 0);
    assert_eq!(metrics.session_ips.get_sample_count(), 1);
    assert_eq!(metrics.session_ips.get_sample_sum(), 3.0);
    watch.tick(None, 0);
    assert_eq!(metrics.session_ips.get_sample_count(), 1);
}

#[test]
fn generations_are_counted_by_user_hour_and_prompt() {
    let clock = Clock::manual(1_000_000);
    let (watch, metrics) = watch(&clock);
    let (one, two): (Arc<str>, Arc<str>) = ("u1".into(), "u2".into());
    for user in [&one, &two, &one] {
        watch.made(user, "hmac-sha256:p-1:aa", None, 2, (900, 100));
    }
    watch.made(&one, "hmac-sha256:p-1:bb", None, 1, (100, 0));
    // The key changed; while the one before is kept, the count goes on under the new name.
    watch.made(
        &one,
        "hmac-sha256:p-2:cc",
        Some("hmac-sha256:p-1:aa"),
        1,
        (100, 0),
    );
    let seen = watch.overview(Gauges {
        queued: 3,
        stored: 77,
    });
    assert_eq!(
        seen["prompts"].as_array().unwrap().len(),
        1,
        "once is no repeat"
    );
    assert_eq!(seen["prompts"][0]["hash"], "hmac-sha256:p-2:cc");
    assert_eq!(seen["prompts"][0]["count"], 4);
    assert_eq!(seen["prompts"][0]["users"].as_array().unwrap().len(), 2);
    assert_eq!(seen["hours"][0]["user"], "u1");
    assert_eq!(seen["hours"][0]["counts"][23], 6);
    assert_eq!(
        seen["latency_ms"]["all"],
        serde_json::json!([900, 900, 900])
    );
    assert_eq!(seen["day"]["stored"][SPANS - 1], 77);
    assert_eq!(seen["day"]["queued"][SPANS - 1], 3);
    clock.advance(3600);
    watch.tick(None, 0);
    assert_eq!(metrics.user_generations.get_sample_count(), 2);
    assert_eq!(metrics.user_generations.get_sample_sum(), 8.0);
}

#[test]
fn a_flood_grows_nothing_past_its_bound() {
    let clock = Clock::manual(1_000_000);
    let (watch, metrics) = watch(&clock);
    for n in 0..30_000u32 {
        let address = IpAddr::from(n.to_be_bytes());
        let name: Arc<str> = format!("u{n}").into();
        let known = Recognised {
            user: Arc::clone(&name),
            session: Arc::clone(&name),
        };
        let text = address.to_string();
        watch.refused(refused(429, Some("address"), &text, None), Some(&known));
        if n % 10 == 0 {
            watch.made(&name, &name, None, 1, (1, 1));
        }
    }
    let (seen, _) = watch.lock().unwrap();
    assert_eq!(seen.sessions.iter().count(), SESSIONS);
    assert_eq!(seen.limited.top(0, usize::MAX).len(), HEAVIEST);
    assert_eq!(seen.prompts.top(0, usize::MAX).len(), HEAVIEST);
    assert_eq!(seen.refusals.len(), REFUSALS);
    assert_eq!(
        metrics.session_ips.get_sample_count(),
        30_000 - SESSIONS as u64
    );
}

#[test]
fn nothing_is_collected_where_that_is_switched_off() {
    let metrics = crate::telemetry::Metrics::new().unwrap();
    let watch = Watch::new(
        Clock::manual(1),
        false,
        metrics.session_ips.clone(),
        metrics.user_generations.clone(),
    );
    watch.answered(None, None);
    watch.tick(Some(1), 1);
    assert!(watch.overview(Gauges::default()).is_null());
}
