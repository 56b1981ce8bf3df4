//! Rows about what is stored: who can read the bucket, what removes old objects, and that every byte is counted.

use hyper::Method;
use rand::RngExt;
use serde_json::Value;

use super::http::Ask;
use super::visit::Visit;
use super::{Finding, Verdict, ensure, given};
use crate::config::Settings;
use crate::storage::exposure::exposure;
use crate::storage::lifecycle::{Plan, wanted};
use crate::storage::{Store, StoreKind};

const NO_SETTINGS: &str =
    "no storage settings: run it where signet.toml and the variables of the service are";
/// Bytes that are filled at most to see a quota refuse.
const FILLED: u64 = 16 << 20;
/// A side of the pictures that fill it, in pixels: noise of 1.2 MB.
const NOISE: u32 = 640;

/// Asks for a listing and an object as a stranger does.
pub async fn bucket(visit: &Visit) -> Verdict {
    let settings = &given(&visit.inputs.settings, NO_SETTINGS)?.storage;
    if settings.kind == StoreKind::Folder {
        return Ok(format!(
            "the store is the folder {}: it has no address",
            settings.folder.display()
        ));
    }
    let store = open(&visit.inputs.settings).await?;
    let found = exposure(settings, &store).await;
    let found = found
        .map_err(|error| Finding::Fail(format!("the bucket {}: {error}", settings.s3.bucket)))?;
    match found.complaint() {
        Some(complaint) => Err(Finding::Fail(complaint)),
        None => Ok(format!("without credentials {found:?} gave nothing")),
    }
}

/// The rules of the layout, beside the operator's own.
pub async fn lifecycle(visit: &Visit) -> Verdict {
    let settings = given(&visit.inputs.settings, NO_SETTINGS)?;
    let rules = wanted(&settings.storage).map_err(|error| Finding::Fail(error.to_string()))?;
    let Store::S3(store) = open(&visit.inputs.settings).await? else {
        let hours = settings.sweep.every_hours;
        if hours == 0 {
            let why = "the store is a folder and sweep.every_hours is 0: whether `signet sweep` runs by itself cannot be seen";
            return Err(Finding::Skipped(why.into()));
        }
        return Ok(format!(
            "the store is a folder; the service removes what has expired every {hours} h"
        ));
    };
    let present = store.lifecycle().await.map_err(|error| {
        let text = format!("reading the bucket's lifecycle rules: {error}");
        // Simulations have no such call; R2 and S3 have.
        if settings.storage.s3.endpoint.starts_with("http://") && text.contains("NotImplemented") {
            Finding::Skipped(text)
        } else {
            Finding::Fail(text)
        }
    })?;
    let plan = Plan::new(present, rules).map_err(|error| Finding::Fail(error.to_string()))?;
    ensure(plan.is_done() && plan.warnings.is_empty(), || {
        let changes = plan
            .lines()
            .into_iter()
            .filter(|line| !line.starts_with("  "));
        let changes: Vec<String> = changes
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        format!(
            "`signet lifecycle apply` would change the bucket's rules: {}",
            changes.join(" | ")
        )
    })?;
    let rules: Vec<String> = plan.right.iter().map(|rule| rule.id.clone()).collect();
    Ok(format!(
        "the bucket has the rules {}, and none of the operator's works against them",
        rules.join(", ")
    ))
}

async fn open(settings: &Option<Settings>) -> Result<Store, Finding> {
    let settings = given(settings, NO_SETTINGS)?;
    Store::open(&settings.storage)
        .await
        .map_err(|error| Finding::Fail(format!("opening the store: {error}")))
}

/// The upload was charged to the last byte, and deleting it gives the bytes back.
pub async fn quota(visit: &Visit) -> Verdict {
    let probe = visit.probe()?;
    let limit = visit.usage("storage", "limit").await?;
    let (before, with) = visit
        .stored
        .ok_or_else(|| Finding::Fail("GET /api/usage shows no policy \"storage\"".into()))?;
    let grown = with.saturating_sub(before);
    ensure(grown == probe.bytes && limit > 0, || {
        format!(
            "an upload of {} bytes moved the policy storage by {grown} of {limit}",
            probe.bytes
        )
    })?;
    let gone = visit.delete_image(&probe.id).await?;
    ensure(gone.status == 204, || {
        format!("deleting the upload: {}", gone.told())
    })?;
    let after = visit.usage("storage", "used").await?;
    ensure(after == before, || {
        format!(
            "the policy storage stood at {before}, with the upload at {with}, after deleting it at {after}"
        )
    })?;
    Ok(format!(
        "an upload of {grown} bytes moved the policy storage from {before} to {with} of {limit}; deleting it moved it back"
    ))
}

/// Uploads until the quota refuses one, where it is small enough.
pub async fn full(visit: &Visit) -> Verdict {
    let left = visit.usage("storage", "remaining").await?;
    if left > FILLED {
        return Err(Finding::Skipped(format!(
            "{left} bytes are left to this user: too many to fill. Give a client whose user has less \
             (signet user limit USER storage=10000000)"
        )));
    }
    let (mut ids, mut outcome) = (Vec::new(), None);
    let (edge, token) = (visit.edge()?, visit.token()?);
    for _ in 0..FILLED / 1_000_000 {
        let picture = noise().map_err(|error| Finding::Skipped(error.to_string()))?;
        let answer = visit
            .patiently(&visit.http, || {
                Ask::new(edge, Method::POST, "/api/upload")
                    .token(token)
                    .body("image/png", picture.clone())
            })
            .await?;
        match answer.json().get("id").and_then(Value::as_str) {
            Some(id) if answer.status == 200 => ids.push(id.to_owned()),
            _ => {
                outcome = Some(answer);
                break;
            }
        }
    }
    for id in &ids {
        let _ = visit.delete_image(id).await;
    }
    let stored = ids.len();
    match outcome {
        Some(answer)
            if answer.json().get("code").and_then(Value::as_str) == Some("storage_quota") =>
        {
            Ok(format!(
                "with {left} bytes left, {stored} uploads of over 1 MB were stored and the next got {}",
                answer.told()
            ))
        }
        Some(answer) => Err(Finding::Fail(format!(
            "filling the quota of {left} bytes ended with {}",
            answer.told()
        ))),
        None => Err(Finding::Fail(format!(
            "{stored} uploads of over 1 MB fitted into {left} bytes"
        ))),
    }
}

fn noise() -> Result<Vec<u8>, image::ImageError> {
    let mut pixels = image::RgbImage::new(NOISE, NOISE);
    rand::rng().fill(&mut pixels);
    let mut file = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut file, image::ImageFormat::Png)?;
    Ok(file.into_inner())
}
