//! A real redis-server for tests, of the library and of the program.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server on a socket of its own, ended with the test.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub child: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        let mut server = Self {
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        server.again();
        server
    }

    pub fn socket(&self) -> String {
        self.folder.path().join("s").display().to_string()
    }

    /// Starts it, with what it had written to its log of appends.
    pub fn again(&mut self) {
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

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-s", &self.socket()])
            .args(command)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What `state.url` names it by.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
