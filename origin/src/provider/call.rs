//! One job's call: ask, read, fetch, sanitise.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::{Request, Response, Uri, header};

use super::budget::Budget;
use super::key::LiveKey;
use super::settings::may_ask;
use super::wire::{self, Sent};
use super::{ProviderError, Settings};
use crate::infer::{ImageSpec, Pixels};
use crate::outbound::Outbound;
use crate::schedule::{JobError, Remote};
use crate::upload::{Stored, Uploads, Wanted};

/// How often a request is sent, where sending it again is safe.
const TRIES: u32 = 3;
/// Longest wait between two tries; a provider that wants more time gets none of the job's.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const AGENT: &str = "signet";

/// What calls need. Tells nothing of the key.
pub(super) struct Caller {
    pub(super) settings: Settings,
    pub(super) address: Uri,
    pub(super) http: Outbound,
    pub(super) key: LiveKey,
    pub(super) budget: Budget,
    /// Under the provider's limits, in the uploads' memory.
    pub(super) pictures: Uploads,
}

impl Remote for Caller {
    fn make(self: Arc<Self>, spec: ImageSpec) -> BoxFuture<'static, Result<Vec<Pixels>, JobError>> {
        async move { Ok(self.pictures(&spec).await?) }.boxed()
    }
}

impl Caller {
    async fn pictures(&self, spec: &ImageSpec) -> Result<Vec<Pixels>, ProviderError> {
        let until = Instant::now() + Duration::from_secs(self.settings.timeout_seconds);
        let spent = self.budget.take(spec.n).await?;
        let answer = match self.ask(spec, until).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.is_unbilled() {
                    spent.give_back();
                }
                return Err(error);
            }
        };
        let mut pictures = Vec::with_capacity(spec.n);
        let sent = wire::read(&answer, spec.n).map_err(ProviderError::Answer)?;
        drop(answer);
        let seeds = (0..).map(|i| spec.seed_of(i));
        for (picture, seed) in sent.into_iter().zip(seeds) {
            let file = match picture {
                Sent::File(file) => file,
                Sent::At(uri) => self.fetch(uri, until).await?,
            };
            pictures.push(self.sanitise(file, spec, seed).await?);
        }
        Ok(pictures)
    }

    /// Asks until there is an answer, it is not safe to ask again, or time is up.
    async fn ask(&self, spec: &ImageSpec, until: Instant) -> Result<Bytes, ProviderError> {
        let body = wire::request(&self.settings, spec);
        let mut tries = 1;
        loop {
            let error = match self.ask_once(body.clone(), until).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = match error.retry_after() {
                Some(seconds) if matches!(error, ProviderError::Busy { .. }) => {
                    Duration::from_secs(seconds)
                }
                _ => Duration::from_millis(250 << tries),
            };
            if tries == TRIES || !error.is_safe_again() || pause > LONGEST_PAUSE.min(left(until)) {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }

    async fn ask_once(&self, body: Bytes, until: Instant) -> Result<Bytes, ProviderError> {
        let mut request = Request::post(self.address.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, AGENT);
        if let Some(key) = self.key.authorization() {
            request = request.header(header::AUTHORIZATION, key);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| ProviderError::Answer("the request cannot be written"))?;
        let answer = self
            .http
            .send(request, left(until), self.settings.answer_mib << 20)
            .await?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        Err(ProviderError::of_status(
            answer.status().as_u16(),
            retry_after(&answer),
        ))
    }

    /// A picture from where the provider put it: another host, perhaps, which is sent no key and trusted with nothing.
    async fn fetch(&self, uri: Uri, until: Instant) -> Result<Bytes, ProviderError> {
        if !may_ask(&uri, self.settings.allow_loopback) {
            return Err(ProviderError::Answer("a picture's address is not https"));
        }
        let request = Request::get(uri)
            .header(header::ACCEPT, "image/*")
            .header(header::USER_AGENT, AGENT)
            .body(Full::default())
            .map_err(|_| ProviderError::Answer("a picture's address is none"))?;
        let at_most =
            usize::try_from(self.pictures.settings().image.max_bytes).unwrap_or(usize::MAX);
        let answer = self
            .http
            .send(request, left(until), at_most)
            .await
            .map_err(|error| {
                tracing::warn!(%error, "a provider's picture could not be fetched");
                match ProviderError::from(error) {
                    ProviderError::Late => ProviderError::Late,
                    _ => ProviderError::Answer("a picture cannot be fetched"),
                }
            })?;
        if answer.status() != 200 {
            return Err(ProviderError::Answer("a picture is not at its address"));
        }
        Ok(answer.into_body())
    }

    /// No byte that a provider sent is stored: the file is decoded behind the walls for uploads, drawn anew, and
    /// brought to the size that was asked for.
    async fn sanitise(
        &self,
        file: Bytes,
        spec: &ImageSpec,
        seed: u64,
    ) -> Result<Pixels, ProviderError> {
        let refused = |error: crate::upload::UploadError| ProviderError::Picture(error.code());
        let clean = self.pictures.sanitise(file).await.map_err(refused)?;
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let wanted = Wanted {
            width: side(spec.width),
            height: side(spec.height),
        };
        let drawn = Stored {
            width: clean.width,
            height: clean.height,
            bytes: clean.png.len() as u64,
        };
        let drawn = self.pictures.to_rgb(drawn, ready(Ok(clean.png)), wanted);
        let rgb = drawn.await.map_err(refused)?;
        Ok(Pixels {
            width: spec.width,
            height: spec.height,
            rgb,
            seed,
        })
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// `Retry-After` in seconds; a date counts as none.
fn retry_after(answer: &Response<Bytes>) -> Option<u64> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok()
}
