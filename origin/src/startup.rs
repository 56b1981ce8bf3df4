//! Putting the service together, and taking it apart.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::STRICT_TRANSPORT_SECURITY;
use actix_web::middleware::{Condition, DefaultHeaders, from_fn};
use actix_web::{App as ActixApp, HttpServer, web};
use futures_util::future::join_all;
use shared::keyring::Keyring;
use shared::referer::RefererPolicy;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

use crate::auth::guard::Guard;
use crate::auth::provider::Provider;
use crate::auth::session::Sessions;
use crate::auth::signin::SignIns;
use crate::auth::tokens::Tokens;
use crate::clock::Clock;
use crate::config::Settings;
use crate::edge_trust::Nonces;
use crate::infer::Engine;
use crate::jobs::{self, Jobs};
use crate::operator::{OperatorPage, Operators};
use crate::outbound::Outbound;
use crate::provenance::Provenance;
use crate::provider::Upstream;
use crate::publish::{LiveRing, Publisher};
use crate::quota::Limits;
use crate::revoke::Revoker;
use crate::schedule::Queue;
use crate::state::State;
use crate::storage::{Store, StoreError};
use crate::studio::Studio;
use crate::telemetry::trace::{self, Tracer};
use crate::telemetry::{Metrics, PromptHasher};
use crate::tls::redirect::{self, Targets};
use crate::tls::{HSTS, LiveCertificate};
use crate::upload::Uploads;
use crate::watch::Watch;
use crate::{images, middleware, routes};

/// Everything a handler may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Clock,
    /// What survives.
    pub state: State,
    /// Where pictures lie.
    pub store: Store,
    /// Access tokens.
    pub tokens: Tokens,
    /// Who people are.
    pub provider: Option<Provider>,
    /// Sign-ins on their way to the provider and back.
    pub sign_ins: SignIns,
    /// Studio sessions.
    pub sessions: Sessions,
    /// Rates and quotas.
    pub limits: Limits,
    /// The models.
    pub engine: Arc<Engine>,
    /// Whose turn it is.
    pub queue: Queue,
    /// A service elsewhere that makes pictures.
    pub upstream: Option<Upstream>,
    /// Images that strangers send.
    pub uploads: Uploads,
    /// Jobs under way.
    pub jobs: Jobs,
    /// Marks generated pictures, unless that is switched off.
    pub provenance: Option<Provenance>,
    /// Links.
    pub publisher: Publisher,
    /// Who may embed pictures.
    pub referers: Arc<RefererPolicy>,
    /// `Cross-Origin-Resource-Policy` of pictures.
    pub resource_policy: &'static str,
    /// The edge's keyring when nobody else is believed.
    pub edge_keys: Option<LiveRing>,
    /// Nonces of edge requests.
    pub nonces: Nonces,
    /// Prompts as the log knows them.
    pub prompt_hasher: Arc<PromptHasher>,
    /// What operators see.
    pub metrics: Metrics,
    /// Traces.
    pub tracer: Tracer,
    /// What operators watch live.
    pub watch: Watch,
    /// Operators who are signed in.
    pub operators: Operators,
    /// Told when something was decided that the edge must know.
    pub decided: Arc<Notify>,
    /// How many passwords are checked at once.
    pub password_checks: Arc<Semaphore>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// Password checks at once: each takes 19 MiB and tens of milliseconds of one core.
const PASSWORD_CHECKS: usize = 2;

/// Seconds that requests under way get when the service is told to stop.
const DRAIN_SECONDS: u64 = 8;

/// How long the headers of a request may take to arrive. A connection whose client stopped sending is over too: that
/// is how a job whose client left is noticed and cancelled.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// How often the live gauges are noted.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// What can go wrong before anything is bound.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// The link keyring: configured, or for the embedded service one made at the first start and kept beside the state.
pub(crate) fn configured_link_keys(settings: &Settings) -> Result<Keyring, StartError> {
    if let Some(ring) = settings.link_keys()? {
        return Ok(ring);
    }
    let file = own_link_keys(settings);
    if !file.exists() {
        let text = crate::cli::new_keyring("local");
        write_private(&file, text.expose())?;
    }
    crate::config::keyring("the kept link keys", None, Some(&file))?
        .ok_or_else(|| "no link keys".into())
}

/// Where the embedded service keeps the keyring that it made.
fn own_link_keys(settings: &Settings) -> PathBuf {
    settings.state.file.with_file_name("link-keys")
}

/// The file that holds the link keyring; none when it comes from a variable.
pub(crate) fn link_key_file(settings: &Settings) -> Option<PathBuf> {
    match (&settings.images.keys, &settings.images.keys_file) {
        (Some(_), _) => None,
        (None, Some(file)) => Some(file.clone()),
        (None, None) => Some(own_link_keys(settings)),
    }
}

/// Writes a file of mode 600, whole or not at all.
pub(crate) fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let partial = file.with_extension("partial");
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(partial, file)
}

/// What can be missing or broken, opened before any port is bound.
struct Parts {
    state: State,
    ring: Keyring,
    edge_keys: Option<Keyring>,
    store: Store,
    engine: Arc<Engine>,
}

impl Parts {
    async fn open(settings: &Settings) -> Result<Self, StartError> {
        let infer = settings.infer.clone();
        let engine = if infer.models.is_empty() && settings.provider.is_on() {
            Arc::new(Engine::empty())
        } else {
            Arc::new(tokio::task::spawn_blocking(move || Engine::load(&infer)).await??)
        };
        Ok(Self {
            state: State::open(&settings.state.file)?,
            ring: configured_link_keys(settings)?,
            edge_keys: settings.edge_keys()?,
            store: Store::open(&settings.storage).await?,
            engine,
        })
    }
}

impl App {
    /// Puts the parts together and settles what a crash left behind. The settings know the bound addresses by now.
    ///
    /// # Errors
    /// What is wrong and where.
    async fn open(settings: Settings, clock: Clock, parts: Parts) -> Result<Self, StartError> {
        let Parts {
            state,
            ring,
            edge_keys,
            store,
            engine,
        } = parts;
        let issuer = if settings.auth.issuer.is_empty() {
            settings.server.url()
        } else {
            settings.auth.issuer.clone()
        };
        let life = settings.auth.token_minutes * 60;
        let tokens = Tokens::open(
            &state,
            &issuer,
            &settings.auth.audience,
            life,
            clock.seconds(),
        )
        .await?;
        let metrics = Metrics::new()?;
        let told = &settings.telemetry;
        let is_traced = !told.otlp_endpoint.is_empty();
        let dropped = metrics.spans_dropped.clone();
        let (tracer, spans) =
            Tracer::new(is_traced, told.otlp_percent, dropped.clone(), clock.clone());
        if let Some(spans) = spans {
            let endpoint = told.otlp_endpoint.clone();
            tokio::spawn(trace::follow(spans, endpoint, Outbound::new()?, dropped));
        }
        let limits = if settings.state.url.is_empty() {
            Limits::open(&settings.limits, &settings.plans, &state, clock.nanos()).await?
        } else {
            Limits::shared(&settings.limits, &settings.plans, &settings.state)?
        };
        metrics.know_link_keys(ring.kids());
        let queue = Queue::start(
            Arc::clone(&engine),
            settings.queue.clone(),
            metrics.observer(),
        )?;
        let uploads = Uploads::new(settings.uploads.clone())?;
        let upstream = Upstream::open(&settings, &state, &clock, &uploads, metrics.observer())?;
        let referers = settings.images.referers(&settings.server.url())?;
        let images_url = settings.images.url();
        let app = Self {
            queue,
            upstream,
            jobs: Jobs::new(tokio::runtime::Handle::current()),
            publisher: Publisher::new(
                ring,
                &images_url,
                settings.images.link_seconds,
                settings.images.grain_seconds,
            ),
            resource_policy: referers.resource_policy(images_url.split("://").nth(1).unwrap_or("")),
            referers: Arc::new(referers),
            limits,
            uploads,
            provenance: Provenance::open(
                &settings.provenance,
                &settings.state.file.with_file_name("provenance.pem"),
                &clock,
            )?,
            provider: Provider::open(&settings.auth.provider)?,
            sign_ins: SignIns::default(),
            sessions: Sessions::new(settings.auth.session_hours * 3600),
            edge_keys: edge_keys
                .filter(|_| settings.edge.require)
                .map(LiveRing::new),
            nonces: Nonces::default(),
            prompt_hasher: Arc::new(PromptHasher::open(
                settings.telemetry.prompt_keys(&settings.state.file),
                clock.clone(),
            )?),
            tracer,
            watch: Watch::new(
                clock.clone(),
                settings.telemetry.collect,
                metrics.session_ips.clone(),
                metrics.user_generations.clone(),
            ),
            operators: Operators::default(),
            decided: Arc::default(),
            metrics,
            password_checks: Arc::new(Semaphore::new(PASSWORD_CHECKS)),
            settings: Arc::new(settings),
            clock,
            state,
            store,
            tokens,
            engine,
        };
        let again = jobs::settle(&app).await.map_err(|error| {
            error.log();
            format!("settling what was left open: {error}")
        })?;
        app.settle().await?;
        jobs::resume(&app, again);
        Ok(app)
    }

    /// Settles rows that a crash left between two steps: an object that is there is listed, a row without one goes, a
    /// deletion is finished.
    async fn settle(&self) -> Result<(), StartError> {
        for row in self.state.deleting_images().await? {
            images::remove_object(self, &row.key)
                .await
                .map_err(|error| format!("finishing a deletion: {error}"))?;
            self.state.remove_image(&row.user_id, &row.id).await?;
        }
        let pending = self.state.pending_images().await?;
        let (mut listed, mut dropped) = (0u32, 0u32);
        for row in pending {
            match self.store.head(&row.key).await {
                Ok(info) if info.size == row.bytes => {
                    self.state.commit_images(vec![row.id]).await?;
                    listed += 1;
                }
                Ok(_) | Err(StoreError::NotFound) => {
                    self.store.delete(&row.key).await?;
                    self.state.remove_image(&row.user_id, &row.id).await?;
                    dropped += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if listed + dropped > 0 {
            tracing::warn!(
                listed,
                dropped,
                "settled pictures that a crash left pending"
            );
        }
        Ok(())
    }
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

/// The addresses that were bound.
#[derive(Clone, Copy, Debug)]
struct Bound {
    public: SocketAddr,
    images: Option<SocketAddr>,
    operator: SocketAddr,
    redirect: Option<SocketAddr>,
}

/// Fixes port 0 by binding first, so that every address in the configuration is the real one.
fn bind(settings: &mut Settings) -> std::io::Result<[Option<std::net::TcpListener>; 4]> {
    let listen = |address: &mut SocketAddr| {
        let named = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{address}: {error}"))
        };
        let listener = std::net::TcpListener::bind(*address).map_err(named)?;
        listener.set_nonblocking(true)?;
        *address = listener.local_addr()?;
        Ok::<_, std::io::Error>(listener)
    };
    let public = listen(&mut settings.server.bind)?;
    let operator = listen(&mut settings.server.operator_bind)?;
    let images = if settings.images.deliver {
        Some(listen(&mut settings.images.bind)?)
    } else {
        None
    };
    let redirect = match &mut settings.server.tls.redirect_bind {
        Some(address) => Some(listen(address)?),
        None => None,
    };
    Ok([Some(public), images, Some(operator), redirect])
}

/// A server on a listener, within the bounds that all of them share.
macro_rules! listening {
    ($server:expr, $listener:expr, $tls:expr, $workers:expr) => {{
        let server = $server
            .shutdown_timeout(DRAIN_SECONDS)
            .h1_allow_half_closed(false)
            .client_request_timeout(HEADERS_WITHIN)
            .tls_handshake_timeout(HEADERS_WITHIN)
            .disable_signals();
        let tls: &Option<rustls::ServerConfig> = $tls;
        match tls {
            Some(config) => server.listen_rustls_0_23($listener, config.clone())?,
            None => server.listen($listener)?,
        }
        .workers($workers)
        .run()
    }};
}

/// Runs the service until SIGINT or SIGTERM.
///
/// # Errors
/// What is wrong and where.
pub async fn serve(mut settings: Settings, clock: Clock) -> Result<(), StartError> {
    let parts = Parts::open(&settings).await?;
    let revoker = Revoker::of(&settings)?;
    let certificate = settings.server.tls.files();
    let certificate = certificate.map(LiveCertificate::open).transpose()?;
    let [public, images, operator, plain] = bind(&mut settings)?;
    let bound = Bound {
        public: settings.server.bind,
        images: images.as_ref().map(|_| settings.images.bind),
        operator: settings.server.operator_bind,
        redirect: settings.server.tls.redirect_bind,
    };
    let ready_file = settings.server.ready_file.clone();
    let app = App::open(settings, clock, parts).await?;
    crate::sweep::regularly(&app);
    crate::catalogue::complain(&app);
    crate::catalogue::follow_hangups(app.clone())?;
    tokio::spawn(complain_when_public(app.clone()));
    crate::auth::tokens::follow(&app);
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
    let revoker = match (revoker, app.edge_keys.clone()) {
        (Some(revoker), Some(ring)) => Some(revoker.with(ring)),
        (revoker, _) => revoker,
    };
    let (queues, jobs) = (app.queues(), app.jobs.clone());
    let (state, clock, decided) = (
        app.state.clone(),
        app.clock.clone(),
        Arc::clone(&app.decided),
    );
    tokio::spawn(watch_regularly(app.clone()));
    let operator_page = web::Data::new(OperatorPage::new()?);
    let studio = web::Data::new(Studio::new(&app.settings.images.url(), &app.models())?);
    let tls = match certificate {
        Some(certificate) => {
            let config = certificate.config()?;
            certificate.show(&app.metrics);
            tokio::spawn(certificate.follow(app.metrics.clone()));
            Some(config)
        }
        None => None,
    };
    let is_tls = tls.is_some();
    let hsts = move || {
        Condition::new(
            is_tls,
            DefaultHeaders::new().add((STRICT_TRANSPORT_SECURITY, HSTS)),
        )
    };
    let targets = web::Data::new(Targets([
        app.settings.server.url(),
        app.settings.images.url(),
    ]));
    let data = web::Data::new(app);
    let mut servers = Vec::new();
    if let Some(listener) = public {
        let data = data.clone();
        let server = HttpServer::new(move || {
            ActixApp::new()
                .app_data(data.clone())
                .app_data(studio.clone())
                .wrap(from_fn(middleware::public))
                .wrap(hsts())
                .configure(routes::public)
        });
        servers.push(listening!(server, listener, &tls, 2));
    }
    if let Some(listener) = images {
        let data = data.clone();
        let server = HttpServer::new(move || {
            ActixApp::new()
                .app_data(data.clone())
                .wrap(from_fn(middleware::images))
                .wrap(hsts())
                .configure(routes::images)
        });
        servers.push(listening!(server, listener, &tls, 1));
    }
    if let Some(listener) = operator {
        let server = HttpServer::new(move || {
            ActixApp::new()
                .app_data(data.clone())
                .app_data(operator_page.clone())
                .wrap(from_fn(middleware::operator))
                .configure(routes::operator)
        });
        servers.push(listening!(server, listener, &None, 1));
    }
    if let Some(listener) = plain {
        let server = HttpServer::new(move || {
            ActixApp::new()
                .app_data(targets.clone())
                .default_service(web::route().open(redirect::send_on))
        });
        servers.push(listening!(server, listener, &None, 1));
    }
    if let Some(revoker) = revoker {
        jobs.spawn(revoker.keep_telling(state, clock, decided));
    }
    announce(&bound, &ready_file)?;
    run(servers, &queues, &jobs).await
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

fn announce(bound: &Bound, ready_file: &Path) -> std::io::Result<()> {
    let json = serde_json::json!({ "public": bound.public, "images": bound.images, "operator": bound.operator, "redirect": bound.redirect });
    tracing::info!(public = %bound.public, operator = %bound.operator, images = ?bound.images, "ready");
    if ready_file.as_os_str().is_empty() {
        Ok(())
    } else {
        write_private(ready_file, &json.to_string())
    }
}

/// In debug builds a test can have a handler panic (`SIGNET_TEST_PANIC_AT`), with a message that must not be seen.
#[cfg(debug_assertions)]
#[allow(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "not in release builds"
)]
pub fn panic_for_tests(point: &str, message: &str) {
    if std::env::var("SIGNET_TEST_PANIC_AT").is_ok_and(|wanted| wanted == point) {
        panic!("{message}");
    }
}

/// In debug builds a test can stop the service at a named point (`SIGNET_TEST_PAUSE_AT`), to kill it there.
#[cfg(debug_assertions)]
#[allow(clippy::disallowed_methods, reason = "not in release builds")]
pub async fn pause_for_tests(point: &str) {
    if std::env::var("SIGNET_TEST_PAUSE_AT").is_ok_and(|wanted| wanted == point) {
        tracing::warn!(point, "paused for a test");
        std::future::pending::<()>().await;
    }
}
