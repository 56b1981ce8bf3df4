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
}
