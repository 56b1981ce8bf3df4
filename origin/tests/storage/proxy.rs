//! A small TCP proxy that spoils connections on purpose.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing bad.
    Pass,
    /// This answer instead of the server's, once the request's head has come.
    Answer(&'static str),
    /// The server gets so many bytes of the request, then the line is cut.
    CutRequest(usize),
    /// The client gets so many bytes of the answer, then the line is cut.
    CutAnswer(usize),
    /// The byte at this place of the answer arrives changed.
    FlipAnswer(usize),
    /// The request is swallowed and nothing ever comes back.
    Silence,
}

/// Spoils the first connections as listed and all later ones as the last entry says.
pub struct Proxy {
    pub endpoint: String,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn start(upstream: &str, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let faults = Arc::new(Mutex::new(VecDeque::from(faults.to_vec())));
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let fault = {
                    let mut faults = faults.lock().unwrap();
                    if faults.len() > 1 {
                        faults.pop_front().unwrap()
                    } else {
                        faults[0]
                    }
                };
                tokio::spawn(serve(client, upstream.clone(), fault));
            }
        });
        Self {
            endpoint,
            connections,
            task,
        }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut client: TcpStream, upstream: String, fault: Fault) {
    match fault {
        Fault::Answer(answer) => {
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                if client.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let _ = client.write_all(answer.as_bytes()).await;
            // Swallow the body, or the reset would overtake the answer.
            let drain = async { while client.read(&mut [0; 65536]).await.unwrap_or(0) > 0 {} };
            let _ = tokio::time::timeout(Duration::from_millis(300), drain).await;
        }
        Fault::Silence => while client.read(&mut [0; 65536]).await.unwrap_or(0) > 0 {},
        Fault::Pass | Fault::CutRequest(_) | Fault::CutAnswer(_) | Fault::FlipAnswer(_) => {
            let Ok(server) = TcpStream::connect(upstream).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let (mut request_limit, mut answer_limit, mut flip) = (usize::MAX, usize::MAX, None);
            match fault {
                Fault::CutRequest(count) => request_limit = count,
                Fault::CutAnswer(count) => answer_limit = count,
                Fault::FlipAnswer(place) => flip = Some(place),
                _ => {}
            }
            // Whichever side ends first cuts both.
            tokio::select! {
                () = pump(from_client, to_server, request_limit, None) => {}
                () = pump(from_server, to_client, answer_limit, flip) => {}
            }
        }
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    limit: usize,
    flip: Option<usize>,
) {
    let (mut buffer, mut passed) = (vec![0; 16384], 0);
    while passed < limit {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if let Some(place) = flip.filter(|place| (passed..passed + count).contains(place)) {
            buffer[place - passed] ^= 0x55;
        }
        let count = count.min(limit - passed);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        passed += count;
    }
}
