//! A bad line between the store and its server, and a bad server.

use std::time::Duration;

use origin::storage::{S3Settings, Store, StoreError};

use crate::proxy::{Fault, Proxy};
use crate::servers;
use crate::suite::{key, noise, read, user};

const SLOW_DOWN: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n\
    Content-Length: 105\r\nConnection: close\r\n\r\n\
    <?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
const HTML: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\
    Connection: close\r\n\r\n<html>bad gateway</ht>";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\
    Content-Length: 73\r\nConnection: close\r\n\r\n\
    <?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message/></Error>";

async fn upstream() -> &'static str {
    tokio::task::spawn_blocking(|| servers::moto().endpoint.as_str())
        .await
        .unwrap()
}

/// A store behind a proxy that does this to its connections; with short waits.
async fn behind(faults: &[Fault]) -> (Store, Proxy) {
    let proxy = Proxy::start(upstream().await, faults).await;
    let settings = S3Settings {
        max_attempts: 3,
        ..servers::settings(&proxy.endpoint)
    };
    (servers::open(settings).await, proxy)
}

/// A store without a proxy, to see what is really there.
async fn direct() -> Store {
    servers::open(servers::settings(upstream().await)).await
}

fn fresh() -> shared::object_key::ObjectKey {
    key(&format!("generated/{}/a.png", user()))
}

#[tokio::test]
async fn a_throttled_call_is_tried_again_and_succeeds() {
    let (store, proxy) = behind(&[
        Fault::Answer(SLOW_DOWN),
        Fault::Answer(SLOW_DOWN),
        Fault::Pass,
    ])
    .await;
    let key = fresh();
    store.put(&key, noise(1000, 1)).await.unwrap();
    assert_eq!(proxy.connections(), 3);
    assert!(read(&direct().await, &key).await.unwrap() == noise(1000, 1));
}

#[tokio::test]
async fn endless_throttling_ends_after_the_configured_attempts() {
    let (store, proxy) = behind(&[Fault::Answer(SLOW_DOWN)]).await;
    let error = store.head(&fresh()).await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("throttled", true));
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn a_page_from_something_in_between_is_unreachable() {
    let (store, _proxy) = behind(&[Fault::Answer(HTML)]).await;
    assert_eq!(
        store.get(&fresh(), None).await.unwrap_err().code(),
        "unreachable"
    );
    assert_eq!(
        store.put(&fresh(), noise(10, 1)).await.unwrap_err().code(),
        "unreachable"
    );
}

#[tokio::test]
async fn unknown_credentials_are_denied_and_not_tried_again() {
    let (store, proxy) = behind(&[Fault::Answer(FORBIDDEN)]).await;
    assert_eq!(
        store.get(&fresh(), None).await.unwrap_err().code(),
        "denied"
    );
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_object() {
    let settings = S3Settings {
        bucket: "nobody-made-it".into(),
        ..servers::settings(upstream().await)
    };
    let store = servers::open(settings).await;
    assert_eq!(store.check().await.unwrap_err().code(), "missing_bucket");
    assert_eq!(
        store.get(&fresh(), None).await.unwrap_err().code(),
        "missing_bucket"
    );
    assert_eq!(
        store.put(&fresh(), noise(10, 1)).await.unwrap_err().code(),
        "missing_bucket"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let store = servers::open(servers::settings(&format!("http://{free}"))).await;
    assert_eq!(store.check().await.unwrap_err().code(), "unreachable");
    assert_eq!(
        store.put(&fresh(), noise(10, 1)).await.unwrap_err().code(),
        "unreachable"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_unreachable() {
    let proxy = Proxy::start(upstream().await, &[Fault::Silence]).await;
    let settings = S3Settings {
        max_attempts: 2,
        attempt_timeout_ms: 300,
        operation_timeout_ms: 2_000,
        ..servers::settings(&proxy.endpoint)
    };
    let store = servers::open(settings).await;
    assert_eq!(
        store.head(&fresh()).await.unwrap_err().code(),
        "unreachable"
    );
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_never_looks_whole() {
    let key = fresh();
    direct().await.put(&key, noise(300_000, 1)).await.unwrap();
    let (store, _proxy) = behind(&[Fault::CutAnswer(100_000)]).await;
    let object = store.get(&key, None).await.unwrap();
    assert_eq!(object.info.size, 300_000);
    let error = object.body.collect().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unreachable(_) | StoreError::Corrupt(_)),
        "{error}"
    );
}

#[tokio::test]
async fn a_changed_byte_is_noticed() {
    let key = fresh();
    direct().await.put(&key, noise(300_000, 1)).await.unwrap();
    let (store, _proxy) = behind(&[Fault::FlipAnswer(200_000)]).await;
    let error = read(&store, &key).await.unwrap_err();
    assert_eq!(error.code(), "corrupt", "{error}");
}

#[tokio::test]
async fn a_write_that_is_cut_off_is_tried_again() {
    let (store, proxy) = behind(&[Fault::CutRequest(50_000), Fault::Pass]).await;
    let key = fresh();
    store.put(&key, noise(300_000, 1)).await.unwrap();
    assert_eq!(proxy.connections(), 2);
    assert!(read(&direct().await, &key).await.unwrap() == noise(300_000, 1));
}

#[tokio::test]
async fn a_write_that_never_arrives_leaves_no_half_object() {
    let (store, _proxy) = behind(&[Fault::CutRequest(50_000)]).await;
    let key = fresh();
    let error = store.put(&key, noise(300_000, 1)).await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
    // The server may still be chewing on the half request.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        direct().await.head(&key).await.unwrap_err().code(),
        "not_found"
    );
}

#[tokio::test]
async fn an_upload_in_parts_that_fails_leaves_no_object() {
    let passes = 3_000_000;
    let (store, _proxy) = behind(&[Fault::CutRequest(passes)]).await;
    let key = fresh();
    let error = store.put(&key, noise(12 << 20, 1)).await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
    let direct = direct().await;
    assert_eq!(direct.head(&key).await.unwrap_err().code(), "not_found");
    assert_eq!(
        direct.list(key.as_str(), None, 10).await.unwrap().objects,
        []
    );
}

#[tokio::test]
async fn a_rename_that_broke_off_is_finished_by_the_next_try() {
    let (from, to) = (fresh(), fresh());
    let direct = direct().await;
    direct.put(&from, noise(100, 1)).await.unwrap();
    let (store, _proxy) = behind(&[Fault::Answer(SLOW_DOWN)]).await;
    assert!(store.rename(&from, &to).await.is_err());
    assert!(direct.head(&from).await.is_ok() || direct.head(&to).await.is_ok());
    direct.rename(&from, &to).await.unwrap();
    assert!(read(&direct, &to).await.unwrap() == noise(100, 1));
}
