//! The disk under the state: read-only, or full. Clear errors, nobody spends, nothing is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{ALL_SCOPES, Home, Service, quick};

/// A small disk of its own, gone with the test.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path, size: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size},mode=700");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder));
        Self(folder.into())
    }

    fn read_only(&self) {
        run(Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    let is_done = command.status().is_ok_and(|status| status.success());
    assert!(is_done, "this test mounts a small disk: run it as root");
}

/// State on a disk of its own, pictures elsewhere.
fn home() -> Home {
    Home::new(&[
        ("SIGNET_AUTH__ISSUER", "https://issuer.example"),
        ("SIGNET_STATE__FILE", "disk/signet.sqlite"),
    ])
}

fn listed(service: &Service, token: &str) -> usize {
    let page = service.get("/api/images").token(token).send().ok().json();
    page["images"].as_array().unwrap().len()
}

fn used(service: &Service, token: &str, policy: &str) -> u64 {
    let usage = service.get("/api/usage").token(token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap().clone();
    rows.iter().find(|row| row["policy"] == policy).unwrap()["used"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_full_disk_lets_nobody_spend_and_forgets_nothing() {
    let home = home();
    let disk = Disk::mount(&home.path("disk"), "1m");
    let service = home.serve();
    let token = service.token(ALL_SCOPES);
    service.picture(&token);
    let filler = disk.0.join("filler");
    // To the last byte; the write-ahead log may hold a little room of its own, which a few requests use up.
    let _ = std::fs::write(&filler, vec![1u8; 1 << 20]);
    let refused = (0..200)
        .map(|_| service.generate(&token, &quick()))
        .find(|answer| answer.status != 200)
        .expect("a full disk is noticed");
    assert_eq!(refused.problem(), (507, "state_full".into()));
    let (there, charged) = (
        listed(&service, &token),
        used(&service, &token, "user-hour"),
    );
    assert_eq!(charged, there as u64, "each charge is a picture's");
    assert_eq!(
        service.generate(&token, &quick()).problem(),
        (507, "state_full".into())
    );
    assert_eq!(
        used(&service, &token, "user-hour"),
        charged,
        "a refusal charges nothing"
    );
    assert_eq!(used(&service, &token, "jobs"), 0);
    std::fs::remove_file(&filler).unwrap();
    service.generate(&token, &quick()).ok();
    let service = service.kill().serve();
    assert_eq!(listed(&service, &token), there + 1);
    let home = service.kill();
    drop(disk);
    drop(home);
}

#[test]
fn a_read_only_state_is_named_before_anything_is_bound() {
    let home = home();
    let disk = Disk::mount(&home.path("disk"), "4m");
    // Once made, and then the disk is mounted read-only.
    home.succeed(&["client", "add", "--name", "x", "--scopes", "images:read"]);
    disk.read_only();
    let output = home.run(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(told.contains("signet.sqlite"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    assert!(!home.path("ready.json").exists());
    drop(disk);
}
