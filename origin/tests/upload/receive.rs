//! Taking uploads off the wire: a real server, and senders of every manner.

use actix_web::web::{self, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use origin::upload::{Limits, UploadSettings, receive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Refuses what says that it was changed on the way, and longer bodies never.
fn whole_is_fine(whole: Option<&[u8]>) -> bool {
    !whole.is_some_and(|bytes| bytes.windows(7).any(|seven| seven == b"changed"))
}

/// A server that answers with the size of the file or the code of the refusal.
#[expect(clippy::disallowed_methods, reason = "no route of the service")]
async fn server() -> std::net::SocketAddr {
    let settings = UploadSettings {
        image: Limits {
            max_bytes: 1000,
            ..Limits::default()
        },
        receive_seconds: 1,
        ..UploadSettings::default()
    };
    let server = HttpServer::new(move || {
        let settings = settings.clone();
        App::new().default_service(web::to(move |request: HttpRequest, body: Payload| {
            let settings = settings.clone();
            async move {
                match receive(request.headers(), body, &settings, whole_is_fine).await {
                    Ok(file) => HttpResponse::Ok().body(format!("{} bytes", file.len())),
                    Err(error) => HttpResponse::BadRequest().body(error.code()),
                }
            }
        }))
    })
    .workers(1)
    .bind("127.0.0.1:0")
    .unwrap();
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    address
}

/// Sends bytes as they are and returns the answer's body; the line stays open until it comes.
async fn send(address: std::net::SocketAddr, head: &str, body: &[u8]) -> String {
    let mut line = TcpStream::connect(address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n");
    line.write_all(head.as_bytes()).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = line.write_all(body).await;
    let mut answer = Vec::new();
    let _ = line.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default()
}

fn part(name: &str, data: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"../../etc/x.svg\"\r\n\
         Content-Type: image/svg+xml\r\n\r\n{data}\r\n"
    )
}

async fn multipart(address: std::net::SocketAddr, body: &str) -> String {
    let head = format!(
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}",
        body.len()
    );
    send(address, &head, body.as_bytes()).await
}

#[actix_web::test]
async fn a_raw_body_is_the_file() {
    let address = server().await;
    assert_eq!(
        send(address, "Content-Length: 1000", &[7; 1000]).await,
        "1000 bytes"
    );
    let chunked = [b"3e8\r\n".as_slice(), &[7; 1000], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(
        send(address, "Transfer-Encoding: chunked", &chunked).await,
        "1000 bytes"
    );
}

#[actix_web::test]
async fn the_one_part_of_a_multipart_body_is_the_file() {
    let address = server().await;
    for name in ["file", "image"] {
        let body = part(name, "hello") + "--b--\r\n";
        assert_eq!(multipart(address, &body).await, "5 bytes");
    }
}

#[actix_web::test]
async fn one_byte_too_many_is_refused_announced_or_not() {
    let address = server().await;
    assert_eq!(
        send(address, "Content-Length: 1001", b"").await,
        "body_too_large"
    );
    let chunked = [b"3e9\r\n".as_slice(), &[7; 1001], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(
        send(address, "Transfer-Encoding: chunked", &chunked).await,
        "body_too_large"
    );
    let body = part("file", &"x".repeat(1001)) + "--b--\r\n";
    assert_eq!(multipart(address, &body).await, "body_too_large");
}

#[actix_web::test]
async fn a_multipart_body_cannot_hide_bytes_around_its_file() {
    let address = server().await;
    let padding = "x".repeat(70_000);
    let chunks = format!("{padding}\r\n{}--b--\r\n", part("file", "hello"));
    let chunked = format!("{:x}\r\n{chunks}\r\n0\r\n\r\n", chunks.len());
    let head = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked";
    assert_eq!(
        send(address, head, chunked.as_bytes()).await,
        "body_too_large"
    );
}

#[actix_web::test]
async fn a_multipart_body_of_another_make_is_malformed() {
    let address = server().await;
    for body in [
        "--b--\r\n".to_owned(),
        part("other", "hello") + "--b--\r\n",
        part("file", "hello") + &part("file", "again") + "--b--\r\n",
        "no boundary at all".to_owned(),
        part("file", "hello"),
    ] {
        let code = multipart(address, &body).await;
        assert!(
            code == "malformed_multipart" || code == "body_incomplete",
            "{code}: {body}"
        );
    }
}

#[actix_web::test]
async fn an_empty_body_is_empty() {
    assert_eq!(
        send(server().await, "Content-Length: 0", b"").await,
        "empty_upload"
    );
}

#[actix_web::test]
async fn a_sender_that_dawdles_is_cut_off() {
    let address = server().await;
    assert_eq!(
        send(address, "Content-Length: 1000", &[7; 10]).await,
        "body_too_slow"
    );
    let body = part("file", "hel");
    let head = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 900";
    assert_eq!(send(address, head, body.as_bytes()).await, "body_too_slow");
}

#[actix_web::test]
async fn a_body_that_the_edge_did_not_sign_is_refused_before_it_is_read() {
    let address = server().await;
    let raw = send(address, "Content-Length: 12", b"it's changed").await;
    assert_eq!(raw, "edge_only");
    let body = part("file", "it is changed") + "--b--\r\n";
    assert_eq!(multipart(address, &body).await, "edge_only");
}

#[actix_web::test]
async fn a_file_name_that_is_not_utf_8_is_no_obstacle() {
    let body = crate::cases::case("multipart_gbk_filename.body");
    let head = format!(
        "Content-Type: multipart/form-data; boundary=BND\r\nContent-Length: {}",
        body.len()
    );
    let answer = send(server().await, &head, &body).await;
    assert!(answer.ends_with(" bytes"), "{answer}");
}

#[actix_web::test]
async fn a_compressed_body_is_refused_with_a_code_of_its_own() {
    let address = server().await;
    for coding in ["gzip", "br", "zstd, identity", "Deflate"] {
        let head = format!("Content-Encoding: {coding}\r\nContent-Length: 3");
        assert_eq!(send(address, &head, b"abc").await, "compressed_upload");
    }
    let head = "Content-Encoding: identity\r\nContent-Length: 3";
    assert_eq!(send(address, head, b"abc").await, "3 bytes");
}
