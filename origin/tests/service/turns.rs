//! Whose turn it is, as clients see it: plans' weights, and a machine with too much to do.

use serde_json::json;

use crate::jobs::{ask, long, start, state, submit, until, used};
use crate::program::{ALL_SCOPES, quick};

#[test]
fn jobs_of_a_plan_of_four_times_the_weight_go_before_earlier_ones() {
    let service = start(&[
        ("SIGNET_QUEUE__MAX_BATCH", "2"),
        ("SIGNET_PLANS__PAID__WEIGHT", "4"),
    ]);
    let (plain, paid) = (service.client(ALL_SCOPES), service.client(ALL_SCOPES));
    let home = service.home();
    home.succeed(&["user", "plan", &paid.user, "paid"]);
    let (first, second) = (service.token_of(&plain), service.token_of(&paid));
    let mut body = long();
    body["n"] = json!(4);
    let running = submit(&service, &first, &body);
    until(&service, &first, &running, &["running"]);
    let waiting = [&first, &first].map(|token| submit(&service, token, &body));
    // A user of whom nothing runs begins at once.
    let begun = submit(&service, &second, &body);
    until(&service, &second, &begun, &["running"]);
    let ahead = [&second, &second].map(|token| submit(&service, token, &body));
    let place = |token: &str, job| state(&service, token, job)["job"]["queue_position"].clone();
    assert_eq!(ahead.each_ref().map(|job| place(&second, job)), [0, 1]);
    assert_eq!(waiting.each_ref().map(|job| place(&first, job)), [2, 3]);
}

#[test]
fn a_job_that_would_wait_too_long_is_told_when_to_come_back_and_pays_nothing() {
    let service = start(&[("SIGNET_QUEUE__LONGEST_WAIT_SECONDS", "1")]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let mut body = long();
    (body["n"], body["guidance_scale"]) = (json!(4), json!(7));
    let running = submit(&service, &token, &body);
    until(&service, &token, &running, &["running"]);
    let refused = ask(&service, &token, &body).send();
    assert_eq!(refused.problem(), (503, "busy".into()));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
    assert_eq!(refused.header("signet-charged"), Some("0"));
    assert_eq!(used(&service, &token, "jobs"), 1);
    assert_eq!(used(&service, &token, "user-hour"), 1);
    // Who has little to do is let in beside it.
    ask(&service, &other, &quick()).send().ok();
}
