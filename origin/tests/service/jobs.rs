//! Jobs: asynchronous answers, events, cancelling, idempotency, deadlines, stops and crashes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Home, Service, files, quick};

/// The usual service with the demo model beside the tiny one.
fn home(variables: &[(&str, &str)]) -> Home {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let models = [
        root.join("tests/goldens/engine/model"),
        root.join("models/demo/emoji-128"),
    ];
    let mut home = Home::new(&[("SIGNET_AUTH__ISSUER", "https://issuer.example")]);
    home.set("SIGNET_INFER__MODELS", &json!(models).to_string());
    for (name, value) in variables {
        home.set(name, value);
    }
    home
}

pub fn start(variables: &[(&str, &str)]) -> Service {
    home(variables).serve()
}

/// A job of the demo model, long enough to be looked at.
pub fn long() -> Value {
    json!({ "prompt": "a purple heart", "model": "emoji-128", "steps": 100, "guidance_scale": 1, "seed": 7 })
}

pub fn ask(service: &Service, token: &str, body: &Value) -> Request {
    service.post("/api/generate").token(token).json(body)
}

pub fn submit(service: &Service, token: &str, body: &Value) -> Value {
    let answer = ask(service, token, body)
        .header("prefer", "respond-async")
        .send();
    assert_eq!(
        answer.status,
        202,
        "{:?}",
        String::from_utf8_lossy(&answer.body)
    );
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    let job = answer.json()["job"].clone();
    assert_eq!(answer.header("location"), job["status_url"].as_str());
    assert_eq!(answer.header("retry-after"), Some("1"));
    job
}

pub fn path(job: &Value) -> String {
    format!("/api/jobs/{}", job["id"].as_str().unwrap())
}

pub fn state(service: &Service, token: &str, job: &Value) -> Value {
    service.get(&path(job)).token(token).send().ok().json()
}

/// Asks until the job's status is one of these.
pub fn until(service: &Service, token: &str, job: &Value, wanted: &[&str]) -> Value {
    loop {
        let answer = state(service, token, job);
        if wanted.contains(&answer["job"]["status"].as_str().unwrap()) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads a job's events to the end: names and data.
pub fn events(service: &Service, token: &str, job: &Value) -> Vec<(String, Value)> {
    let stream = service
        .get(&format!("{}/events", path(job)))
        .token(token)
        .start()
        .unwrap();
    let (mut found, mut name) = (Vec::new(), String::new());
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if let Some(rest) = line.strip_prefix("event: ") {
            name = rest.into();
        } else if let Some(data) = line.strip_prefix("data: ") {
            found.push((name.clone(), serde_json::from_str(data).unwrap()));
        }
    }
    found
}

pub fn used(service: &Service, token: &str, policy: &str) -> u64 {
    let usage = service.get("/api/usage").token(token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["policy"] == policy).unwrap();
    row["used"].as_u64().unwrap()
}

#[test]
fn a_job_is_answered_at_once_and_found_at_its_address_until_it_is_done() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let job = submit(&service, &token, &quick());
    assert!(["queued", "running"].contains(&job["status"].as_str().unwrap()));
    let done = until(&service, &token, &job, &["done"]);
    assert_eq!(done["job"]["id"], job["id"]);
    assert!(done["job"]["run_ms"].is_u64());
    let url = done["images"][0]["url"].as_str().unwrap();
    assert_eq!(service.link(url).send().status, 200);
    // A picture that is deleted is gone from its job too.
    let id = done["images"][0]["id"].as_str().unwrap();
    let gone = service.delete(&format!("/api/images/{id}")).token(&token);
    assert_eq!(gone.send().status, 204);
    assert_eq!(state(&service, &token, &job)["images"], json!([]));
}

#[test]
fn a_wait_that_is_too_short_ends_with_the_jobs_address() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let answer = ask(&service, &token, &long())
        .header("prefer", "wait=0")
        .send();
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("preference-applied"), None);
    // Nobody waits on this connection any more, and the job goes on all the same.
    let job = answer.json()["job"].clone();
    assert!(answer.header("location").unwrap().ends_with(&path(&job)));
    until(&service, &token, &job, &["done"]);
}

#[test]
fn events_tell_steps_previews_and_the_end() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let job = submit(&service, &token, &long());
    let told = events(&service, &token, &job);
    let names: BTreeSet<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.contains("step") && names.contains("preview"),
        "{names:?}"
    );
    let steps: Vec<u64> = told
        .iter()
        .filter(|(name, _)| name == "step")
        .map(|(_, data)| data["step"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted(), "{steps:?}");
    let (_, preview) = told.iter().find(|(name, _)| name == "preview").unwrap();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let png = STANDARD.decode(preview["data"].as_str().unwrap()).unwrap();
    let picture = image::load_from_memory(&png).unwrap();
    assert_eq!(
        u64::from(picture.width()),
        preview["width"].as_u64().unwrap()
    );
    let (last, data) = told.last().unwrap();
    assert_eq!(last, "done");
    assert_eq!(data["images"].as_array().unwrap().len(), 1);
    // Who comes later hears the end alone.
    let again = events(&service, &token, &job);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].0, "done");
}

#[test]
fn a_cancelled_job_frees_the_engine_and_leaves_nothing() {
    let service = start(&[]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let job = submit(&service, &token, &long());
    until(&service, &token, &job, &["running"]);
    let waiting = submit(&service, &other, &quick());
    let answer = service.delete(&path(&job)).token(&token).send().ok().json();
    assert_eq!(answer["job"]["status"], "cancelled");
    // A neighbour in the same batch is not hurt.
    until(&service, &other, &waiting, &["done"]);
    let again = service.delete(&path(&job)).token(&token).send().ok().json();
    assert_eq!(again["job"]["status"], "cancelled");
    assert_eq!(events(&service, &token, &job)[0].0, "cancelled");
    assert_eq!(used(&service, &token, "storage"), 0);
    assert_eq!(used(&service, &token, "jobs"), 0);
    // It ran: a caller who cancels for ever must not compute for nothing.
    assert_eq!(used(&service, &token, "user-hour"), 1);
}

#[test]
fn another_users_job_is_as_absent_as_one_that_never_was() {
    let service = start(&[]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let job = submit(&service, &token, &long());
    let absent = "/api/jobs/00000000-0000-7000-8000-000000000000";
    for target in [path(&job), absent.into(), "/api/jobs/x".into()] {
        for request in [
            service.get(&target),
            service.delete(&target),
            service.get(&format!("{target}/events")),
        ] {
            let answer = request.token(&other).send();
            assert_eq!(answer.problem(), (404, "not_found".into()), "{target}");
        }
    }
    until(&service, &token, &job, &["running", "done"]);
}

#[test]
fn the_same_key_gives_the_same_job_and_costs_once() {
    let service = start(&[]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let keyed = |token: &str, key: &str, body: &Value| {
        ask(&service, token, body)
            .header("idempotency-key", key)
            .send()
    };
    let first = keyed(&token, "k 1", &quick()).ok();
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = keyed(&token, "k 1", &quick()).ok();
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.json()["job"]["id"], again.json()["job"]["id"]);
    assert_eq!(
        first.json()["images"][0]["key"],
        again.json()["images"][0]["key"]
    );
    assert_eq!(used(&service, &token, "user-hour"), 1);
    // Its links are signed afresh: once a second has passed, till a later one.
    let url = |answer: &Answer| {
        answer.json()["images"][0]["url"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let afresh = loop {
        let later = keyed(&token, "k 1", &quick()).ok();
        if url(&later) != url(&first) {
            break later;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let until = |answer: &Answer| answer.json()["images"][0]["expires_at"].clone();
    assert_ne!(until(&afresh), until(&first));
    assert_eq!(service.link(&url(&afresh)).send().status, 200);
    let mut changed = quick();
    changed["seed"] = json!(8);
    assert_eq!(
        keyed(&token, "k 1", &changed).problem(),
        (422, "idempotency_mismatch".into())
    );
    let theirs = keyed(&other, "k 1", &changed).ok();
    assert_eq!(theirs.header("idempotency-replayed"), None);
    for bad in ["", &"k".repeat(256)] {
        assert_eq!(keyed(&token, bad, &quick()).status, 400);
    }
    // A refusal is not kept: the corrected request under the same key is another one.
    let mut wrong = quick();
    wrong["steps"] = json!(0);
    assert_eq!(keyed(&token, "k 2", &wrong).status, 400);
    keyed(&token, "k 2", &quick()).ok();
}

#[test]
fn twenty_equal_requests_at_once_are_one_job() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let mut body = quick();
    body["steps"] = json!(20);
    let request = ask(&service, &token, &body).header("idempotency-key", "once");
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let request = request.clone();
            std::thread::spawn(move || request.send())
        })
        .collect();
    let answers: Vec<Answer> = threads
        .into_iter()
        .map(|one| one.join().unwrap().ok())
        .collect();
    let ids: BTreeSet<String> = answers
        .iter()
        .map(|answer| answer.json()["job"]["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(used(&service, &token, "user-hour"), 1);
    let objects = files(&service.home().path("data/objects"));
    assert_eq!(
        objects
            .iter()
            .filter(|name| name.starts_with("generated/"))
            .count(),
        1
    );
}

#[test]
fn a_client_who_left_and_cannot_return_costs_the_engine_nothing_more() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let open = ask(&service, &token, &long()).start().unwrap();
    // It has left the queue: it runs.
    while !service
        .metrics()
        .contains("signet_queue_wait_seconds_count 1")
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(open);
    while used(&service, &token, "jobs") > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    // What it held is given back a moment before it is counted.
    let cancelled = "signet_generations_total{outcome=\"cancelled\"} 1";
    while !service.metrics().contains(cancelled) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Who can come back with the key finds the job done.
    let keyed = ask(&service, &token, &quick()).header("idempotency-key", "back");
    drop(keyed.start().unwrap());
    let answer = keyed.send().ok();
    assert_eq!(answer.json()["job"]["status"], "done");
}

#[test]
fn a_job_that_cannot_be_done_before_its_deadline_is_refused_and_not_charged() {
    let service = start(&[("SIGNET_QUEUE__DEADLINE_SECONDS", "1")]);
    let token = service.token(ALL_SCOPES);
    let mut body = long();
    body["n"] = json!(4);
    body["guidance_scale"] = json!(7);
    let answer = ask(&service, &token, &body).send();
    assert_eq!(answer.problem(), (400, "over_deadline".into()));
    // It never fits, so nobody is told to come back.
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(answer.header("signet-charged"), Some("0"));
    assert_eq!(used(&service, &token, "user-hour"), 0);
    assert_eq!(used(&service, &token, "jobs"), 0);
    // What fits is made.
    ask(&service, &token, &quick()).send().ok();
}

#[test]
fn accepted_jobs_survive_a_kill_and_are_done_once() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let mut jobs: Vec<Value> = (0..3).map(|_| submit(&service, &token, &quick())).collect();
    jobs.push(submit(&service, &token, &long()));
    let keyed = |service: &Service| {
        let request = ask(service, &token, &long()).header("idempotency-key", "across");
        let answer = request.header("prefer", "respond-async").send();
        let told = String::from_utf8_lossy(&answer.body);
        assert!(
            [200, 202].contains(&answer.status),
            "{} {told}",
            answer.status
        );
        answer.json()["job"].clone()
    };
    jobs.push(keyed(&service));
    until(&service, &token, &jobs[3], &["running"]);
    let home = service.kill();
    let service = home.serve();
    // Whoever asks again with the key meets the job of before.
    assert_eq!(keyed(&service)["id"], jobs[4]["id"]);
    let mut pictures = 0;
    for job in &jobs {
        let done = until(&service, &token, job, &["done"]);
        pictures += done["images"].as_array().unwrap().len();
        for image in done["images"].as_array().unwrap() {
            let url = image["url"].as_str().unwrap();
            assert_eq!(service.link(url).send().status, 200);
        }
    }
    assert_eq!(pictures, 5);
    let objects = files(&service.home().path("data/objects"));
    let stored = objects.iter().filter(|name| name.starts_with("generated/"));
    assert_eq!(stored.count(), pictures, "no job was done twice");
}

#[test]
fn killed_after_storing_the_job_is_done_and_not_done_again() {
    let home = home(&[("SIGNET_TEST_PAUSE_AT", "stored")]);
    let service = home.serve();
    let token = service.token(ALL_SCOPES);
    let job = submit(&service, &token, &quick());
    while !service.log().contains("paused for a test") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut home = service.kill();
    home.set("SIGNET_TEST_PAUSE_AT", "nowhere");
    let before = files(&home.path("data/objects"));
    let service = home.serve();
    let done = state(&service, &token, &job);
    assert_eq!(done["job"]["status"], "done");
    assert_eq!(done["images"].as_array().unwrap().len(), 1);
    assert_eq!(files(&service.home().path("data/objects")), before);
}

#[test]
fn told_to_stop_the_service_hands_back_what_waits() {
    let service = start(&[("SIGNET_QUEUE__MAX_BATCH", "2")]);
    let token = service.token(ALL_SCOPES);
    let running = submit(&service, &token, &long());
    until(&service, &token, &running, &["running"]);
    let waiting = submit(&service, &token, &quick());
    // Who waits without a way to come back is told at once.
    let request = ask(&service, &token, &long());
    let reader = std::thread::spawn(move || request.send());
    while used(&service, &token, "jobs") < 3 {
        std::thread::sleep(Duration::from_millis(10));
    }
    service.signal("TERM");
    assert_eq!(reader.join().unwrap().problem(), (503, "stopping".into()));
    let (status, home) = service.ended();
    assert!(status.success());
    let service = home.serve();
    for job in [&running, &waiting] {
        until(&service, &token, job, &["done"]);
    }
}

#[test]
fn positions_are_true() {
    let service = start(&[("SIGNET_QUEUE__MAX_BATCH", "2")]);
    let token = service.token(ALL_SCOPES);
    let mut body = long();
    body["n"] = json!(4);
    let running = submit(&service, &token, &body);
    until(&service, &token, &running, &["running"]);
    let waiting: Vec<Value> = (0..3).map(|_| submit(&service, &token, &long())).collect();
    let places: Vec<Value> = waiting
        .iter()
        .map(|job| state(&service, &token, job)["job"]["queue_position"].clone())
        .collect();
    assert_eq!(places, [json!(0), json!(1), json!(2)]);
    let gone = service.delete(&path(&waiting[0])).token(&token);
    gone.send().ok();
    let place = state(&service, &token, &waiting[2])["job"]["queue_position"].clone();
    assert_eq!(place, json!(1));
}

/// At once, on the way, at the end and from the same key again; and of a prompt that is read whole, nothing.
#[test]
fn a_prompt_that_the_model_read_in_part_is_told_wherever_the_job_is() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let long_prompt = "red ".repeat(100);
    let told =
        json!([{ "field": "prompt", "tokens": 100, "used_tokens": 75, "used_characters": 299 }]);
    let mut job = quick();
    job["prompt"] = json!(long_prompt);
    let keyed = || {
        let answer = ask(&service, &token, &job).header("idempotency-key", "cut");
        answer.send().ok().json()
    };
    let first = keyed();
    assert_eq!(first["job"]["truncated"], told);
    assert_eq!(keyed()["job"]["truncated"], told);
    let get = |job: &Value| service.get(&path(job)).token(&token).send().ok().json();
    assert_eq!(get(&first["job"])["job"]["truncated"], told);
    let whole = service.generate(&token, &quick()).ok().json();
    assert_eq!(whole["job"]["truncated"], Value::Null);

    // A job that is under way, with a negative prompt that counts.
    let mut slow = long();
    slow["guidance_scale"] = json!(2);
    slow["negative_prompt"] = json!(long_prompt);
    let under_way = submit(&service, &token, &slow);
    assert_eq!(under_way["truncated"][0]["field"], "negative_prompt");
    assert_eq!(get(&under_way)["job"]["truncated"], under_way["truncated"]);
    let cancelled = service.delete(&path(&under_way)).token(&token).send().ok();
    assert_eq!(cancelled.json()["job"]["truncated"], under_way["truncated"]);
    // Numbers, and nothing of the prompt.
    assert!(!service.log().contains("red red"));
}

/// What a reader who was told this id gets: the answer's head, and lines until the stream ends.
fn told_after(
    service: &Service,
    token: &str,
    job: &Value,
    id: Option<&str>,
) -> (String, Vec<String>) {
    let mut request = service.get(&format!("{}/events", path(job))).token(token);
    if let Some(id) = id {
        request = request.header("last-event-id", id);
    }
    let mut lines = BufReader::new(request.start().unwrap())
        .lines()
        .map_while(Result::ok);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    (head.join("\n"), lines.collect())
}

#[test]
fn a_returning_reader_hears_what_it_does_not_know_and_after_the_end_that_there_is_no_more() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let job = submit(&service, &token, &long());
    let (head, lines) = told_after(&service, &token, &job, None);
    for line in [
        "HTTP/1.1 200 OK",
        "content-type: text/event-stream",
        "cache-control: no-store, no-transform",
        "x-accel-buffering: no",
    ] {
        assert!(head.lines().any(|one| one == line), "{line}: {head}");
    }
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert!(lines.iter().any(|line| line == ":"), "opened by a comment");
    assert_eq!(count("event: "), count("id: "), "each event has an id");
    let last = lines.iter().rfind(|line| line.starts_with("id: ")).unwrap();
    assert_eq!(last, "id: end");
    // Ended: who comes anew, or knows less, is told the end; who knows it is told to stay away.
    for known in [None, Some("step-3"), Some("nonsense")] {
        let (head, lines) = told_after(&service, &token, &job, known);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(lines.iter().any(|line| line == "id: end"), "{known:?}");
    }
    let (head, _) = told_after(&service, &token, &job, Some("end"));
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let absent = json!({ "id": "00000000-0000-7000-8000-000000000000" });
    let (head, _) = told_after(&service, &token, &absent, Some("end"));
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[test]
fn a_request_written_otherwise_is_the_same_request_under_its_key() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let keyed = |body: &str| {
        let request = service.post("/api/generate").token(&token);
        let request = request.header("idempotency-key", "k");
        request.body("application/json", body).send()
    };
    let first = keyed(r#"{"prompt":"a heart","steps":1,"guidance_scale":1,"seed":7}"#).ok();
    for same in [
        r#"{"seed":7,"guidance_scale":1,"steps":1,"prompt":"a heart"}"#,
        "{ \"prompt\": \"\\u0061 heart\",\n\"steps\": 1.0, \"guidance_scale\": 1.0, \"seed\": 7, \"model\": null }",
    ] {
        let again = keyed(same).ok();
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{same}");
        assert_eq!(again.json()["job"]["id"], first.json()["job"]["id"]);
    }
    let other = keyed(r#"{"prompt":"a heart","steps":2,"guidance_scale":1,"seed":7}"#);
    assert_eq!(other.problem(), (422, "idempotency_mismatch".into()));
}

#[test]
fn whole_floats_are_integers_and_a_seed_of_minus_one_is_a_random_one() {
    let service = start(&[]);
    let token = service.token(ALL_SCOPES);
    let seeds: BTreeSet<u64> = (0..3)
        .map(|_| {
            let body =
                json!({ "prompt": "x", "steps": 1.0, "guidance_scale": 1.0, "seed": -1, "n": 1.0 });
            let answer = ask(&service, &token, &body).send().ok().json();
            answer["images"][0]["seed"].as_u64().unwrap()
        })
        .collect();
    assert!(seeds.len() > 1, "{seeds:?}");
}
