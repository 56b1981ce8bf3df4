//! Living among other origins on one state: telling that this one lives, taking over what the dead left, and cancelling
//! here what was asked for there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::resume;
use crate::error::ApiError;
use crate::startup::App;
use crate::state::State;

/// How often an origin says that it lives.
const BEAT: Duration = Duration::from_secs(4);
/// One that says nothing for so many beats of another is dead to it.
const DEAD: u32 = 5;
/// How often an origin asks what it is to cancel.
const CANCEL_EVERY: Duration = Duration::from_secs(1);

/// The counts of all origins, and when each was last seen to move.
#[derive(Default)]
struct Seen(HashMap<String, (u64, Instant)>);

impl Seen {
    /// Notes the counts at `now`; those whose count has not moved for `dead`.
    fn note(
        &mut self,
        counts: Vec<(String, u64)>,
        now: Instant,
        dead: Duration,
    ) -> Vec<(String, u64)> {
        let before = std::mem::take(&mut self.0);
        let mut still = Vec::new();
        for (id, count) in counts {
            let moved = match before.get(&id) {
                Some((known, since)) if *known == count => *since,
                _ => now,
            };
            if now.duration_since(moved) >= dead {
                still.push((id.clone(), count));
            }
            self.0.insert(id, (count, moved));
        }
        still
    }
}

/// Says that this origin lives, whatever else it waits for.
pub(crate) async fn beat_regularly(state: State) {
    loop {
        if let Err(error) = state.beat().await {
            tracing::error!(%error, "this origin could not say that it lives");
        }
        tokio::time::sleep(beat()).await;
    }
}

/// Takes over what origins that died leave.
pub(crate) async fn take_over(app: App) {
    let beat = beat();
    let mut seen = Seen::default();
    loop {
        if let Err(error) = once(&app, &mut seen, beat * DEAD).await {
            error.log();
        }
        tokio::time::sleep(beat).await;
    }
}

async fn once(app: &App, seen: &mut Seen, dead: Duration) -> Result<(), ApiError> {
    let counts = app.state.beats().await?;
    if app.state.is_away() {
        // Nobody's count moves in this copy alone.
        *seen = Seen::default();
        return Ok(());
    }
    let dead = seen.note(counts, Instant::now(), dead);
    if !dead.is_empty() {
        tracing::warn!(
            origins = dead.len(),
            "origins that share the state stand still: what they had is taken over"
        );
        app.state.take_off(dead).await?;
        if app.state.is_away() {
            return Ok(());
        }
    }
    let again = resume::settle(app).await?;
    resume::resume(app, again);
    app.settle().await
}

/// Cancels jobs of this origin whose callers asked another one.
pub(crate) async fn cancel_what_is_asked(app: App) {
    loop {
        tokio::time::sleep(CANCEL_EVERY).await;
        if app.jobs.all().is_empty() {
            continue;
        }
        match app.state.asked_to_cancel().await {
            Ok(ids) => ids
                .iter()
                .filter_map(|id| app.jobs.any(id))
                .for_each(|live| live.cancel()),
            Err(error) => tracing::error!(%error, "what is to be cancelled could not be asked"),
        }
    }
}

/// A test need not wait for long.
fn beat() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(beat) = crate::startup::beat_for_tests() {
        return beat;
    }
    BEAT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_counts_lives_and_who_stands_still_for_long_is_dead() {
        let (mut seen, begun, dead) = (Seen::default(), Instant::now(), Duration::from_secs(20));
        let note = |seen: &mut Seen, after: u64, counts: [u64; 2]| {
            let counts = vec![("a".into(), counts[0]), ("b".into(), counts[1])];
            seen.note(counts, begun + Duration::from_secs(after), dead)
        };
        assert!(note(&mut seen, 0, [7, 1]).is_empty());
        assert!(note(&mut seen, 19, [7, 2]).is_empty());
        assert_eq!(note(&mut seen, 20, [7, 3]), [("a".into(), 7)]);
        assert!(note(&mut seen, 30, [8, 3]).is_empty(), "it is back");
        assert_eq!(note(&mut seen, 60, [9, 3]), [("b".into(), 3)]);
    }
}
