//! Several models side by side, coming, changing and going while the service runs.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Home, Service};

pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/engine/model")
}

/// A service over a folder with `names`; a model called `damaged` lacks half its denoiser.
fn serve(names: &[&str]) -> Service {
    let mut home = Home::new(&[]);
    let folder = home.path("models");
    for name in names {
        copy_tree(&golden(), &folder.join(name));
    }
    let file = folder.join("damaged/unet/model.onnx");
    if let Ok(bytes) = std::fs::read(&file) {
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
    home.set("SIGNET_INFER__MODELS", &json!([folder]).to_string());
    home.serve()
}

fn admin(service: &Service, token: &str, method: &str, target: &str) -> Answer {
    Request::new(service.operator, method, target)
        .token(token)
        .send()
}

fn names(list: &Value) -> Vec<String> {
    let name = |model: &Value| {
        let name = model.get("name").unwrap_or(model);
        name.as_str().unwrap().to_owned()
    };
    list.as_array().unwrap().iter().map(name).collect()
}

fn wish(model: &str, steps: usize) -> Value {
    json!({ "prompt": "x", "model": model, "steps": steps, "guidance_scale": 1, "seed": 1 })
}

#[test]
fn models_are_loaded_and_unloaded_without_a_restart_and_damaged_ones_named() {
    let service = serve(&["one", "damaged"]);
    let operator = service.token("admin");
    let token = service.token(ALL_SCOPES);
    let listed = admin(&service, &operator, "GET", "/admin/models")
        .ok()
        .json();
    assert_eq!(names(&listed["models"]), ["one"]);
    let refused = &listed["refused"][0];
    assert_eq!(refused["code"], "model_broken");
    assert!(refused["folder"].as_str().unwrap().ends_with("/damaged"));
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("unet/model.onnx")
    );
    assert!(service.log().contains("a model was refused"));
    service.generate(&token, &wish("one", 1)).ok();
    assert_eq!(
        service.generate(&token, &wish("two", 1)).problem(),
        (404, "unknown_model".into())
    );

    let folder = service.home().path("models");
    copy_tree(&golden(), &folder.join("two"));
    copy_tree(&golden(), &folder.join("damaged"));
    let changes = admin(&service, &operator, "POST", "/admin/models/reload");
    let changes = changes.ok().json();
    assert_eq!(names(&changes["loaded"]), ["damaged", "two"]);
    assert_eq!(names(&changes["kept"]), ["one"]);
    assert_eq!(changes["refused"], json!([]));
    for model in ["one", "two", "damaged"] {
        service.generate(&token, &wish(model, 1)).ok();
    }

    assert_eq!(
        admin(&service, &operator, "DELETE", "/admin/models/two").status,
        204
    );
    assert_eq!(
        service.generate(&token, &wish("two", 1)).problem(),
        (404, "unknown_model".into())
    );
    assert_eq!(
        admin(&service, &operator, "DELETE", "/admin/models/two").problem(),
        (404, "unknown_model".into())
    );
    let _ = admin(&service, &operator, "DELETE", "/admin/models/damaged");
    assert_eq!(
        admin(&service, &operator, "DELETE", "/admin/models/one").problem(),
        (409, "last_model".into())
    );
    service.generate(&token, &wish("one", 1)).ok();
}

#[test]
fn a_hangup_reads_the_models_anew() {
    let service = serve(&["one"]);
    let operator = service.token("admin");
    copy_tree(&golden(), &service.home().path("models/two"));
    service.signal("HUP");
    // Loading takes a moment; the test's own runner bounds the wait.
    loop {
        let listed = admin(&service, &operator, "GET", "/admin/models")
            .ok()
            .json();
        if names(&listed["models"]) == ["one", "two"] {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let token = service.token(ALL_SCOPES);
    service.generate(&token, &wish("two", 1)).ok();
}

#[test]
fn a_job_of_an_unloaded_model_that_runs_finishes_and_one_that_waits_fails_clearly() {
    let service = serve(&["one", "two"]);
    let operator = service.token("admin");
    let token = service.token(ALL_SCOPES);
    let start = |steps: usize| {
        let request = service.post("/api/generate").token(&token);
        let request = request.header("prefer", "respond-async");
        let body = json!({ "prompt": "x", "model": "two", "steps": steps, "seed": 1, "n": 4 });
        let job = request.json(&body).send().ok().json();
        job["job"]["id"].as_str().unwrap().to_owned()
    };
    // With guidance each of these fills the call, so all but the first wait.
    let jobs: Vec<String> = (0..8).map(|_| start(100)).collect();
    let state = |id: &str| {
        let answer = service.get(&format!("/api/jobs/{id}")).token(&token).send();
        answer.ok().json()["job"].clone()
    };
    while state(&jobs[0])["status"] == "queued" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let waiting = jobs.iter().filter(|id| state(id)["status"] == "queued");
    let waiting = waiting.count();
    assert_eq!(
        admin(&service, &operator, "DELETE", "/admin/models/two").status,
        204
    );
    assert!(waiting > 0, "no job waits");
    let ends: Vec<Value> = jobs
        .iter()
        .map(|id| {
            loop {
                let job = state(id);
                if ["done", "failed"].contains(&job["status"].as_str().unwrap()) {
                    break job;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        })
        .collect();
    assert_eq!(ends[0]["status"], "done", "{ends:?}");
    let failed: Vec<_> = ends
        .iter()
        .filter(|end| end["status"] == "failed")
        .collect();
    assert!(!failed.is_empty(), "{ends:?}");
    for end in failed {
        assert_eq!(end["error"]["code"], "unknown_model");
    }
}

#[test]
fn models_are_for_operators_only() {
    let service = serve(&["one"]);
    let token = service.token(ALL_SCOPES);
    let operator = service.token("admin");
    for (method, target) in [
        ("GET", "/admin/models"),
        ("POST", "/admin/models/reload"),
        ("DELETE", "/admin/models/one"),
    ] {
        let nobody = Request::new(service.operator, method, target).send();
        assert_eq!(nobody.problem(), (401, "unauthorized".into()));
        assert_eq!(
            admin(&service, &token, method, target).problem(),
            (403, "insufficient_scope".into())
        );
        let outside = Request::new(service.public, method, target);
        assert_eq!(outside.token(&operator).send().status, 404);
    }
}
