//! What handlers share, opened part by part. What a crash left between two steps is settled before anything is served.

use std::sync::Arc;

use shared::keyring::Keyring;
use shared::referer::RefererPolicy;
use tokio::sync::Notify;

use super::StartError;
use super::keys::configured_link_keys;
use crate::auth::clients::SecretChecks;
use crate::auth::provider::Provider;
use crate::auth::session::Sessions;
use crate::auth::tokens::Tokens;
use crate::clock::Clock;
use crate::config::Settings;
use crate::edge_trust::Nonces;
use crate::error::ApiError;
use crate::images;
use crate::infer::{Engine, Engines};
use crate::jobs::{self, Jobs};
use crate::outbound::Outbound;
use crate::provenance::Provenance;
use crate::provider::Upstream;
use crate::publish::{LiveRing, Publisher};
use crate::quota::Limits;
use crate::revoke::Blocked;
use crate::schedule::{Cards, Queue};
use crate::state::State;
use crate::state::images::ImageRow;
use crate::storage::{Store, StoreError};
use crate::telemetry::trace::{self, Tracer};
use crate::telemetry::{Metrics, PromptHasher};
use crate::upload::Uploads;
use crate::watch::Watch;

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
    /// Studio sessions.
    pub sessions: Sessions,
    /// Rates and quotas.
    pub limits: Limits,
    /// The models.
    pub engine: Arc<Engines>,
    /// Whose turn it is.
    pub cards: Cards<Engine>,
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
    /// Told when something was decided that the edge must know.
    pub decided: Arc<Notify>,
    /// Which addresses are closed out.
    pub blocked: Blocked,
    /// Checks of clients' secrets.
    pub secret_checks: SecretChecks,
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engines")
    }
}

/// What can be missing or broken, opened before any port is bound.
pub(super) struct Parts {
    state: State,
    ring: Keyring,
    edge_keys: Option<Keyring>,
    store: Store,
    engine: Arc<Engines>,
}

impl Parts {
    /// Opens them.
    ///
    /// # Errors
    /// What is wrong and where.
    pub(super) async fn open(settings: &Settings) -> Result<Self, StartError> {
        let infer = settings.infer.clone();
        let engine = if infer.models.is_empty() && settings.provider.is_on() {
            Arc::new(Engines::empty())
        } else {
            Arc::new(tokio::task::spawn_blocking(move || Engines::load(&infer)).await??)
        };
        Ok(Self {
            state: State::of(&settings.state)?,
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
    pub(super) async fn open(
        settings: Settings,
        clock: Clock,
        parts: Parts,
    ) -> Result<Self, StartError> {
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
        let server = limits.server();
        if let Some(server) = server.clone() {
            metrics.health.repeats.share(server);
        }
        metrics.know_link_keys(ring.kids());
        let cards = Cards::start(engine.each().cloned(), |engine| {
            Queue::start(engine, settings.queue.clone(), metrics.observer())
        })?;
        let uploads = Uploads::new(settings.uploads.clone())?;
        let upstream = Upstream::open(&settings, &state, &clock, &uploads, metrics.observer())?;
        let referers = settings.images.referers(&settings.server.url())?;
        let images_url = settings.images.url();
        let app = Self {
            cards,
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
            sessions: Sessions::new(state.clone(), settings.auth.session_hours * 3600),
            edge_keys: edge_keys
                .filter(|_| settings.edge.require)
                .map(LiveRing::new),
            nonces: Nonces::shared(server.clone()),
            prompt_hasher: Arc::new(
                PromptHasher::open_with(
                    server,
                    settings.telemetry.prompt_keys(&settings.state.file),
                    clock.clone(),
                )
                .await?,
            ),
            tracer,
            watch: Watch::new(
                clock.clone(),
                settings.telemetry.collect,
                metrics.session_ips.clone(),
                metrics.user_generations.clone(),
            ),
            decided: Arc::default(),
            blocked: Blocked::default(),
            metrics,
            secret_checks: SecretChecks::default(),
            settings: Arc::new(settings),
            clock,
            state,
            store,
            tokens,
            engine,
        };
        if app.state.is_shared() {
            app.state.beat().await?;
            tokio::spawn(jobs::beat_regularly(app.state.clone()));
        } else {
            app.state.live_alone().await?;
        }
        let settling = |error: ApiError| {
            error.log();
            format!("settling what was left open: {error}")
        };
        let again = jobs::settle(&app).await.map_err(settling)?;
        app.settle().await.map_err(settling)?;
        jobs::resume(&app, again);
        Ok(app)
    }

    /// Settles rows that a crash left between two steps: an object that is there is listed, a row without one goes, a
    /// deletion is finished.
    ///
    /// # Errors
    /// State or store do not answer.
    pub(crate) async fn settle(&self) -> Result<(), ApiError> {
        let (pending, deleting) = self.state.adopt_images().await?;
        let (mut listed, mut dropped) = (0u32, 0u32);
        let rows = pending.into_iter().map(|row| (row, false));
        for (row, is_to_go) in rows.chain(deleting.into_iter().map(|row| (row, true))) {
            match self.settle_picture(&row, is_to_go).await {
                Ok(true) => listed += 1,
                Ok(false) => dropped += 1,
                // As with a job.
                Err(error) if self.state.is_shared() => {
                    error.log();
                    self.state.let_go(&row.id).await?;
                }
                Err(error) => return Err(error),
            }
        }
        if listed + dropped > 0 {
            tracing::warn!(
                listed,
                dropped,
                "settled pictures that were left between two steps"
            );
        }
        Ok(())
    }

    /// Whether the picture is listed from now on; else it is gone.
    async fn settle_picture(&self, row: &ImageRow, is_to_go: bool) -> Result<bool, ApiError> {
        let is_whole = match self.store.head(&row.key).await {
            Ok(info) => info.size == row.bytes,
            Err(StoreError::NotFound) => false,
            Err(error) => return Err(error.into()),
        };
        if is_whole && !is_to_go {
            self.state.commit_images(vec![row.id.clone()]).await?;
            return Ok(true);
        }
        images::remove_object(self, &row.key).await?;
        self.state.remove_image(&row.user_id, &row.id).await?;
        Ok(false)
    }
}
