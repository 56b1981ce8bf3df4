//! Whether strangers can read the bucket, on servers where they can and cannot.

use bytes::Bytes;
use origin::storage::exposure::{Exposure, exposure};
use origin::storage::{S3Settings, StorageSettings, Store, StoreKind};

use crate::{servers, suite};

async fn found(s3: S3Settings, public_urls: Vec<String>) -> Exposure {
    let settings = StorageSettings {
        kind: StoreKind::S3,
        s3,
        public_urls,
        ..StorageSettings::default()
    };
    let store = Store::open(&settings).await.unwrap();
    exposure(&settings, &store).await.unwrap()
}

async fn endpoint(server: fn() -> &'static servers::Server) -> &'static str {
    tokio::task::spawn_blocking(move || server().endpoint.as_str())
        .await
        .unwrap()
}

/// moto answers whoever asks.
#[tokio::test]
async fn a_bucket_that_answers_strangers_is_complained_about() {
    let settings = servers::settings(endpoint(servers::moto).await);
    let complaint = found(settings, Vec::new()).await.complaint().unwrap();
    assert!(complaint.contains("list"), "{complaint}");
}

/// The R2 simulation wants signatures, but hands its objects out at another address, as r2.dev does.
#[tokio::test]
async fn a_private_bucket_with_a_public_address_is_found_out_there() {
    let endpoint = endpoint(servers::r2).await;
    let settings = servers::settings(endpoint);
    let store = servers::open(settings.clone()).await;
    let Exposure::Private(asked) = found(settings.clone(), Vec::new()).await else {
        panic!("the bucket wants signatures")
    };
    assert_eq!(asked.len(), 2, "{asked:?}");
    let key = suite::key("generated/u/exposed.png");
    store
        .put(&key, Bytes::from_static(b"a picture"))
        .await
        .unwrap();
    let public = endpoint.replace("/r2/s3", "/r2/public") + "/" + servers::BUCKET;
    let Exposure::Readable(url) = found(settings.clone(), vec![public.clone()]).await else {
        panic!("{public} gives objects away")
    };
    assert!(url.starts_with(&public), "{url}");
    // Nobody answers there, and that is no complaint.
    let silent = vec!["http://127.0.0.1:9".to_owned()];
    assert_eq!(found(settings, silent).await.complaint(), None);
}

#[tokio::test]
async fn a_folder_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StorageSettings {
        folder: folder.path().into(),
        ..StorageSettings::default()
    };
    let store = Store::open(&settings).await.unwrap();
    let found = exposure(&settings, &store).await.unwrap();
    assert_eq!(found, Exposure::Private(Vec::new()));
}
