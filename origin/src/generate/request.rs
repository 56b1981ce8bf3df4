//! What a client may ask for, field by field.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpMessage, HttpRequest};
use serde::Deserialize;

use super::reference::{Asked, Reference};
use crate::error::ApiError;
use crate::infer::{Format, ImageSpec, MAX_SEED, price, reading};
use crate::json::read_json;
use crate::startup::App;

/// The seed that asks for a random one, as other services write it.
const RANDOM: i64 = -1;

/// Body of `POST /api/generate`. What is left out takes the model's default; the seed, a random one.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateBody {
    prompt: String,
    #[serde(default)]
    negative_prompt: Option<String>,
    #[serde(default)]
    width: Option<usize>,
    #[serde(default)]
    height: Option<usize>,
    #[serde(default)]
    steps: Option<usize>,
    #[serde(default)]
    guidance_scale: Option<f32>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    n: Option<usize>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    init_image: Option<String>,
    #[serde(default)]
    strength: Option<f32>,
    #[serde(default)]
    mask: Option<String>,
}

/// A request that the model can carry out.
#[derive(Debug)]
pub struct JobSpec {
    /// What to make; the picture to start from is read later.
    pub spec: ImageSpec,
    /// What to start from.
    pub reference: Option<Reference>,
    /// How to encode it.
    pub format: Format,
}

impl JobSpec {
    /// See [`price`]; a picture to start from saves steps.
    pub fn cost_milliunits(&self) -> u64 {
        price(&self.probe(), &self.references())
    }

    /// The part of it that is due once the pictures to start from are read.
    pub(super) fn reading_milliunits(&self) -> u64 {
        reading(&self.spec, &self.references())
    }

    /// Pixels of each picture to start from, as it is stored.
    fn references(&self) -> Vec<u64> {
        self.reference
            .as_ref()
            .map_or_else(Vec::new, Reference::pixels)
    }

    /// What runs, as far as it is known before pictures to start from are read.
    pub(super) fn probe(&self) -> ImageSpec {
        let spec = self.spec.clone();
        let reference = self.reference.as_ref();
        let steps = reference.map_or(spec.steps, |reference| reference.steps_run(spec.steps));
        ImageSpec { steps, ..spec }
    }
}

/// Validates every field against the model.
///
/// # Errors
/// `invalid_request` naming the field, `unknown_model`, `not_found` for uploads.
pub(super) async fn read(
    request: &HttpRequest,
    body: &[u8],
    app: &App,
    user: &str,
) -> Result<JobSpec, ApiError> {
    let is_json = request
        .content_type()
        .eq_ignore_ascii_case("application/json");
    // Fronts join two of them into one that is no type at all.
    let is_one = request.headers().get_all(CONTENT_TYPE).count() == 1;
    if !is_json || !is_one {
        return Err(ApiError::Invalid(
            "the body must be application/json".into(),
        ));
    }
    parse(body, None, app, user).await
}

/// Reads and validates a body that is known to be JSON; `seed` is the one drawn for it before, if it was.
///
/// # Errors
/// As [`read`].
pub(super) async fn parse(
    body: &[u8],
    seed: Option<u64>,
    app: &App,
    user: &str,
) -> Result<JobSpec, ApiError> {
    let body: GenerateBody = read_json(body)?;
    if body.prompt.trim().is_empty() {
        return Err(ApiError::Invalid("prompt is empty".into()));
    }
    if body.prompt.contains('\0') {
        return Err(ApiError::Invalid("prompt holds a NUL character".into()));
    }
    let wrong = || ApiError::Invalid(format!("seed must be -1 (random) or 0 to {MAX_SEED}"));
    let seed = match body.seed {
        None | Some(RANDOM) => seed.unwrap_or_else(|| rand::random::<u64>() & 0xffff_ffff),
        Some(seed) => u64::try_from(seed).map_err(|_| wrong())?,
    };
    if seed > MAX_SEED {
        return Err(wrong());
    }
    let format = match body.format.as_deref() {
        None => Format::Png,
        Some(name) => Format::parse(name)
            .ok_or_else(|| ApiError::Invalid("format must be png, webp or jpeg".into()))?,
    };
    let model = app.model(body.model.as_deref().unwrap_or(""))?;
    let base = model.spec(&body.prompt, seed);
    let spec = ImageSpec {
        negative_prompt: body.negative_prompt.unwrap_or_default(),
        width: body.width.unwrap_or(base.width),
        height: body.height.unwrap_or(base.height),
        steps: body.steps.unwrap_or(base.steps),
        guidance_scale: body.guidance_scale.unwrap_or(base.guidance_scale),
        n: body.n.unwrap_or(1),
        ..base
    };
    model.validate(&spec)?;
    app.check_for_provider(&spec)?;
    let asked = Asked {
        init_image: body.init_image,
        mask: body.mask,
        strength: body.strength,
    };
    let reference = asked.find(app, user, &model, &spec).await?;
    Ok(JobSpec {
        spec,
        reference,
        format,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(body: &str) -> String {
        match read_json::<GenerateBody>(body.as_bytes()) {
            Err(ApiError::Invalid(text)) => text,
            other => panic!("{:?}", other.map(|_| ()).map_err(|error| error.to_string())),
        }
    }

    #[test]
    fn unknown_fields_are_named_and_values_are_not() {
        assert!(told(r#"{"prompt":"x","stepz":3}"#).contains("stepz"));
        let two = told(r#"{"stepz":3,"prompt":"x","a`b":{"c":"secret words"}}"#);
        assert!(
            two.starts_with("unknown fields ") && two.contains("`stepz`") && two.contains("`a`b`"),
            "{two}"
        );
        assert!(
            !two.contains("secret") && two.contains("expected `prompt`, "),
            "{two}"
        );
        assert!(told("{}").contains("prompt"));
        assert!(!told(r#"{"prompt":"x","width":"secret words"}"#).contains("secret"));
        assert!(!told(r#"{"prompt":"secret words"#).contains("secret"));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in ".{0,80}|\\{\"prompt\":\"x\",\"[a-z_]{1,8}\":[0-9a-z\"\\[\\]{}.-]{0,12}\\}") {
            let _ = read_json::<GenerateBody>(body.as_bytes());
        }
    }
}
