//! A small stand-in for the edge, real enough for a service that trusts nobody else: it signs what it passes on, bounds
//! bodies and keeps an access log. A test bends what passes through it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use shared::edge_auth::{self, HEADERS, Message};
use shared::keyring::Keyring;

use crate::http::{Answer, Request};
use crate::program::Service;

/// Keys between the stand-in and its service.
pub const RING: &str = "e1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub images: bool,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Arrived {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.target.split('?').next() == Some(path)
    }
}

/// Answers a request, with the honest way as its second argument.
pub type Bend = Arc<dyn Fn(&Arrived, &dyn Fn(&Arrived) -> Answer) -> Answer + Send + Sync>;

/// Listens for API and pictures.
pub struct Front {
    pub api: SocketAddr,
    pub images: SocketAddr,
    pub log: PathBuf,
    inner: Arc<Inner>,
}

struct Inner {
    service: OnceLock<(SocketAddr, SocketAddr)>,
    bend: Mutex<Bend>,
    log: PathBuf,
    /// Whether the log holds what a careless configuration writes down.
    careless: Mutex<bool>,
}

impl Front {
    /// Binds; nothing is answered before [`Front::serve`].
    pub fn bind(log: PathBuf) -> Self {
        let inner = Arc::new(Inner {
            service: OnceLock::new(),
            bend: Mutex::new(honest()),
            log: log.clone(),
            careless: Mutex::new(false),
        });
        let listen = |images: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let inner = Arc::clone(&inner);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let inner = Arc::clone(&inner);
                    std::thread::spawn(move || inner.answer(stream, images));
                }
            });
            address
        };
        Self {
            api: listen(false),
            images: listen(true),
            log,
            inner: Arc::clone(&inner),
        }
    }

    pub fn serve(&self, service: &Service) {
        let behind = (service.public, service.images.unwrap());
        self.inner.service.set(behind).unwrap();
    }

    /// From now on requests are answered like this.
    pub fn bend(&self, bend: Bend) {
        *self.inner.bend.lock().unwrap() = bend;
    }

    pub fn log_carelessly(&self, careless: bool) {
        *self.inner.careless.lock().unwrap() = careless;
    }
}

/// Passes everything on.
pub fn honest() -> Bend {
    Arc::new(|arrived, pass| pass(arrived))
}

impl Inner {
    fn answer(&self, stream: TcpStream, images: bool) {
        let Some(arrived) = read(&stream, images) else {
            return;
        };
        self.write_down(&arrived);
        let bend = Arc::clone(&*self.bend.lock().unwrap());
        let answer = bend(&arrived, &|arrived: &Arrived| self.pass(arrived));
        let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
        let length = answer.body.len().to_string();
        let between = ["transfer-encoding", "content-length", "connection"];
        for (name, value) in &answer.headers {
            if !between.contains(&name.as_str()) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if answer.status != 204 {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head.push_str("connection: close\r\n\r\n");
        let mut stream = stream;
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&answer.body);
    }

    fn write_down(&self, arrived: &Arrived) {
        let path = arrived.target.split('?').next().unwrap();
        let mut line = format!("{{\"method\":\"{}\",\"path\":\"{path}\"", arrived.method);
        if *self.careless.lock().unwrap() {
            let value = arrived.header("authorization").unwrap_or("-");
            line.push_str(&format!(",\"authorization\":\"{value}\""));
        }
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        writeln!(file, "{line}}}").unwrap();
    }

    fn pass(&self, arrived: &Arrived) -> Answer {
        let (public, images) = *self.service.get().unwrap();
        if arrived.images {
            let mut request = Request::new(images, &arrived.method, &arrived.target);
            for (name, value) in &arrived.headers {
                if !["host", "connection", "content-length"].contains(&name.as_str()) {
                    request = request.header(name, value.clone());
                }
            }
            return request
                .host(Some(&format!("localhost:{}", images.port())))
                .send();
        }
        let limit = if arrived.is("POST", "/api/upload") {
            (10 << 20) + (64 << 10)
        } else {
            256 << 10
        };
        let path = arrived.target.split('?').next().unwrap();
        let is_ours = path == "/"
            || [
                "/api/",
                "/oauth/",
                "/studio/",
                "/.well-known/",
                "/auth/",
                "/v1/",
            ]
            .iter()
            .any(|folder| path.starts_with(folder));
        if arrived.body.len() > limit {
            return problem(413, "body_too_large");
        }
        if !is_ours || path.contains("//") {
            return problem(404, "not_found");
        }
        sign(arrived, public).send()
    }
}

pub fn problem(status: u16, code: &str) -> Answer {
    Answer {
        status,
        headers: vec![
            ("content-type".into(), "application/problem+json".into()),
            ("cache-control".into(), "no-store".into()),
        ],
        body: format!("{{\"status\":{status},\"code\":\"{code}\"}}").into_bytes(),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the service under test has the machine's clock"
)]
fn sign(arrived: &Arrived, to: SocketAddr) -> Request {
    let authority = to.to_string();
    let client = arrived
        .header("cf-connecting-ip")
        .unwrap_or("192.0.2.200")
        .to_owned();
    let length = arrived.body.len().to_string();
    let digest = (!arrived.body.is_empty() && arrived.body.len() <= 64 << 10)
        .then(|| edge_auth::content_digest(&arrived.body));
    let carries = !arrived.body.is_empty() || arrived.method == "POST";
    let id = uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .simple()
        .to_string();
    let headers = HEADERS.map(|name| match name {
        "signet-client-ip" => Some(client.as_str()),
        "x-request-id" => Some(id.as_str()),
        "content-length" => carries.then_some(length.as_str()),
        "content-digest" => digest.as_deref(),
        name => arrived.header(name),
    });
    let (path, query) = match arrived.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (arrived.target.as_str(), None),
    };
    let message = Message {
        method: &arrived.method,
        authority: &authority,
        path,
        query,
        headers,
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let nonce = uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .simple()
        .to_string();
    let signed = edge_auth::sign(&Keyring::parse(RING).unwrap(), &message, now, &nonce).unwrap();
    let mut request = Request::new(to, &arrived.method, &arrived.target);
    for (name, value) in HEADERS.iter().zip(headers) {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    if let Some(prefer) = arrived.header("prefer") {
        request = request.header("prefer", prefer);
    }
    request
        .header("signature-input", signed.signature_input)
        .header("signature", signed.signature)
        .replace_body(arrived.body.clone())
}

/// Reads one request whole.
fn read(stream: &TcpStream, images: bool) -> Option<Arrived> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let first = line(&mut reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let find = |name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let mut body = Vec::new();
    if find("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&line(&mut reader)?, 16).ok()?;
            let at = body.len();
            body.resize(at + size, 0);
            reader.read_exact(&mut body[at..]).ok()?;
            line(&mut reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = find("content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    }
    Some(Arrived {
        images,
        method,
        target,
        headers,
        body,
    })
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}
