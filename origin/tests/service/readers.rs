//! Clients that ask and do not read: each connection is cut, whatever it asked for.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::program::{ALL_SCOPES, Service};

/// Sends the same request again and again without reading; how long until the connection broke.
fn flood(service: &Service, request: &str) -> Duration {
    let mut stream = TcpStream::connect(service.images.unwrap()).unwrap();
    let patience = Duration::from_secs(60);
    stream.set_write_timeout(Some(patience)).unwrap();
    let many = request.repeat(200);
    let begun = Instant::now();
    loop {
        match stream.write_all(many.as_bytes()) {
            Ok(()) => assert!(begun.elapsed() < patience, "nothing fills up: {request}"),
            Err(error) => {
                let is_patience_over = error.kind() == ErrorKind::WouldBlock;
                assert!(
                    !is_patience_over,
                    "still open after {patience:?}: {request}"
                );
                return begun.elapsed();
            }
        }
    }
}

#[test]
fn who_asks_for_pictures_and_reads_nothing_is_cut_off() {
    let service = Service::start(&[
        ("SIGNET_SERVER__STALLED_SECONDS", "1"),
        ("SIGNET_LIMITS__LINKS__PER_MINUTE", "60000000"),
        ("SIGNET_LIMITS__LINKS__BURST", "1000000"),
    ]);
    let url = service.picture(&service.token(ALL_SCOPES))["url"].clone();
    let url = url.as_str().unwrap();
    let etag = service
        .link(url)
        .send()
        .ok()
        .header("etag")
        .unwrap()
        .to_owned();
    let target = &url[url.find("/generated/").unwrap()..];
    let host = format!("host: localhost:{}", service.images.unwrap().port());
    std::thread::scope(|scope| {
        for request in [
            format!("GET {target} HTTP/1.1\r\n{host}\r\n\r\n"),
            format!("HEAD {target} HTTP/1.1\r\n{host}\r\n\r\n"),
            format!("GET {target} HTTP/1.1\r\n{host}\r\nif-none-match: {etag}\r\n\r\n"),
            format!("GET {target}x HTTP/1.1\r\n{host}\r\n\r\n"),
        ] {
            let service = &service;
            scope.spawn(move || println!("{:?} {}", flood(service, &request), &request[..5]));
        }
    });
    assert_eq!(service.link(url).send().status, 200);
}
