//! The program in a folder of its own, ended with the test.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, Request};

const BIN: &str = env!("CARGO_BIN_EXE_signet");

/// Every scope but `admin`.
pub const ALL_SCOPES: &str = "images:generate images:read images:write uploads:write billing:read";

/// A folder with a configuration made of variables, in which commands run.
pub struct Home {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    /// The defaults, but for free ports, the tiny random model and limits that no test meets by accident.
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/engine/model");
        let mut home = Self {
            folder,
            variables: Vec::new(),
        };
        home.set("SIGNET_SERVER__BIND", "127.0.0.1:0");
        home.set("SIGNET_SERVER__OPERATOR_BIND", "127.0.0.1:0");
        home.set("SIGNET_IMAGES__BIND", "127.0.0.1:0");
        home.set("SIGNET_SERVER__READY_FILE", "ready.json");
        home.set("SIGNET_INFER__MODELS", &json!([model]).to_string());
        home.set("SIGNET_INFER__DEVICE", "cpu");
        home.set("SIGNET_INFER__THREADS", "1");
        // Marks hold the time and random salts, and some tests compare files.
        home.set("SIGNET_PROVENANCE__ENABLED", "false");
        home.set("SIGNET_LIMITS__ADDRESS__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__TOKEN__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__TOKEN_ENDPOINT__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__READS__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__WRITES__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__PENALTY_ARRIVALS", "100000");
        for (name, value) in variables {
            home.set(name, value);
        }
        home
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.into(), value.into()));
    }

    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BIN);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .stdin(Stdio::null());
        // Where the ONNX Runtime library may lie.
        for name in [
            "HOME",
            "PATH",
            "SIGNET_CACHE",
            "XDG_CACHE_HOME",
            "ORT_DYLIB_PATH",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; its standard output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the service and waits until it is ready.
    pub fn serve(self) -> Service {
        let _ = std::fs::remove_file(self.path("ready.json"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut child = self
            .command(&["serve"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready = loop {
            if let Some(text) = std::fs::read(self.path("ready.json"))
                .ok()
                .filter(|text| !text.is_empty())
            {
                break serde_json::from_slice::<Value>(&text).unwrap();
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "signet serve ended ({status}): {}",
                    std::fs::read_to_string(self.path("log")).unwrap()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let address = |name: &str| ready[name].as_str().and_then(|text| text.parse().ok());
        Service {
            public: address("public").unwrap(),
            images: address("images"),
            operator: address("operator").unwrap(),
            child,
            home: Some(self),
        }
    }
}

/// A running service; killed when dropped.
pub struct Service {
    pub public: SocketAddr,
    pub images: Option<SocketAddr>,
    pub operator: SocketAddr,
    child: Child,
    home: Option<Home>,
}

impl Service {
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Home::new(variables).serve()
    }

    pub fn home(&self) -> &Home {
        self.home.as_ref().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home().path("log")).unwrap()
    }

    /// Ends the process as `kill -9` does; what it left behind.
    pub fn kill(mut self) -> Home {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.home.take().unwrap()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub fn ended(mut self) -> (ExitStatus, Home) {
        let status = self.child.wait().unwrap();
        (status, self.home.take().unwrap())
    }

    /// A new client of a user of its own.
    pub fn client(&self, scopes: &str) -> Client {
        self.client_of(None, scopes)
    }

    pub fn client_of(&self, user: Option<&str>, scopes: &str) -> Client {
        let mut arguments = vec![
            "client", "add", "--name", "test", "--scopes", scopes, "--json",
        ];
        arguments.extend(user.iter().flat_map(|user| ["--user", user]));
        let added: Value = serde_json::from_str(&self.home().succeed(&arguments)).unwrap();
        let text = |name: &str| added[name].as_str().unwrap().to_owned();
        Client {
            id: text("client_id"),
            secret: text("client_secret"),
            user: text("user_id"),
        }
    }

    /// An access token of a new client, with these scopes.
    pub fn token(&self, scopes: &str) -> String {
        self.token_of(&self.client(scopes))
    }

    pub fn token_of(&self, client: &Client) -> String {
        let answer = self.ask_token(&client.form()).ok();
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub fn ask_token(&self, form: &str) -> Answer {
        self.post("/oauth/token")
            .body("application/x-www-form-urlencoded", form)
            .send()
    }

    pub fn get(&self, target: &str) -> Request {
        Request::new(self.public, "GET", target)
    }

    pub fn post(&self, target: &str) -> Request {
        Request::new(self.public, "POST", target)
    }

    pub fn delete(&self, target: &str) -> Request {
        Request::new(self.public, "DELETE", target)
    }

    /// Generates as the caller; the whole answer.
    pub fn generate(&self, token: &str, body: &Value) -> Answer {
        self.post("/api/generate").token(token).json(body).send()
    }

    /// Generates one small picture quickly; its entry in the answer.
    pub fn picture(&self, token: &str) -> Value {
        self.generate(token, &quick()).ok().json()["images"][0].clone()
    }

    /// A request for a signed link, as somebody who was given it sends it.
    pub fn link(&self, url: &str) -> Request {
        let images = self.images.unwrap();
        let target = url
            .strip_prefix(&format!("http://localhost:{}", images.port()))
            .unwrap();
        Request::new(images, "GET", target).host(Some(&format!("localhost:{}", images.port())))
    }

    pub fn metrics(&self) -> String {
        String::from_utf8(
            Request::new(self.operator, "GET", "/metrics")
                .send()
                .ok()
                .body,
        )
        .unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registered client.
pub struct Client {
    pub id: String,
    pub secret: String,
    pub user: String,
}

impl Client {
    pub fn form(&self) -> String {
        format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            self.id, self.secret
        )
    }
}

/// The smallest job worth making.
pub fn quick() -> Value {
    json!({ "prompt": "a purple heart", "steps": 1, "guidance_scale": 1, "seed": 7 })
}

/// Files under a folder, as paths relative to it.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(
                    entry
                        .path()
                        .strip_prefix(folder)
                        .unwrap()
                        .display()
                        .to_string(),
                );
            }
        }
    }
    found.sort();
    found
}
