//! Each target for a few seconds, from another number each time, so that a year of runs is not one run.

use std::process::Command;

fn briefly(program: &str) {
    let run = Command::new(program)
        .args(["--seconds", "5", "--seed", &std::process::id().to_string()])
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&run.stdout));
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn links() {
    briefly(env!("CARGO_BIN_EXE_link"));
}

#[test]
fn referers() {
    briefly(env!("CARGO_BIN_EXE_referer"));
}

#[test]
fn edge_signatures() {
    briefly(env!("CARGO_BIN_EXE_edge_auth"));
}

#[test]
fn object_keys() {
    briefly(env!("CARGO_BIN_EXE_object_key"));
}

#[test]
fn uploads() {
    briefly(env!("CARGO_BIN_EXE_upload"));
}
