//! Whether strangers can read the bucket: asked without credentials, as they would.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use shared::object_key::ObjectKey;

use super::{Addressing, ObjectInfo, StorageSettings, Store, StoreError, StoreKind};

/// Longest wait for one answer.
const WAIT: Duration = Duration::from_secs(10);
/// As much of an answer as is read.
const MOST: usize = 64 << 10;
/// What is put into an empty bucket to ask for, and taken away again. No link to this prefix exists.
const PROBE: &str = "temp/signet-exposure-probe.png";

/// What a stranger gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Nothing, at each of these addresses.
    Private(Vec<String>),
    /// The names of the objects.
    Listable(String),
    /// An object.
    Readable(String),
}

impl Exposure {
    /// A sentence for the operator when something is open.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Private(_) => None,
            Self::Listable(url) => Some(format!(
                "the bucket is public: anybody can list it at {url}; signed links protect nothing"
            )),
            Self::Readable(url) => Some(format!(
                "the bucket is public: anybody can read {url}; signed links protect nothing"
            )),
        }
    }
}

/// Asks for a listing and for one object without credentials, at the store's own address and at every address in
/// `storage.public_urls`. A folder has no address: it is private. An address that does not answer counts as private.
///
/// # Errors
/// The store's own, when not even the service may list it.
pub async fn exposure(settings: &StorageSettings, store: &Store) -> Result<Exposure, StoreError> {
    if settings.kind == StoreKind::Folder {
        return Ok(Exposure::Private(Vec::new()));
    }
    let mut asked = Vec::new();
    let bases = bases(settings);
    if let Some(own) = bases.first() {
        let url = format!("{own}/?list-type=2&max-keys=1");
        if is_listing(&url).await {
            return Ok(Exposure::Listable(url));
        }
        asked.push(url);
    }
    let (object, put) = sample(store).await?;
    let mut readable = None;
    for base in bases {
        let url = format!("{base}/{}", object.key.as_str());
        if serves(&url, object.size).await {
            readable = Some(url);
            break;
        }
        asked.push(url);
    }
    if put {
        store.delete(&object.key).await?;
    }
    Ok(readable.map_or(Exposure::Private(asked), Exposure::Readable))
}

/// Addresses that an object's key follows: the store's own first.
fn bases(settings: &StorageSettings) -> Vec<String> {
    let s3 = &settings.s3;
    let endpoint = s3.endpoint.trim_end_matches('/');
    let own = match (s3.addressing, endpoint.split_once("://")) {
        (Addressing::Virtual, Some((scheme, rest))) => format!("{scheme}://{}.{rest}", s3.bucket),
        _ => format!("{endpoint}/{}", s3.bucket),
    };
    let others = settings.public_urls.iter();
    std::iter::once(own)
        .chain(others.map(|url| url.trim_end_matches('/').to_owned()))
        .collect()
}

/// Some object, and whether it was put there for this.
async fn sample(store: &Store) -> Result<(ObjectInfo, bool), StoreError> {
    if let Some(object) = store.list("", None, 1).await?.objects.into_iter().next() {
        return Ok((object, false));
    }
    let key = ObjectKey::parse(PROBE).map_err(|error| StoreError::Other(error.to_string()))?;
    store
        .put(&key, Bytes::from_static(b"nobody but us may read this"))
        .await?;
    Ok((store.head(&key).await?, true))
}

async fn is_listing(url: &str) -> bool {
    match ask(Method::GET, url).await {
        Some((StatusCode::OK, _, body)) => {
            let name = b"ListBucketResult";
            body.windows(name.len()).any(|part| part == name)
        }
        _ => false,
    }
}

/// Whether an address gives the object away: a page of the same length is it.
async fn serves(url: &str, size: u64) -> bool {
    match ask(Method::HEAD, url).await {
        Some((StatusCode::OK, length, _)) => length == Some(size),
        _ => false,
    }
}

/// Status, announced length and the beginning of the body; none without an answer. Redirects are answers.
async fn ask(method: Method, url: &str) -> Option<(StatusCode, Option<u64>, Bytes)> {
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()
        .ok()?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(https);
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::USER_AGENT, "signet")
        .body(Empty::new())
        .ok()?;
    let answered = async {
        let answer = client.request(request).await.ok()?;
        let (status, length) = (
            answer.status(),
            answer.headers().get(header::CONTENT_LENGTH),
        );
        let length = length
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let body = Limited::new(answer.into_body(), MOST).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Some((status, length, body))
    };
    tokio::time::timeout(WAIT, answered).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::S3Settings;

    #[test]
    fn every_address_of_the_bucket_is_asked() {
        let settings = |addressing| StorageSettings {
            kind: StoreKind::S3,
            public_urls: vec!["https://pub-1.r2.dev/".into()],
            s3: S3Settings {
                endpoint: "https://s3.example/".into(),
                bucket: "pictures".into(),
                addressing,
                ..S3Settings::default()
            },
            ..StorageSettings::default()
        };
        assert_eq!(
            bases(&settings(Addressing::Path)),
            ["https://s3.example/pictures", "https://pub-1.r2.dev"]
        );
        assert_eq!(
            bases(&settings(Addressing::Virtual))[0],
            "https://pictures.s3.example"
        );
    }
}
