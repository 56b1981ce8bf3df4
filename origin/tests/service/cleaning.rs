//! `signet sweep` and `signet user erase` beside a running service.

use image::ImageFormat;
use serde_json::Value;

use crate::program::{ALL_SCOPES, Service, files, quick};
use crate::uploads::{picture, send};

fn sweep(service: &Service, arguments: &[&str]) -> Value {
    let all = [&["sweep", "--json"], arguments].concat();
    serde_json::from_str(&service.home().succeed(&all)).unwrap()
}

#[test]
fn a_sweep_beside_the_service_leaves_good_pictures_alone() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let report = sweep(&service, &[]);
    assert_eq!(
        (report["objects"].as_u64(), report["rows"].as_u64()),
        (Some(1), Some(1))
    );
    for name in [
        "expired",
        "orphans",
        "missing",
        "settled",
        "foreign",
        "usage_corrected",
    ] {
        assert_eq!(report[name], 0, "{name}");
    }
    let url = image["url"].as_str().unwrap();
    assert_eq!(service.link(url).send().status, 200);
    // Somebody took the object away: the row follows, and its bytes come back.
    let object = service
        .home()
        .path("data/objects")
        .join(image["key"].as_str().unwrap());
    std::fs::remove_file(object).unwrap();
    assert_eq!(sweep(&service, &["--dry-run"])["missing"], 1);
    assert_eq!(sweep(&service, &[])["missing"], 1);
    let list = service.get("/api/images").token(&token).send().ok().json();
    assert_eq!(list["images"], serde_json::json!([]));
    let told = service.home().succeed(&["sweep"]);
    assert!(
        told.contains("objects") && told.contains("half-written"),
        "{told}"
    );
}

#[test]
fn an_erased_user_leaves_nothing_and_makes_nothing_more() {
    let service = Service::start(&[]);
    let (client, other) = (service.client(ALL_SCOPES), service.client(ALL_SCOPES));
    let (token, others) = (service.token_of(&client), service.token_of(&other));
    let image = service.picture(&token);
    let kept = service.picture(&token)["id"].as_str().unwrap().to_owned();
    let keep = service
        .post(&format!("/api/images/{kept}/keep"))
        .token(&token);
    assert_eq!(keep.send().status, 200);
    send(
        &service,
        &token,
        "image/png",
        picture(9, 9, ImageFormat::Png),
    )
    .ok();
    service.picture(&others);
    let told = service.home().succeed(&["user", "erase", &client.user]);
    assert!(told.contains(image["key"].as_str().unwrap()), "{told}");
    assert!(told.contains("rows of images removed"), "{told}");
    assert!(told.contains("listed again: 0 objects, 0 rows"), "{told}");
    let left = files(&service.home().path("data/objects"));
    assert_eq!(left.len(), 1, "another user's stays: {left:?}");
    assert!(!left[0].contains(&client.user));
    let state = std::fs::read(service.home().path("data/signet.sqlite")).unwrap();
    assert!(!state.is_empty());
    // The token is still alive for an hour, and worth nothing.
    assert_eq!(service.generate(&token, &quick()).status, 403);
    assert_eq!(
        send(
            &service,
            &token,
            "image/png",
            picture(9, 9, ImageFormat::Png)
        )
        .status,
        403
    );
    assert_ne!(service.ask_token(&client.form()).status, 200);
    assert_ne!(
        service.link(image["url"].as_str().unwrap()).send().status,
        200
    );
    let again = service
        .home()
        .succeed(&["user", "erase", &client.user, "--forget"]);
    assert!(again.contains("listed again: 0 objects, 0 rows"), "{again}");
    assert_eq!(service.generate(&others, &quick()).status, 200);
    let wrong = service.home().run(&["user", "erase", "../x"]);
    assert!(!wrong.status.success());
}
