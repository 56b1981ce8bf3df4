//! A stand-in for a provider: writes down each request byte for byte, and answers as it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// What is answered to the next request.
#[derive(Clone)]
pub enum Act {
    /// These bytes, then the end of the connection.
    Say(Vec<u8>),
    /// Nothing, until the other side leaves.
    Hang,
    /// A head that promises a body without end.
    Flood,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    /// Lower-case names, sorted.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct State {
    /// In order; the last one stays.
    acts: Vec<Act>,
    seen: Vec<Seen>,
    open: usize,
}

pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Upstream {
    pub fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            acts,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(answer(stream, &shared)));
            }
        });
        Self { address, state }
    }

    pub fn act(&self, acts: Vec<Act>) {
        self.state.lock().unwrap().acts = acts;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, count: usize) {
        while self.seen().len() < count {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until nobody hangs on it any more.
    pub fn wait_until_left(&self) {
        while self.state.lock().unwrap().open > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = Vec::new();
    loop {
        let mut text = String::new();
        reader.read_line(&mut text)?;
        let Some((name, value)) = text.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    headers.sort();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body)?;
    let act = {
        let mut state = state.lock().unwrap();
        let line = line.trim_end().to_owned();
        state.seen.push(Seen {
            line,
            headers,
            body,
        });
        state.open += 1;
        if state.acts.len() > 1 {
            state.acts.remove(0)
        } else {
            state.acts[0].clone()
        }
    };
    let done = perform(stream, &mut reader, act);
    state.lock().unwrap().open -= 1;
    done
}

fn perform(
    mut stream: TcpStream,
    reader: &mut BufReader<TcpStream>,
    act: Act,
) -> std::io::Result<()> {
    match act {
        Act::Say(bytes) => stream.write_all(&bytes),
        Act::Hang => reader.read_to_end(&mut Vec::new()).map(drop),
        Act::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 65_536])?;
            }
        }
    }
}

/// An answer with a body of this media type.
pub fn reply(status: &str, headers: &str, body: &[u8]) -> Act {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    Act::Say(bytes)
}

pub fn json(body: &Value) -> Act {
    reply(
        "200 OK",
        "content-type: application/json\r\n",
        body.to_string().as_bytes(),
    )
}
