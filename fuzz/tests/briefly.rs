//! Each target for a few seconds, from another number each time, so that a year of runs is not one run.

use std::process::Command;

fn briefly(program: &str) -> std::io::Result<()> {
    let run = Command::new(program)
        .args(["--seconds", "5", "--seed", &std::process::id().to_string()])
        .output()?;
    println!("{}", String::from_utf8_lossy(&run.stdout));
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    Ok(())
}

#[test]
fn links() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_link"))
}

#[test]
fn jpegs() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_jpeg"))
}

#[test]
fn referers() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_referer"))
}

#[test]
fn edge_signatures() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_edge_auth"))
}

#[test]
fn access_tokens() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_access_token"))
}

#[test]
fn object_keys() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_object_key"))
}

#[test]
fn revocations() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_revocation"))
}

#[test]
fn traceparents() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_traceparent"))
}

#[test]
fn uploads() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_upload"))
}

#[test]
fn provider_answers() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_provider"))
}

#[test]
fn json_bodies() -> std::io::Result<()> {
    briefly(env!("CARGO_BIN_EXE_json"))
}
