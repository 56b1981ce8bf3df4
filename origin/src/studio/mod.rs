//! The studio: a web page for people, served at `/`, with files of its own and no build step.
//!
//! It holds no key, secret or token. The session is a cookie that scripts cannot read; pictures are shown through
//! signed links from the images host, which is another origin.

mod assets;

use actix_web::http::header::{CACHE_CONTROL, InvalidHeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Serialize;

use crate::auth::guard::Guard;
use crate::infer::{MAX_IMAGES, MAX_PROMPT, ModelInfo};
use crate::pages::{FOR_EVER, Fence, HTML, ImagesOrigin, InvalidOrigin};
use crate::routes::other_methods;
use crate::startup::App;

/// Why the studio cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum StudioError {
    /// The address of the pictures.
    #[error("images.url: {0}")]
    Images(#[from] InvalidOrigin),
    /// A header's value.
    #[error("the studio's headers: {0}")]
    Header(#[from] InvalidHeaderValue),
    /// What the page is told about the models.
    #[error("the studio's facts: {0}")]
    Facts(#[from] serde_json::Error),
}

/// What the page has to know to offer only what the service can do. Public: it is served without a session.
#[derive(Debug, Serialize)]
struct About<'a> {
    models: Vec<ModelFacts<'a>>,
    max_prompt: usize,
    max_images: usize,
}

#[derive(Debug, Serialize)]
struct ModelFacts<'a> {
    name: &'a str,
    width: usize,
    height: usize,
    multiple: usize,
    min_side: usize,
    max_side: usize,
    guidance_scale: f32,
    steps: usize,
    max_steps: usize,
}

impl<'a> From<&'a ModelInfo> for ModelFacts<'a> {
    fn from(model: &'a ModelInfo) -> Self {
        Self {
            name: &model.name,
            width: model.width,
            height: model.height,
            multiple: model.multiple,
            min_side: model.min_side,
            max_side: model.max_side,
            guidance_scale: model.guidance_scale,
            steps: model.steps,
            max_steps: model.max_steps,
        }
    }
}

fn about<'a>(models: impl IntoIterator<Item = &'a ModelInfo>) -> serde_json::Result<Bytes> {
    let about = About {
        models: models.into_iter().map(ModelFacts::from).collect(),
        max_prompt: MAX_PROMPT,
        max_images: MAX_IMAGES,
    };
    serde_json::to_vec(&about).map(Bytes::from)
}

/// The page, put together once at start-up.
#[derive(Clone, Debug)]
pub struct Studio {
    version: String,
    page: Bytes,
    about: Bytes,
    fence: Fence,
}

impl Studio {
    /// The studio of a service that shows its pictures at `images_url` and runs these models, the first by default.
    ///
    /// # Errors
    /// [`StudioError::Images`] when the address is more than scheme, host and port.
    pub fn new<'a>(
        images_url: &str,
        models: impl IntoIterator<Item = &'a ModelInfo>,
    ) -> Result<Self, StudioError> {
        let version = assets::version();
        Ok(Self {
            page: assets::page(&version).into(),
            version,
            about: about(models)?,
            fence: Fence::new(Some(&ImagesOrigin::parse(images_url)?))?,
        })
    }

    /// What the models of the moment can do: they may change while the service runs.
    fn about_now(&self, app: Option<&App>) -> Bytes {
        let now = app.and_then(|app| about(&app.models()).ok());
        now.unwrap_or_else(|| self.about.clone())
    }
}

/// Routes of the page: `/` and `/studio/{version}/{file}`, GET and HEAD. Needs `web::Data<Studio>` in the app.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/")
                .route(web::get().open(page))
                .route(web::head().open(page))
                .default_service(other_methods("GET, HEAD")),
        )
        .service(
            web::resource("/studio/{version}/{file}")
                .route(web::get().open(file))
                .route(web::head().open(file))
                .default_service(other_methods("GET, HEAD")),
        );
}

async fn page(request: HttpRequest, studio: web::Data<Studio>) -> HttpResponse {
    studio
        .fence
        .answer(&request, HTML, "no-cache", studio.page.clone())
}

async fn file(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    studio: web::Data<Studio>,
    app: Option<web::Data<App>>,
) -> HttpResponse {
    let (version, name) = path.into_inner();
    if version == studio.version {
        // What a model can do may change without a new build.
        if name == "about.json" {
            return studio.fence.answer(
                &request,
                "application/json",
                "no-cache",
                studio.about_now(app.as_ref().map(|app| app.get_ref())),
            );
        }
        if let Some(asset) = assets::find(&name) {
            let body = Bytes::from_static(asset.text.as_bytes());
            return studio
                .fence
                .answer(&request, asset.content_type, FOR_EVER, body);
        }
    }
    HttpResponse::NotFound()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type(shared::problem::MEDIA_TYPE)
        .body(shared::problem::problem_json(
            shared::problem::NOT_FOUND,
            None,
            None,
        ))
}

#[cfg(test)]
mod tests;
