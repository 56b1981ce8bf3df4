//! What jobs cost, however they and the service end: the price of what ran, once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::jobs::{ask, long, start, state, submit, until, used};
use crate::program::{ALL_SCOPES, Service, quick};
use crate::uploads::{picture, send};

/// Units of a day, so that they stand in the usage.
const UNITS: (&str, &str) = ("SIGNET_LIMITS__UNITS_DAY", "1000");

fn usage(service: &Service, token: &str) -> [u64; 3] {
    ["user-hour", "units-day", "jobs"].map(|policy| used(service, token, policy))
}

fn wait_for_log(service: &Service, text: &str) {
    while !service.log().contains(text) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The job of a caller who waits, once it runs.
fn waiting_and_running(service: &Service, token: &str, body: &Value) -> std::net::TcpStream {
    let begun = |service: &Service| {
        let metrics = service.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("signet_queue_wait_seconds_count"));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let before: u64 = begun(service);
    let open = ask(service, token, body).start().unwrap();
    while begun(service) == before {
        std::thread::sleep(Duration::from_millis(10));
    }
    open
}

#[test]
fn eight_jobs_under_way_are_paid_and_hold_their_places_whether_the_service_is_stopped_or_killed() {
    for kill in [false, true] {
        let service = start(&[UNITS]);
        let token = service.token(ALL_SCOPES);
        let mut body = long();
        body["n"] = json!(2);
        let jobs: Vec<Value> = (0..8).map(|_| submit(&service, &token, &body)).collect();
        until(&service, &token, &jobs[0], &["running"]);
        // 8 × 2 pictures × 100 steps × (128 / 512)² = 100 units.
        assert_eq!(usage(&service, &token), [8, 100, 8]);
        let service = if kill {
            service.kill().serve()
        } else {
            service.signal("TERM");
            service.ended().1.serve()
        };
        let [hour, units, places] = usage(&service, &token);
        assert_eq!((hour, units), (8, 100), "killed: {kill}");
        let open = jobs.iter().filter(|job| {
            let state = state(&service, &token, job);
            state["job"]["status"] != "done"
        });
        // Some may end between the two looks.
        assert!(open.count() as u64 <= places && places <= 8);
        if places == 8 {
            let refused = ask(&service, &token, &quick()).send();
            assert_eq!(refused.problem(), (429, "rate_limited".into()));
        }
        for job in &jobs {
            let done = until(&service, &token, job, &["done"]);
            assert_eq!(done["job"]["cost_units"], 12.5);
        }
        while used(&service, &token, "jobs") > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(usage(&service, &token), [8, 100, 0], "killed: {kill}");
        // And so it stands after one more start.
        let service = service.kill().serve();
        assert_eq!(usage(&service, &token), [8, 100, 0], "killed: {kill}");
        ask(&service, &token, &quick()).send().ok();
    }
}

#[test]
fn killed_at_any_point_between_the_picture_and_its_charge_it_is_paid_once() {
    for point in ["stored", "ending", "ended"] {
        let service = start(&[UNITS, ("SIGNET_TEST_PAUSE_AT", point)]);
        let token = service.token(ALL_SCOPES);
        let mut body = quick();
        // 16 thousandths of a unit a step.
        body["steps"] = json!(100);
        let job = submit(&service, &token, &body);
        wait_for_log(&service, "paused for a test");
        let mut home = service.kill();
        home.set("SIGNET_TEST_PAUSE_AT", "nowhere");
        let service = home.serve();
        let done = until(&service, &token, &job, &["done"]);
        assert_eq!(done["images"].as_array().unwrap().len(), 1);
        assert_eq!(usage(&service, &token), [1, 2, 0], "{point}");
        let service = service.kill().serve();
        assert_eq!(usage(&service, &token), [1, 2, 0], "{point}");
    }
}

#[test]
fn a_lost_job_that_ran_pays_for_that_and_one_that_waited_pays_nothing() {
    let service = start(&[UNITS, ("SIGNET_QUEUE__MAX_BATCH", "2")]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let mut body = long();
    body["n"] = json!(4);
    let running = waiting_and_running(&service, &token, &body);
    // Beyond its user's share while the other one runs: it waits.
    let theirs = waiting_and_running(&service, &other, &body);
    let waits = ask(&service, &token, &body).start().unwrap();
    while used(&service, &token, "jobs") < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    let service = service.kill().serve();
    drop((running, theirs, waits));
    let [hour, units, places] = usage(&service, &token);
    assert_eq!((hour, places), (1, 0));
    assert!((1..25).contains(&units), "{units} of 25 units");
    let [hour, units, places] = usage(&service, &other);
    assert_eq!((hour, places), (1, 0));
    assert!((1..25).contains(&units), "{units} of 25 units");
}

#[test]
fn a_job_cancelled_after_a_restart_pays_for_what_ran_before_it() {
    let service = start(&[UNITS, ("SIGNET_QUEUE__MAX_BATCH", "2")]);
    let token = service.token(ALL_SCOPES);
    let mut body = long();
    body["n"] = json!(4);
    let job = submit(&service, &token, &body);
    let step = |service: &Service| state(service, &token, &job)["job"]["step"].as_u64();
    while step(&service).unwrap_or(0) < 40 {
        std::thread::sleep(Duration::from_millis(20));
    }
    // The row is told once a second.
    let service = service.kill().serve();
    let path = crate::jobs::path(&job);
    let ended = service.delete(&path).token(&token).send().ok().json();
    assert_eq!(ended["job"]["status"], "cancelled");
    let cost = ended["job"]["cost_units"].as_f64().unwrap();
    assert!((1.0..25.0).contains(&cost), "{cost} of 25 units");
    let [hour, units, places] = usage(&service, &token);
    assert_eq!((hour, units, places), (1, cost.ceil() as u64, 0));
}

#[test]
fn a_plans_weight_outlives_the_process() {
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
    let theirs: Vec<Value> = (0..3).map(|_| submit(&service, &first, &body)).collect();
    let ahead: Vec<Value> = (0..3).map(|_| submit(&service, &second, &body)).collect();
    let service = service.kill().serve();
    let place = |token: &str, job| {
        let found = (0..2_400).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            state(&service, token, job)["job"]["queue_position"].as_u64()
        });
        found.expect("a job that waits has a place")
    };
    place(&second, &ahead[2]);
    let (plain, paid) = (place(&first, &theirs[1]), place(&second, &ahead[2]));
    assert!(paid < plain, "{paid} before {plain}");
}

#[test]
fn a_job_that_panics_ends_and_gives_its_place_back() {
    let service = start(&[UNITS, ("SIGNET_TEST_PANIC_AT", "make")]);
    let token = service.token(ALL_SCOPES);
    for _ in 0..9 {
        let lost = ask(&service, &token, &quick()).send();
        assert_eq!(lost.problem(), (500, "internal".into()));
    }
    assert_eq!(usage(&service, &token), [0, 0, 0]);
    // It may be over before anybody can be told where it is.
    let asked = ask(&service, &token, &quick()).header("prefer", "respond-async");
    let told = asked.send();
    let job = (told.status == 202).then(|| told.json()["job"].clone());
    if let Some(job) = &job {
        until(&service, &token, job, &["failed"]);
    }
    let mut home = service.kill();
    home.set("SIGNET_TEST_PANIC_AT", "");
    let service = home.serve();
    assert_eq!(usage(&service, &token), [0, 0, 0]);
    if let Some(job) = &job {
        assert_eq!(state(&service, &token, job)["job"]["status"], "failed");
    }
}

#[test]
fn a_job_that_comes_too_late_pays_for_what_ran() {
    // Nothing is measured before it, so that it is let in.
    let service = start(&[
        UNITS,
        ("SIGNET_QUEUE__DEADLINE_SECONDS", "2"),
        ("SIGNET_QUEUE__WARM_UP", "false"),
    ]);
    let token = service.token(ALL_SCOPES);
    let mut body = long();
    (body["n"], body["guidance_scale"]) = (json!(4), json!(7));
    let answer = ask(&service, &token, &body).send();
    assert_eq!(answer.problem(), (504, "deadline".into()));
    assert_eq!(answer.header("signet-charged"), None);
    let [hour, units, places] = usage(&service, &token);
    assert_eq!((hour, places), (1, 0));
    assert!((1..50).contains(&units), "{units} of 50 units");
    // By now it is known how long such a job takes.
    let again = ask(&service, &token, &body).send();
    assert_eq!(again.problem(), (400, "over_deadline".into()));
    assert_eq!(usage(&service, &token), [hour, units, 0]);
}

#[test]
fn few_steps_cost_what_their_pictures_and_those_they_start_from_cost() {
    let service = Service::start(&[UNITS]);
    let token = service.token(ALL_SCOPES);
    let cost = |job: &Value| {
        let answer = service.generate(&token, job).ok().json();
        (answer["job"]["cost_units"].as_f64().unwrap() * 1_000.0).round() as u64
    };
    let spec = |n| origin::infer::ImageSpec {
        model: String::new(),
        prompt: String::new(),
        negative_prompt: String::new(),
        width: 64,
        height: 64,
        steps: 1,
        guidance_scale: 1.0,
        seed: 0,
        n,
        init: None,
    };
    let floor = |n, references: &[u64]| origin::infer::floor(&spec(n), references);
    let mut job = quick();
    assert_eq!(cost(&job), floor(1, &[]));
    job["n"] = json!(4);
    assert_eq!(cost(&job), floor(4, &[]));
    assert_eq!(floor(4, &[]), 4 * floor(1, &[]));
    let upload = |width| {
        let file = picture(width, 900, image::ImageFormat::Png);
        let answer = send(&service, &token, "image/png", file).ok().json();
        answer["id"].clone()
    };
    let mut job = quick();
    (job["init_image"], job["strength"]) = (upload(1_000), json!(1));
    assert_eq!(cost(&job), floor(1, &[900_000]));
    assert!(floor(1, &[900_000]) > floor(1, &[]) + 100);
    job["mask"] = upload(1_000);
    assert_eq!(cost(&job), floor(1, &[900_000, 900_000]));
}

#[test]
fn the_request_that_ran_is_charged_and_its_replay_is_not() {
    let service = start(&[UNITS]);
    let token = service.token(ALL_SCOPES);
    let mut body = long();
    body["n"] = json!(4);
    let keyed = ask(&service, &token, &body).header("idempotency-key", "k");
    let job = keyed.clone().header("prefer", "respond-async").send();
    let job = job.json()["job"].clone();
    until(&service, &token, &job, &["running"]);
    let waits = std::thread::spawn({
        let keyed = keyed.clone();
        move || keyed.send()
    });
    std::thread::sleep(Duration::from_millis(500));
    let path = crate::jobs::path(&job);
    let ended = service.delete(&path).token(&token).send().ok().json();
    assert!(ended["job"]["cost_units"].as_f64().unwrap() > 0.0);
    for replay in [waits.join().unwrap(), keyed.send()] {
        assert_eq!(replay.problem(), (409, "cancelled".into()));
        assert_eq!(replay.header("signet-charged"), Some("0"));
    }
    assert_eq!(used(&service, &token, "user-hour"), 1);
}
