//! The operator's page: what is seen live, with its own small charts. Files of its own, no build step, no library.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, InvalidHeaderValue, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::Operator;
use crate::error::{ApiError, answer};
use crate::pages::{self, Asset, CSS, FOR_EVER, Fence, HTML, JS};

macro_rules! assets {
    ($($name:literal: $content_type:expr, $file:literal);* $(;)?) => {
        &[$(Asset { name: $name, content_type: $content_type, text: include_str!($file) }),*]
    };
}

/// All files but the page itself.
const ASSETS: &[Asset] = assets![
    "app.js": JS, "page/app.js";
    "api.js": JS, "page/api.js";
    "chart.js": JS, "page/chart.js";
    "format.js": JS, "page/format.js";
    "lists.js": JS, "page/lists.js";
    "actions.js": JS, "page/actions.js";
    "dom.js": JS, "../studio/page/dom.js";
    "operator.css": CSS, "page/operator.css";
    "icon.svg": "image/svg+xml", "../studio/page/icon.svg";
];

/// The page; `/operator/VERSION/` stands for the folder.
const PAGE: &str = include_str!("page/index.html");

/// The page, put together once at start-up.
#[derive(Clone, Debug)]
pub struct OperatorPage {
    version: String,
    page: Bytes,
    fence: Fence,
}

impl OperatorPage {
    /// # Errors
    /// Never; the type of a header's value just cannot know.
    pub fn new() -> Result<Self, InvalidHeaderValue> {
        let version = pages::version(ASSETS);
        let page = PAGE.replace("/operator/VERSION/", &format!("/operator/{version}/"));
        Ok(Self {
            page: page.into(),
            version,
            fence: Fence::new(None)?,
        })
    }
}

/// `GET /`: the page for whoever operates; anybody else gets it as 401 or 403, and it shows nothing but the sign-in.
pub async fn page(
    operator: Result<Operator, ApiError>,
    site: web::Data<OperatorPage>,
) -> Result<HttpResponse, ApiError> {
    let status = match operator {
        Ok(_) => StatusCode::OK,
        Err(ApiError::Anonymous | ApiError::Unauthorized) => StatusCode::UNAUTHORIZED,
        Err(ApiError::Scope(_)) => StatusCode::FORBIDDEN,
        Err(error) => return Err(error),
    };
    let mut response = site.fence.fresh(status, HTML, site.page.clone());
    let challenge = match status {
        StatusCode::UNAUTHORIZED => Some("Bearer realm=\"signet\", scope=\"admin\""),
        StatusCode::FORBIDDEN => {
            Some("Bearer realm=\"signet\", error=\"insufficient_scope\", scope=\"admin\"")
        }
        _ => None,
    };
    if let Some(challenge) = challenge.map(HeaderValue::from_static) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    Ok(response)
}

/// `GET /operator/{version}/{file}`: scripts and style, which hold nothing of anybody's.
pub async fn file(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    site: web::Data<OperatorPage>,
) -> HttpResponse {
    let (version, name) = path.into_inner();
    let found = ASSETS.iter().find(|asset| asset.name == name);
    match found.filter(|_| version == site.version) {
        Some(asset) => {
            let body = Bytes::from_static(asset.text.as_bytes());
            site.fence
                .answer(&request, asset.content_type, FOR_EVER, body)
        }
        None => answer(shared::problem::NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_compiled_in_and_every_import_exists() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/operator/page");
        let on_disk = std::fs::read_dir(folder).unwrap();
        let mut on_disk: BTreeSet<_> = on_disk
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(on_disk.remove("index.html"));
        on_disk.extend(["dom.js".into(), "icon.svg".into()]);
        let known: BTreeSet<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(on_disk, known);
        for asset in ASSETS.iter().filter(|asset| asset.content_type == JS) {
            for line in asset.text.lines().filter(|line| line.starts_with("import")) {
                let name = line
                    .split("\"./")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap();
                assert!(known.contains(name), "{}: {line}", asset.name);
            }
        }
    }

    #[test]
    fn the_page_names_its_files_by_version_and_has_nothing_inline() {
        let site = OperatorPage::new().unwrap();
        let page = std::str::from_utf8(&site.page).unwrap();
        assert!(!page.contains("VERSION"));
        for part in page.split(&format!("/operator/{}/", site.version)).skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(ASSETS.iter().any(|asset| asset.name == name), "{name}");
        }
        for inline in [
            "<style",
            " style=",
            "javascript:",
            " onclick",
            " onload",
            " onsubmit",
        ] {
            assert!(!page.contains(inline), "{inline}");
        }
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere_or_parses_html() {
        for asset in ASSETS {
            for forbidden in [
                "https://",
                "innerHTML",
                "insertAdjacentHTML",
                "eval(",
                "localStorage",
                "document.cookie",
            ] {
                assert!(
                    !asset.text.contains(forbidden),
                    "{} has {forbidden}",
                    asset.name
                );
            }
        }
    }

    #[test]
    fn the_first_load_is_under_100_kb() {
        let bytes: usize = PAGE.len() + ASSETS.iter().map(|asset| asset.text.len()).sum::<usize>();
        assert!(bytes < 100_000, "{bytes} bytes");
    }
}
