//! The suite on two S3 servers.

use origin::storage::Store;

use crate::servers;

pub struct Fixture {
    pub store: Store,
}

mod moto {
    use super::*;

    async fn open() -> Fixture {
        let endpoint = tokio::task::spawn_blocking(|| &servers::moto().endpoint)
            .await
            .unwrap();
        Fixture {
            store: servers::open(servers::settings(endpoint)).await,
        }
    }

    crate::suite::conforms!(open);

    #[tokio::test]
    async fn an_upload_in_parts_that_nobody_finished_is_found_and_dropped() {
        let fixture = open().await;
        let name = format!("generated/{}/a.png", crate::suite::user());
        servers::begin_parts(&servers::moto().endpoint, &name);
        let ours = async || {
            let mut found = fixture.store.unfinished().await.unwrap();
            found.retain(|write| write.name == name);
            found
        };
        let [write] = &ours().await[..] else {
            panic!("{:?}", ours().await)
        };
        assert!(write.begun.is_some() && write.upload.is_some());
        fixture.store.drop_unfinished(write).await.unwrap();
        assert_eq!(ours().await, []);
        fixture.store.drop_unfinished(write).await.unwrap();
    }
}

mod r2 {
    use super::*;

    async fn open() -> Fixture {
        let endpoint = tokio::task::spawn_blocking(|| &servers::r2().endpoint)
            .await
            .unwrap();
        Fixture {
            store: servers::open(servers::settings(endpoint)).await,
        }
    }

    crate::suite::conforms!(open);

    #[tokio::test]
    async fn a_wrong_secret_is_denied() {
        let endpoint = tokio::task::spawn_blocking(|| &servers::r2().endpoint)
            .await
            .unwrap();
        let mut settings = servers::settings(endpoint);
        settings.secret_access_key = Some(origin::secret::Secret::new("wrong"));
        let store = servers::open(settings).await;
        let key = crate::suite::key("generated/u/a.png");
        assert_eq!(store.check().await.unwrap_err().code(), "denied");
        assert_eq!(store.get(&key, None).await.unwrap_err().code(), "denied");
        let put = store.put(&key, crate::suite::noise(3, 1)).await;
        assert_eq!(put.unwrap_err().code(), "denied");
    }
}
