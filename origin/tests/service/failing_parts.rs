//! A store, a disk or a model that fails: a clear answer, nothing listed, nothing charged.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::http::Request;
use crate::program::{ALL_SCOPES, Home, Service, quick};

/// What ran is paid all the same.
fn nothing_is_stored(service: &Service, token: &str) {
    let listed = service.get("/api/images").token(token).send().ok().json();
    assert_eq!(listed["images"].as_array().unwrap().len(), 0);
    let usage = service.get("/api/usage").token(token).send().ok().json();
    for row in usage["limits"].as_array().unwrap() {
        match row["policy"].as_str().unwrap() {
            "jobs" | "storage" => assert_eq!(row["used"], 0, "{row}"),
            "user-hour" | "units-day" => assert_eq!(row["used"], 1, "{row}"),
            _ => {}
        }
    }
}

#[test]
fn a_store_that_cannot_be_reached_is_a_503_with_a_logged_cause() {
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let service = Service::start(&[
        ("SIGNET_STORAGE__KIND", "s3"),
        (
            "SIGNET_STORAGE__S3__ENDPOINT",
            &format!("http://127.0.0.1:{port}"),
        ),
        ("SIGNET_STORAGE__S3__BUCKET", "signet"),
        ("SIGNET_STORAGE__S3__ACCESS_KEY_ID", "id"),
        (
            "SIGNET_STORAGE__S3__SECRET_ACCESS_KEY",
            "a secret of some length",
        ),
        ("SIGNET_STORAGE__S3__MAX_ATTEMPTS", "1"),
    ]);
    let token = service.token(ALL_SCOPES);
    let answer = service.generate(&token, &quick());
    assert_eq!(answer.problem(), (503, "store_unavailable".into()));
    assert!(answer.header("retry-after").is_some());
    assert!(service.log().contains("unreachable"));
    assert!(!service.log().contains("a secret of some length"));
    let ready = Request::new(service.operator, "GET", "/readyz").send();
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["store"], "unreachable");
    assert_eq!(
        Request::new(service.operator, "GET", "/healthz")
            .send()
            .status,
        200
    );
    let listed = service.get("/api/images").token(&token).send().ok().json();
    assert_eq!(listed["images"].as_array().unwrap().len(), 0);
}

#[test]
fn a_full_disk_is_a_507_and_leaves_no_partial_object() {
    let home = Home::new(&[]);
    let folder = home.path("data/objects");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    // The disk of the store is full from the start; the state lies on another one.
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs"])
        .arg(&folder)
        .status();
    assert!(
        mounted.is_ok_and(|status| status.success()),
        "this test mounts a small disk: run it as root"
    );
    let unmount = Unmount(folder.clone());
    let filler = folder.join("filler");
    let _ = std::fs::write(&filler, vec![1u8; 16 * 1024]);
    let service = home.serve();
    let token = service.token(ALL_SCOPES);
    let answer = service.generate(&token, &quick());
    assert_eq!(answer.problem(), (507, "store_full".into()));
    nothing_is_stored(&service, &token);
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(
        service.generate(&token, &quick()).status,
        200,
        "room again, and it works again"
    );
    let home = service.kill();
    drop(unmount);
    drop(home);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_missing_model_or_a_broken_one_is_told_before_anything_is_bound() {
    let empty = tempfile::tempdir().unwrap();
    let missing = Home::new(&[("SIGNET_INFER__MODELS", "[\"/nowhere/model\"]")]);
    let output = missing.run(&["serve"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/model"));
    assert!(!missing.path("ready.json").exists());
    let hollow = Home::new(&[("SIGNET_INFER__MODELS", &format!("[{:?}]", empty.path()))]);
    let output = hollow.run(&["serve"]);
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn the_program_makes_a_picture_without_server_state_or_keys() {
    let home = Home::new(&[]);
    for (file, kind) in [
        ("heart.png", image::ImageFormat::Png),
        ("heart.webp", image::ImageFormat::WebP),
    ] {
        home.succeed(&[
            "generate",
            "a purple heart",
            "-o",
            file,
            "--seed",
            "7",
            "--steps",
            "1",
        ]);
        let bytes = std::fs::read(home.path(file)).unwrap();
        assert_eq!(image::guess_format(&bytes).unwrap(), kind);
    }
    assert!(!home.path("data").exists());
    let output = home.run(&["generate", "x", "-o", "x.gif"]);
    assert!(!output.status.success() && !home.path("x.gif").exists());
}
