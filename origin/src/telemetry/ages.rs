//! How old the keys are that sign or hash now.

use crate::config::key_file_time;
use crate::startup::{App, link_key_file};
use crate::state::StateError;

/// The kinds of keys, as the label `kind` names them.
pub const KINDS: [&str; 4] = ["link", "edge", "token", "prompt"];

/// Brings `signet_key_age_seconds` up to date. A keyring says nothing of when its keys were made: what counts is when
/// one was first seen to sign, or for the first one ever seen when its file was written.
///
/// # Errors
/// The state's own.
pub async fn measure(app: &App) -> Result<(), StateError> {
    let now = app.clock.seconds();
    let set = |kind: &str, since: u64| {
        let age = now.saturating_sub(since);
        app.metrics
            .key_age
            .with_label_values(&[kind])
            .set(age as f64);
    };
    let link = app.publisher.ring.get().signing().kid().to_owned();
    let written = link_key_file(&app.settings).and_then(|file| key_file_time(&file));
    set(
        "link",
        app.state
            .key_seen("link", &link, now, written.unwrap_or(now))
            .await?,
    );
    if let Some(ring) = &app.edge_keys {
        let edge = ring.get().signing().kid().to_owned();
        let file = app.settings.edge.keys_file.as_deref();
        let written = file.and_then(key_file_time);
        set(
            "edge",
            app.state
                .key_seen("edge", &edge, now, written.unwrap_or(now))
                .await?,
        );
    }
    if let Some(since) = app.tokens.signing_since(now) {
        set("token", since);
    }
    set("prompt", app.prompt_hasher.since());
    Ok(())
}
