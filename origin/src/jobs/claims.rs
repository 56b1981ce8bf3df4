//! Claims on idempotency keys: of two equal requests at once, the second finds the first.
//!
//! A claim is of one user, route and key. Only requests of that same key wait for it; the table of all claims is locked
//! for a look-up and never while anything is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

/// Requests of one user that may hold or await claims at once.
const PER_USER: usize = 64;
/// Requests of all users that may.
const IN_ALL: usize = 4_096;

/// All claims of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    requests: usize,
    users: HashMap<Arc<str>, OfUser>,
}

#[derive(Debug, Default)]
struct OfUser {
    requests: usize,
    keys: HashMap<Arc<str>, OfKey>,
}

#[derive(Debug, Default)]
struct OfKey {
    requests: usize,
    turn: Arc<Turns<()>>,
}

/// A request's claim on its key, given up when dropped.
#[derive(Debug)]
pub struct Claim {
    // Dropped in this order: whoever waits goes on before the place is free.
    _turn: OwnedMutexGuard<()>,
    _place: Place,
}

/// A request's place in the table.
#[derive(Debug)]
struct Place {
    claims: Claims,
    user: Arc<str>,
    name: Arc<str>,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn among requests of the same user and name (route and key); none when there are too many
    /// requests already.
    pub(super) async fn claim(&self, user: &Arc<str>, name: &str) -> Option<Claim> {
        let (place, turn) = self.enter(user, name)?;
        Some(Claim {
            _turn: turn.lock_owned().await,
            _place: place,
        })
    }

    fn enter(&self, user: &Arc<str>, name: &str) -> Option<(Place, Arc<Turns<()>>)> {
        let mut table = self.lock();
        let of_user = table.users.get(user).map_or(0, |one| one.requests);
        if table.requests >= IN_ALL || of_user >= PER_USER {
            return None;
        }
        table.requests += 1;
        let name: Arc<str> = name.into();
        let one = table.users.entry(Arc::clone(user)).or_default();
        one.requests += 1;
        let key = one.keys.entry(Arc::clone(&name)).or_default();
        key.requests += 1;
        let place = Place {
            claims: self.clone(),
            user: Arc::clone(user),
            name,
        };
        Some((place, Arc::clone(&key.turn)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.claims.lock();
        table.requests = table.requests.saturating_sub(1);
        let Some(one) = table.users.get_mut(&self.user) else {
            return;
        };
        one.requests = one.requests.saturating_sub(1);
        if let Some(key) = one.keys.get_mut(&self.name) {
            key.requests = key.requests.saturating_sub(1);
            if key.requests == 0 {
                one.keys.remove(&self.name);
            }
        }
        if one.requests == 0 {
            table.users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn user(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn only_requests_of_the_same_user_and_key_wait_for_each_other() {
        let claims = Claims::default();
        let first = claims.claim(&user("u"), "/api/generate a").await.unwrap();
        for (other, name) in [("u", "/api/generate b"), ("v", "/api/generate a")] {
            let claimed = claims.claim(&user(other), name).now_or_never();
            assert!(claimed.flatten().is_some(), "{other} {name}");
        }
        let same = user("u");
        let mut second = Box::pin(claims.claim(&same, "/api/generate a"));
        assert!(second.as_mut().now_or_never().is_none(), "waits");
        drop(first);
        assert!(second.now_or_never().flatten().is_some());
        assert_eq!(claims.lock().users.len(), 0, "nothing is left behind");
        assert_eq!(claims.lock().requests, 0);
    }

    #[tokio::test]
    async fn claims_and_those_who_await_them_are_bounded_by_user_and_in_all() {
        let claims = Claims::default();
        let mut held = Vec::new();
        while let Some(claim) = claims.claim(&user("u"), &held.len().to_string()).await {
            held.push(claim);
        }
        assert_eq!(held.len(), PER_USER);
        assert!(claims.enter(&user("u"), "0").is_none(), "nor may one wait");
        assert!(claims.enter(&user("v"), "0").is_some());
        for n in 0.. {
            let Some(claim) = claims.claim(&user(&format!("w{n}")), "k").await else {
                break;
            };
            held.push(claim);
        }
        assert_eq!(held.len(), IN_ALL);
        held.truncate(IN_ALL - 1);
        assert!(claims.enter(&user("v"), "0").is_some());
    }

    #[tokio::test]
    async fn whoever_leaves_while_waiting_gives_the_place_back() {
        let claims = Claims::default();
        let who = user("u");
        let first = claims.claim(&who, "k").await;
        let mut second = Box::pin(claims.claim(&who, "k"));
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(claims.lock().requests, 2);
        drop(second);
        assert_eq!(claims.lock().requests, 1);
        drop(first);
        assert_eq!(claims.lock().users.len(), 0);
    }
}
