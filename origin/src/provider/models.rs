//! The provider's model beside the engine's ones: one list of names, and whose turn each one's jobs take.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::ProviderError;
use super::budget::Budget;
use super::call::Caller;
use super::key::LiveKey;
use crate::clock::Clock;
use crate::config;
use crate::error::ApiError;
use crate::infer::{ImageSpec, InferError, ModelInfo};
use crate::outbound::Outbound;
use crate::schedule::{Observer, Queue};
use crate::startup::{App, StartError};
use crate::state::State;
use crate::upload::{Limits, Uploads};

/// A provider that is configured. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    info: Arc<ModelInfo>,
    sizes: Arc<[(usize, usize)]>,
    max_images: usize,
    budget: Budget,
    queue: Queue,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.info.name)
    }
}

impl Upstream {
    /// The configured provider, if there is one, with its queue; its key file is followed from now on.
    ///
    /// # Errors
    /// A setting that cannot work, or a system that gives no thread.
    pub fn open(
        settings: &config::Settings,
        state: &State,
        clock: &Clock,
        uploads: &Uploads,
        observer: Observer,
    ) -> Result<Option<Self>, StartError> {
        let (all, settings) = (settings, &settings.provider);
        if !settings.is_on() {
            return Ok(None);
        }
        let sizes = settings.dimensions()?;
        let key = LiveKey::open(settings)?;
        if let Some(file) = &settings.key_file {
            key.clone().follow(file.clone())?;
        }
        let budget = Budget {
            state: state.clone(),
            clock: clock.clone(),
            price: settings.price_micros()?,
            per_day: settings.budget_micros()?,
        };
        if budget.per_day.is_none() {
            tracing::warn!(
                "provider.budget_day is not set: only the users' own limits bound what is spent"
            );
        }
        let largest = (settings.answer_mib as u64) << 20;
        let limits = Limits {
            max_bytes: largest,
            ..uploads.settings().image
        };
        let caller = Caller {
            address: settings.address()?,
            http: Outbound::reaching(
                settings.reach(),
                Some(Duration::from_secs(settings.connect_seconds)),
            )?,
            key,
            budget: budget.clone(),
            pictures: uploads.with_limits(limits)?,
            settings: settings.clone(),
        };
        let queue = Queue::start_remote(
            Arc::new(caller),
            settings.parallel,
            all.queue.clone(),
            observer,
            Handle::current(),
        )?;
        let (width, height) = sizes.first().copied().unwrap_or((1024, 1024));
        let sides = || sizes.iter().flat_map(|&(width, height)| [width, height]);
        let info = ModelInfo {
            name: settings.public_name().to_owned(),
            width,
            height,
            multiple: 1,
            min_side: sides().min().unwrap_or(width),
            max_side: sides().max().unwrap_or(width),
            guidance_scale: 1.0,
            steps: settings.steps,
            max_steps: settings.steps,
            takes_image: false,
            scheduler: "provider",
        };
        Ok(Some(Self {
            info: Arc::new(info),
            sizes: sizes.into(),
            max_images: settings.max_images,
            budget,
            queue,
        }))
    }

    /// What the model can do.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Refuses what the provider would not be told.
    fn check(&self, spec: &ImageSpec) -> Result<(), InferError> {
        let bad = |field, reason: String| Err(InferError::BadSpec { field, reason });
        if !self.sizes.contains(&(spec.width, spec.height)) {
            let sizes = self
                .sizes
                .iter()
                .map(|(width, height)| format!("{width}x{height}"));
            let sizes = sizes.collect::<Vec<_>>().join(", ");
            return bad("width", format!("and height must be one of {sizes}"));
        }
        if spec.steps != self.info.steps {
            return bad("steps", format!("is {} with this model", self.info.steps));
        }
        if spec.guidance_scale != self.info.guidance_scale {
            return bad("guidance_scale", "is not taken by this model".into());
        }
        if !spec.negative_prompt.is_empty() {
            return bad("negative_prompt", "is not taken by this model".into());
        }
        if spec.n > self.max_images {
            return bad("n", format!("must be from 1 to {}", self.max_images));
        }
        Ok(())
    }
}

impl App {
    fn upstream_of(&self, model: &str) -> Option<&Upstream> {
        let upstream = self.upstream.as_ref();
        upstream.filter(|upstream| upstream.info.name == model)
    }

    /// All models; the first is the default one. The engine's come before the provider's.
    pub fn models(&self) -> Vec<ModelInfo> {
        let mut models = self.engine.models();
        if let Some(upstream) = &self.upstream {
            models.retain(|model| model.name != upstream.info.name);
            models.push(upstream.info.as_ref().clone());
        }
        models
    }

    /// The model of that name, or the default one for an empty name.
    ///
    /// # Errors
    /// `unknown_model`.
    pub fn model(&self, name: &str) -> Result<ModelInfo, InferError> {
        match self.upstream_of(name) {
            Some(upstream) => Ok(upstream.info.as_ref().clone()),
            None => self.engine.model(name).or_else(|error| {
                let default = self.upstream.as_ref().filter(|_| name.is_empty());
                default
                    .map(|upstream| upstream.info.as_ref().clone())
                    .ok_or(error)
            }),
        }
    }

    /// Refuses what the provider cannot do, where the model is the provider's.
    ///
    /// # Errors
    /// `invalid_request` naming the field.
    pub fn check_for_provider(&self, spec: &ImageSpec) -> Result<(), InferError> {
        self.upstream_of(&spec.model)
            .map_or(Ok(()), |upstream| upstream.check(spec))
    }

    /// Refuses what the provider's budget has no room for, before anybody is charged.
    ///
    /// # Errors
    /// `provider_budget`.
    pub async fn check_budget(&self, spec: &ImageSpec) -> Result<(), ApiError> {
        match self.upstream_of(&spec.model) {
            Some(upstream) => upstream.budget.check(spec.n).await.map_err(ApiError::from),
            None => Ok(()),
        }
    }

    /// The queue where such a job of that user ends first.
    ///
    /// # Errors
    /// `unknown_model`.
    pub fn queue_for(
        &self,
        spec: &ImageSpec,
        user: &str,
        weight: u32,
    ) -> Result<&Queue, InferError> {
        let ours = || self.cards.best(spec, user, weight);
        let queue = match self.upstream_of(&spec.model) {
            Some(upstream) => Some(&upstream.queue),
            None => ours(),
        };
        queue.ok_or_else(|| InferError::UnknownModel(spec.model.clone()))
    }

    /// Every queue.
    pub fn queues(&self) -> Vec<Queue> {
        let upstream = self.upstream.iter().map(|upstream| upstream.queue.clone());
        self.cards.queues().cloned().chain(upstream).collect()
    }

    /// Jobs that wait.
    pub fn queued(&self) -> usize {
        self.queues().iter().map(|queue| queue.stats().queued).sum()
    }
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::State(error) => Self::State(error),
            error => Self::Provider(error),
        }
    }
}
