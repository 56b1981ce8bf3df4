//! What the engine's bounds and its thread mean to a client.

use std::path::Path;

use serde_json::{Value, json};

use crate::models::copy_tree;
use crate::program::{ALL_SCOPES, Home, Service};

#[test]
fn a_picture_that_never_fits_the_memory_budget_is_refused_and_costs_nothing() {
    // One picture of the tiny model's size without guidance, and no more.
    let service = Service::start(&[("SIGNET_QUEUE__BATCH_PIXELS", "4096")]);
    let token = service.token(ALL_SCOPES);
    let wish = |guidance: f32| json!({ "prompt": "x", "steps": 1, "guidance_scale": guidance });
    let refused = service.generate(&token, &wish(5.0));
    assert_eq!(refused.problem(), (400, "too_large".into()));
    assert_eq!(refused.header("signet-charged"), Some("0"));
    let usage = service.get("/api/usage").token(&token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap();
    let row = rows.iter().find(|row| row["policy"] == "user-hour");
    assert_eq!(row.unwrap()["used"], 0);
    service.generate(&token, &wish(1.0)).ok();
}

#[test]
fn a_picture_beyond_the_bytes_of_the_device_is_refused_and_a_smaller_one_is_made() {
    let service = Service::start(&[("SIGNET_INFER__MEMORY_MIB", "8")]);
    let token = service.token(ALL_SCOPES);
    let wish = |side: u32| json!({ "prompt": "x", "steps": 1, "width": side, "height": side });
    let refused = service.generate(&token, &wish(128));
    assert_eq!(refused.problem(), (400, "too_large".into()));
    assert_eq!(refused.header("signet-charged"), Some("0"));
    service.generate(&token, &wish(64)).ok();
}

#[test]
fn numbers_that_are_no_picture_fail_their_job_alone_by_name_and_cost_what_ran() {
    // A model whose decoder is given latents divided by next to nothing.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/engine/model");
    let mut home = Home::new(&[]);
    let broken = home.path("models/broken");
    copy_tree(&golden, &broken);
    let file = broken.join("vae_decoder/config.json");
    let config = std::fs::read_to_string(&file).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["scaling_factor"] = json!(1e-40);
    std::fs::write(&file, config.to_string()).unwrap();
    let models = json!([golden, broken]).to_string();
    home.set("SIGNET_INFER__MODELS", &models);
    let service = home.serve();
    let token = service.token(ALL_SCOPES);
    let wish = |model: &str| json!({ "prompt": "x", "model": model, "steps": 100, "seed": 1 });
    let start = |model: &str| {
        let request = service.post("/api/generate").token(&token);
        let request = request.header("prefer", "respond-async");
        let job = request.json(&wish(model)).send().ok().json();
        job["job"]["id"].as_str().unwrap().to_owned()
    };
    let before = start("model");
    let failed = service.generate(&token, &wish("broken"));
    assert_eq!(failed.problem(), (500, "not_finite".into()));
    let picture = service.generate(&token, &wish("model")).ok().json();
    let state = |id: &str| {
        let answer = service.get(&format!("/api/jobs/{id}")).token(&token).send();
        answer.ok().json()
    };
    while state(&before)["job"]["status"] != "done" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(picture["images"].as_array().unwrap().len(), 1);
    let usage = service.get("/api/usage").token(&token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap();
    let row = rows.iter().find(|row| row["policy"] == "user-hour");
    assert_eq!(row.unwrap()["used"], 3);
}

#[test]
fn steps_go_on_while_another_jobs_pictures_are_being_stored() {
    // Every job stops for ever once its pictures are encoded and its rows reserved.
    let service = Service::start(&[("SIGNET_TEST_PAUSE_AT", "reserved")]);
    let token = service.token(ALL_SCOPES);
    let start = |steps: usize| {
        let request = service.post("/api/generate").token(&token);
        let request = request.header("prefer", "respond-async");
        let body = json!({ "prompt": "x", "steps": steps, "guidance_scale": 1, "seed": 1 });
        let job = request.json(&body).send().ok().json();
        job["job"]["id"].as_str().unwrap().to_owned()
    };
    let state = |id: &str| -> Value {
        let answer = service.get(&format!("/api/jobs/{id}")).token(&token).send();
        answer.ok().json()["job"].clone()
    };
    let first = start(1);
    while !service.log().contains("paused for a test") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let second = start(100);
    // It takes all its steps, and then its own pictures are being stored.
    let all_taken = || {
        let job = state(&second);
        job["status"] == "running" && (job["step"].is_null() || job["step"] == 100)
    };
    while !all_taken() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(state(&first)["status"], "running");
}
