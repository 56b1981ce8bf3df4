//! A real redis-server for tests.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::state::StateSettings;

/// A server on a socket of its own, ended with the test.
pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) child: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut server = Self {
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        server.again();
        server
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("s").display().to_string()
    }

    /// Starts it, with what it had written to its log of appends.
    pub(crate) fn again(&mut self) {
        let arguments = [
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        let child = Command::new("redis-server")
            .args(arguments)
            .args(["--unixsocket", &self.socket()])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        while self.ask(&["PING"]) != "PONG" {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-s", &self.socket()])
            .args(command)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The section that names it.
    pub(crate) fn settings(&self) -> StateSettings {
        StateSettings {
            url: format!("unix://{}", self.socket()),
            // A busy machine must not look like a server that is away.
            timeout_ms: 2_000,
            ..StateSettings::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
