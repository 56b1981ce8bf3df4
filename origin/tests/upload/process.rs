//! A decoder that dies, hangs or lies is an error of its own upload, and nobody else's.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use origin::upload::{Isolation, UploadSettings, Uploads};
use tempfile::TempDir;

use crate::files::png;
use crate::support::settings;

/// Uploads whose decoder is this shell script.
fn decoder(script: &str) -> (Uploads, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("decoder");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let settings = UploadSettings {
        worker: Some(path),
        process_ms: 2_000,
        ..settings()
    };
    (Uploads::new(settings).unwrap(), folder)
}

#[tokio::test]
async fn the_end_of_a_decoder_tells_its_cause() {
    for (script, code) in [
        ("exit 101", "damaged_image"),
        ("kill -SEGV $$", "damaged_image"),
        ("kill -SYS $$", "damaged_image"),
        ("kill -ABRT $$", "image_needs_too_much_memory"),
        ("kill -KILL $$", "image_needs_too_much_memory"),
        ("kill -XCPU $$", "image_takes_too_long"),
        ("exec sleep 60", "image_takes_too_long"),
        ("exec cat /dev/zero", "damaged_image"),
        ("exit 70", "internal_error"),
        ("exit 1", "internal_error"),
        ("echo nonsense", "internal_error"),
        (
            "cat >/dev/null; echo '{\"Ok\":{\"size\":[1,1],\"length\":9}}'",
            "internal_error",
        ),
        (
            "cat >/dev/null; echo '{\"Err\":\"Damaged\"}'",
            "damaged_image",
        ),
    ] {
        let (uploads, _folder) = decoder(script);
        let error = uploads.sanitise(png(10, 10).into()).await.unwrap_err();
        assert_eq!(error.code(), code, "{script}: {error:?}");
    }
}

#[test]
fn the_decoder_stands_behind_its_walls_before_it_reads_the_file() {
    let order = serde_json::json!({
        "limits": {}, "length": 10, "memory": 64 << 20, "seconds": 7,
    });
    let mut decoder = Command::new(env!("CARGO_BIN_EXE_signet"))
        .args(["sanitise-worker", &order.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let of = |file| std::fs::read_to_string(format!("/proc/{}/{file}", decoder.id())).unwrap();
    // It waits for a file that does not come; one without walls is given up.
    let mut status = String::new();
    for _ in 0..3_000 {
        status = of("status");
        if status.contains("Seccomp:\t2") || status.contains("State:\tZ") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let limits = of("limits");
    drop(decoder.stdin.take());
    decoder.wait().unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let soft = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(soft("Max cpu time"), "7", "{limits}");
    assert_eq!(soft("Max open files"), "0", "{limits}");
    assert_ne!(soft("Max data size"), "unlimited", "{limits}");
}

#[tokio::test]
async fn a_missing_decoder_is_our_own_error() {
    let settings = UploadSettings {
        worker: Some("/nonexistent".into()),
        ..settings()
    };
    let error = Uploads::new(settings)
        .unwrap()
        .sanitise(png(10, 10).into())
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.status()), ("internal_error", 500));
}

#[tokio::test]
async fn who_waits_too_long_for_memory_is_told_to_come_back() {
    let (uploads, _folder) = decoder("exec sleep 60");
    let settings = UploadSettings {
        memory_mib: 64,
        parallel: 1,
        wait_seconds: 1,
        process_ms: 20_000,
        ..uploads.settings().clone()
    };
    let uploads = Uploads::new(settings).unwrap();
    let first = uploads.sanitise(png(10, 10).into());
    let second = uploads.sanitise(png(10, 10).into());
    // The first holds the only turn; the second gives up after its second.
    let (first, second) = futures_util::future::select(Box::pin(first), Box::pin(second))
        .await
        .factor_first();
    assert_eq!(first.unwrap_err().code(), "uploads_busy");
    drop(second);
}

#[tokio::test]
async fn a_picture_that_needs_more_than_the_whole_budget_is_refused() {
    let settings = UploadSettings {
        memory_mib: 64,
        ..settings()
    };
    let uploads = Uploads::new(settings).unwrap();
    let file = crate::files::flat_png(4000, 4000, 2, 1);
    assert_eq!(
        uploads.sanitise(file.into()).await.unwrap_err().code(),
        "image_needs_too_much_memory"
    );
}

#[tokio::test]
async fn the_thread_mode_gives_the_same_pictures() {
    let settings = UploadSettings {
        isolation: Isolation::Thread,
        ..settings()
    };
    let thread = Uploads::new(settings)
        .unwrap()
        .sanitise(png(50, 40).into())
        .await
        .unwrap();
    assert_eq!(thread, crate::support::sanitise(png(50, 40)).await.unwrap());
}
