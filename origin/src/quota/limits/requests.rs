//! Limits on requests themselves, whatever they would make: arrivals, reads, uploads, writes, links, tokens.

use std::net::IpAddr;

use shared::client_ip;

use super::{Inner, KNOWN_FOR, Limits};
use crate::quota::remote::Remote;
use crate::quota::{Ask, Refusal, Simple};

/// The policy of one client's failures.
const CLIENT: &str = "token-endpoint-client";

impl Limits {
    /// Counts an arrival at a generation route, refused and unauthenticated ones included. While an address is
    /// blocked its arrivals neither count nor extend the block. `now` in nanoseconds.
    ///
    /// # Errors
    /// The policy `penalty-box`.
    pub async fn arrive(&self, address: IpAddr, now: u64) -> Result<(), Refusal> {
        let settings = &self.inner.settings;
        if !settings.enabled {
            return Ok(());
        }
        let (limit, seconds) = (settings.penalty_arrivals, settings.penalty_seconds);
        let ask = self.of_address(address);
        if let Some(remote) = &self.inner.remote
            && let Ok(verdict) = remote.arrive(&ask, limit, seconds).await
        {
            return verdict;
        }
        self.inner.memory.arrive(&ask, limit, seconds, now)
    }

    /// Counts a read of jobs or lists.
    ///
    /// # Errors
    /// The policy `reads`.
    pub async fn read(&self, user: &str, now: u64) -> Result<(), Refusal> {
        self.simple(Simple::Reads, user, 1, now).await
    }

    /// Counts an upload.
    ///
    /// # Errors
    /// The policy `uploads`.
    pub async fn upload(&self, user: &str, now: u64) -> Result<(), Refusal> {
        self.simple(Simple::Uploads, user, 1, now).await
    }

    /// Counts a change to a picture: keep, unkeep, delete, a new link.
    ///
    /// # Errors
    /// The policy `writes`.
    pub async fn write(&self, user: &str, now: u64) -> Result<(), Refusal> {
        self.simple(Simple::Writes, user, 1, now).await
    }

    /// Counts the work in an upload, in units; one that holds more than the limit counts as all of it.
    ///
    /// # Errors
    /// The policy `uploads-work`.
    pub async fn upload_work(&self, user: &str, units: u32, now: u64) -> Result<(), Refusal> {
        self.simple(Simple::UploadsWork, user, units, now).await
    }

    async fn simple(&self, what: Simple, user: &str, count: u32, now: u64) -> Result<(), Refusal> {
        if !self.inner.settings.enabled {
            return Ok(());
        }
        let rate = match what {
            Simple::Reads => self.inner.rates.reads,
            Simple::Uploads => self.inner.rates.uploads,
            Simple::Writes => self.inner.rates.writes,
            Simple::UploadsWork => self.inner.rates.uploads_work,
        };
        if let Some(remote) = &self.inner.remote
            && let Ok(verdict) = remote.spend(what.policy(), rate, user, count).await
        {
            return verdict;
        }
        let rate = rate.times(count);
        self.inner.memory.simple(what, user, rate, now)
    }

    /// Counts an opened link, in this process.
    ///
    /// # Errors
    /// The policy `links`.
    pub fn link(&self, address: IpAddr, now: u64) -> Result<(), Refusal> {
        if !self.inner.settings.enabled {
            return Ok(());
        }
        let Inner { memory, rates, .. } = &*self.inner;
        memory.link(&self.of_address(address), rates, now)
    }

    /// Counts a request for a token, from this address and in the name of this client.
    ///
    /// # Errors
    /// The policy `token-endpoint` or `token-endpoint-client`.
    pub async fn token_endpoint(
        &self,
        address: IpAddr,
        client: Option<&str>,
        now: u64,
    ) -> Result<(), Refusal> {
        if !self.inner.settings.enabled {
            return Ok(());
        }
        let ask = self.of_address(address);
        let is_known = |client: &&str| {
            self.inner
                .known_places
                .contains_key(&((*client).into(), ask.narrow))
        };
        let client = client.filter(|client| !is_known(client));
        if let Some(remote) = &self.inner.remote {
            let rates = &self.inner.rates;
            let [narrow, wide] = rates.token_endpoint;
            let mut asked = vec![("token-endpoint", narrow, ask.narrow.to_string())];
            // Named as a network, lest it be taken for the first of its parts.
            asked.extend(
                ask.wide
                    .map(|network| ("token-endpoint", wide, format!("{network}/48"))),
            );
            asked.extend(client.map(|client| {
                let name = Remote::client_name(client);
                (CLIENT, rates.token_endpoint_client, name)
            }));
            let mut verdict = remote.rates(&asked).await;
            if let (Ok(Err(refusal)), Some(client)) = (&verdict, client)
                && refusal.policy == CLIENT
                && remote.is_known_place(client, ask.narrow).await
            {
                // It signed in from here at another origin.
                let key = (client.into(), ask.narrow);
                self.inner.known_places.insert(key, ());
                asked.pop();
                verdict = remote.rates(&asked).await;
            }
            if let Ok(verdict) = verdict {
                return verdict;
            }
        }
        self.inner
            .memory
            .token_endpoint(&ask, client, &self.inner.rates, now)
    }

    /// The client has shown its secret: the request does not count against it, and from this address it stays open.
    pub async fn token_granted(&self, address: IpAddr, client: &str, now: u64) {
        let key = (client.into(), client_ip::group(address).narrow);
        if self.inner.settings.enabled && !self.inner.known_places.contains_key(&key) {
            let rates = &self.inner.rates;
            if let Some(remote) = &self.inner.remote {
                let (rate, name) = (rates.token_endpoint_client, Remote::client_name(client));
                // Away: the count dies within its window.
                let _ = remote.forgive(CLIENT, rate, &name).await;
                remote.know_place(client, key.1, KNOWN_FOR).await;
            }
            self.inner.memory.forgive_client(client, rates, now);
            self.inner.known_places.insert(key, ());
        }
    }

    fn of_address(&self, address: IpAddr) -> Ask<'static> {
        let group = client_ip::group(address);
        Ask {
            narrow: group.narrow,
            wide: group.wide,
            token: "",
            user: "",
            milliunits: 0,
            allowed: self.inner.base,
        }
    }
}
