//! Jobs that another origin has, or that nobody has begun with yet: followed by their rows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Ended;
use crate::error::ApiError;
use crate::startup::App;
use crate::state::StateError;

/// How often a row is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which a stream sends a comment, so that no proxy closes it.
const QUIET: u32 = 15;
/// Streams of jobs elsewhere that this origin keeps open.
const STREAMS: usize = 512;

/// Places for streams of jobs elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

/// Waits for the end of a user's job; none when it is gone.
///
/// # Errors
/// The state's own.
pub(crate) async fn ended(app: &App, user: &str, id: &str) -> Result<Option<Ended>, StateError> {
    loop {
        let Some(row) = app.state.job(user, id).await? else {
            return Ok(None);
        };
        if let Some(ended) = Ended::of(&row) {
            return Ok(Some(ended));
        }
        tokio::time::sleep(LOOK).await;
    }
}

struct Follower {
    app: App,
    user: Arc<str>,
    id: String,
    milliunits: u64,
    is_first: bool,
    _place: OwnedSemaphorePermit,
}

/// The events of such a job: its end, and comments until then.
///
/// # Errors
/// All places are taken.
pub(super) fn events(
    app: &App,
    user: &Arc<str>,
    id: &str,
    milliunits: u64,
) -> Result<impl futures_util::Stream<Item = Result<Bytes, ApiError>> + use<>, ApiError> {
    let place = Arc::clone(&app.jobs.elsewhere().0).try_acquire_owned();
    let follower = Follower {
        app: app.clone(),
        user: Arc::clone(user),
        id: id.into(),
        milliunits,
        is_first: true,
        _place: place.map_err(|_| ApiError::TooManyStreams)?,
    };
    Ok(stream::unfold(Some(follower), next))
}

async fn next(follower: Option<Follower>) -> Option<(Result<Bytes, ApiError>, Option<Follower>)> {
    let mut follower = follower?;
    let comment = Bytes::from_static(super::events::COMMENT);
    if std::mem::replace(&mut follower.is_first, false) {
        return Some((Ok(comment), Some(follower)));
    }
    let Follower {
        app,
        user,
        id,
        milliunits,
        ..
    } = &follower;
    let end = tokio::time::timeout(LOOK * QUIET, ended(app, user, id)).await;
    match end {
        Err(_) => Some((Ok(comment), Some(follower))),
        Ok(Ok(Some(ended))) => {
            let last = super::events::last(app, user, id, *milliunits, &ended).await;
            Some((Ok(last), None))
        }
        // The client comes back by itself.
        Ok(Ok(None) | Err(_)) => None,
    }
}
