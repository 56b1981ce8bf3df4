//! The page over HTTP.

use super::*;
use crate::pages::security_headers;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::IF_NONE_MATCH;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, http::Method};

async fn ask(method: Method, path: &str, tag: Option<&str>) -> ServiceResponse {
    let studio = Studio::new("https://img.example.com", &[]).unwrap();
    let app = init_service(
        App::new()
            .app_data(web::Data::new(studio))
            .configure(routes),
    )
    .await;
    let mut request = TestRequest::default().method(method).uri(path);
    if let Some(tag) = tag {
        request = request.insert_header((IF_NONE_MATCH, tag));
    }
    call_service(&app, request.to_request()).await
}

fn header(response: &ServiceResponse, name: &str) -> String {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

fn path(name: &str) -> String {
    format!("/studio/{}/{name}", assets::version())
}

#[actix_web::test]
async fn the_page_and_each_file_carry_the_whole_policy() {
    let expected = security_headers(Some(
        &ImagesOrigin::parse("https://img.example.com").unwrap(),
    ))
    .unwrap();
    for path in [
        "/".to_owned(),
        path("app.js"),
        path("studio.css"),
        path("about.json"),
    ] {
        let response = ask(Method::GET, &path, None).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        for (name, value) in &expected {
            assert_eq!(response.headers().get(name), Some(value), "{path} {name}");
        }
    }
}

#[actix_web::test]
async fn files_are_kept_for_ever_and_the_page_is_asked_for_again() {
    assert_eq!(
        header(&ask(Method::GET, "/", None).await, "cache-control"),
        "no-cache"
    );
    let file = ask(Method::GET, &path("app.js"), None).await;
    assert_eq!(
        header(&file, "cache-control"),
        "public, max-age=31536000, immutable"
    );
    assert_eq!(
        header(&file, "content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_eq!(
        header(
            &ask(Method::GET, &path("about.json"), None).await,
            "cache-control"
        ),
        "no-cache"
    );
}

#[actix_web::test]
async fn who_has_the_page_is_told_so() {
    let tag = header(&ask(Method::GET, "/", None).await, "etag");
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".into(),
    ] {
        let again = ask(Method::GET, "/", Some(&known)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header(&again, "etag"), tag);
        assert!(read_body(again).await.is_empty());
    }
    assert_eq!(
        ask(Method::GET, "/", Some("\"x\"")).await.status(),
        StatusCode::OK
    );
}

#[actix_web::test]
async fn other_versions_files_and_methods_are_refused() {
    for path in [
        "/studio/0000000000000000/app.js".to_owned(),
        path("secret"),
        path("..%2fmod.rs"),
        path("index.html"),
    ] {
        let response = ask(Method::GET, &path, None).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
    assert_eq!(
        ask(Method::POST, "/", None).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(ask(Method::HEAD, "/", None).await.status(), StatusCode::OK);
}

#[test]
fn an_images_address_with_a_path_stops_the_start() {
    assert!(matches!(
        Studio::new("https://a/b", &[]),
        Err(StudioError::Images(_))
    ));
}
