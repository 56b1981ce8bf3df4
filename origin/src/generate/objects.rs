//! A job's or an upload's objects, written behind their pending rows.

use bytes::Bytes;

use super::observe::seconds_since;
use crate::error::ApiError;
use crate::images::remove_object;
use crate::startup::App;
use crate::state::images::ImageRow;

/// Reserves the rows and their bytes and writes the objects; the rows are left pending for the caller to list. What was
/// written is taken back when not all can be.
pub(crate) async fn store_objects(
    app: &App,
    rows: &[ImageRow],
    objects: Vec<Bytes>,
) -> Result<(), ApiError> {
    let Some(owner) = rows.first().map(|row| row.user_id.as_str()) else {
        return Ok(());
    };
    let limit = app
        .limits
        .allowance(&app.state.user(owner).await?)
        .storage_bytes;
    app.state.reserve_images(rows.to_vec(), limit).await?;
    let begun = app.clock.nanos();
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("reserved").await;
    for (row, bytes) in rows.iter().zip(objects) {
        if let Err(error) = app.store.put(&row.key, bytes).await {
            // What cannot be undone now stays pending, and is settled at the next start.
            for row in rows {
                if remove_object(app, &row.key).await.is_ok() {
                    let _ = app.state.remove_image(&row.user_id, &row.id).await;
                }
            }
            return Err(error.into());
        }
    }
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("stored").await;
    app.metrics
        .stage
        .with_label_values(&["store"])
        .observe(seconds_since(app, begun));
    Ok(())
}

/// A UUID of version 7 (RFC 9562) at this time: ids of one user sort by age.
pub(crate) fn uuid_v7(millis: u64) -> String {
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random::<[u8; 10]>())
        .into_uuid()
        .to_string()
}
