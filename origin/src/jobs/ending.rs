//! The one way in which a job ends.

use crate::quota::Reservation;
use crate::startup::App;
use crate::state::StateError;
use crate::state::jobs::JobEnd;

/// Ends an open job: its end, its charge and its pictures are written down in one transaction, then the counts follow.
/// False when it is not open, or not this process's any more: then all stays as it is, and the charge is its owner's.
///
/// # Errors
/// The state's own; the job stays open then.
pub(crate) async fn end(
    app: &App,
    id: &str,
    end: JobEnd,
    reservation: &mut Reservation,
) -> Result<bool, StateError> {
    if matches!(end, JobEnd::Done { .. }) {
        reservation.worked(1, 1);
    }
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("ending").await;
    let now = app.clock.seconds();
    let ended = app.state.end_job(id, end, reservation.kept(), now).await?;
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("ended").await;
    if ended {
        reservation.settled();
    }
    Ok(ended)
}
