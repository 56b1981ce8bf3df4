//! Putting the service together ([`App`]), looking after it while it serves, and taking it apart.

mod app;
mod keys;
mod listeners;
#[cfg(debug_assertions)]
mod test_points;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use futures_util::future::join_all;
use rustls::ServerConfig;
use shared::keyring::Keyring;
use tokio::signal::unix::{SignalKind, signal};

pub use app::App;
use app::Parts;
pub(crate) use keys::{configured_link_keys, link_key_file, write_private};
use listeners::{Listeners, announce};
#[cfg(debug_assertions)]
pub use test_points::{beat_for_tests, panic_for_tests, pause_for_tests};

use crate::clock::Clock;
use crate::config::Settings;
use crate::jobs::{self, Jobs};
use crate::revoke::Revoker;
use crate::schedule::Queue;
use crate::tls::LiveCertificate;

/// Seconds that requests under way get when the service is told to stop.
const DRAIN_SECONDS: u64 = 8;

/// How often the live gauges are noted.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// What can go wrong before anything is served.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the service until SIGINT or SIGTERM.
///
/// # Errors
/// What is wrong and where.
pub async fn serve(mut settings: Settings, clock: Clock) -> Result<(), StartError> {
    let parts = Parts::open(&settings).await?;
    let revoker = Revoker::of(&settings)?;
    let certificate = settings.server.tls.files();
    let certificate = certificate.map(LiveCertificate::open).transpose()?;
    let (listeners, bound) = Listeners::bind(&mut settings)?;
    let ready_file = settings.server.ready_file.clone();
    let app = App::open(settings, clock, parts).await?;
    if let Some(provider) = &app.provider {
        provider.check(app.clock.seconds()).await?;
    }
    look_after(&app)?;
    let tls = follow_certificate(certificate, &app)?;
    let (queues, jobs, state) = (app.queues(), app.jobs.clone(), app.state.clone());
    let telling = revoker.map(|revoker| {
        let revoker = match app.edge_keys.clone() {
            Some(ring) => revoker.with(ring),
            None => revoker,
        };
        let decided = Arc::clone(&app.decided);
        let told = app.metrics.health.edge_told.clone();
        revoker.keep_telling(app.state.clone(), app.clock.clone(), decided, told)
    });
    let servers = listeners.serve(app, tls.as_ref())?;
    if let Some(telling) = telling {
        jobs.spawn(telling);
    }
    announce(&bound, &ready_file)?;
    run(servers, &queues, &jobs).await?;
    if state.is_shared() {
        // What was handed back is the others' at once.
        state.leave_list().await?;
    }
    Ok(())
}

/// Begins what goes on beside the requests: sweeping, tidying, and following files that operators change.
fn look_after(app: &App) -> Result<(), StartError> {
    crate::sweep::regularly(app);
    crate::catalogue::complain(app);
    crate::catalogue::follow_hangups(app.clone())?;
    tokio::spawn(complain_when_public(app.clone()));
    crate::auth::tokens::follow(app);
    app.limits.tidy_regularly(app.clock.clone());
    if let Some(file) = link_key_file(&app.settings) {
        let ring = app.publisher.ring.clone();
        let metrics = app.metrics.clone();
        let know = move |ring: &Keyring| metrics.know_link_keys(ring.kids());
        tokio::spawn(ring.follow(file, "the link keys", know));
    }
    if let (Some(ring), Some(file)) = (&app.edge_keys, &app.settings.edge.keys_file) {
        tokio::spawn(ring.clone().follow(file.clone(), "the edge keys", |_| {}));
    }
    tokio::spawn(Arc::clone(&app.prompt_hasher).follow());
    tokio::spawn(watch_regularly(app.clone()));
    tokio::spawn(jobs::forget_regularly(app.clone()));
    tokio::spawn(crate::revoke::follow(app.clone()));
    if app.state.is_shared() {
        tokio::spawn(jobs::take_over(app.clone()));
        tokio::spawn(jobs::cancel_what_is_asked(app.clone()));
    }
    Ok(())
}

/// TLS under a certificate that is followed, where there is one.
fn follow_certificate(
    certificate: Option<LiveCertificate>,
    app: &App,
) -> Result<Option<ServerConfig>, StartError> {
    let Some(certificate) = certificate else {
        return Ok(None);
    };
    let config = certificate.config()?;
    certificate.show(&app.metrics);
    tokio::spawn(certificate.follow(app.metrics.clone()));
    Ok(Some(config))
}

/// A bucket that strangers can read makes every check of ours pointless. Told beside the start, which does not wait.
async fn complain_when_public(app: App) {
    match crate::storage::exposure::exposure(&app.settings.storage, &app.store).await {
        Ok(found) => {
            if let Some(complaint) = found.complaint() {
                tracing::error!("{complaint}");
            }
        }
        Err(error) => tracing::warn!(%error, "whether the bucket is public could not be found out"),
    }
}

/// Looks at what only shows when somebody looks.
async fn watch_regularly(app: App) {
    let mut looks = 0u32;
    loop {
        // The sum over all users is worth a look a minute.
        let stored = if looks.is_multiple_of(6) {
            app.state.stored_bytes().await.ok()
        } else {
            None
        };
        looks = looks.wrapping_add(1);
        app.watch.tick(stored, app.queued());
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Serves until told to stop. Then what waits is handed back at once, and what runs is finished.
async fn run(servers: Vec<Server>, queues: &[Queue], jobs: &Jobs) -> Result<(), StartError> {
    let handles: Vec<_> = servers.iter().map(Server::handle).collect();
    let mut serving = pin!(join_all(servers));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drain = Duration::from_secs(DRAIN_SECONDS);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // A listener that ends by itself ends the service.
        _ = &mut serving => return Err("a listener ended by itself".into()),
    }
    tracing::info!("stopping");
    let listeners = join_all(handles.iter().map(|handle| handle.stop(true)));
    let stopped = join_all(queues.iter().map(|queue| queue.stop(drain)));
    let (_, _, ended) = tokio::join!(stopped, listeners, serving);
    jobs.drained(drain).await;
    ended.into_iter().collect::<std::io::Result<Vec<()>>>()?;
    Ok(())
}
