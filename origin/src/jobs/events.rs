//! A job's server-sent events (WHATWG HTML, section 9.2): `queued`, `step`, `preview`, then `done`, `failed` or
//! `cancelled`.
//!
//! Events tell how things stand, so a slow or returning reader misses nothing but steps in between.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Ended;
use super::answers::{self, JobAnswer};
use super::live::Stream;
use crate::error::ApiError;
use crate::infer::{Format, Pixels, encode};
use crate::schedule::Progress;
use crate::startup::App;

/// A comment this often keeps proxies from closing a quiet stream.
const QUIET: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader.
const AHEAD: usize = 4;
/// A stream with nothing but the time after which the client asks again.
const COME_BACK: &str = "retry: 2000\n\n";

fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// The stream of a job under way.
pub fn of(app: App, place: Stream) -> impl futures_util::Stream<Item = Result<Bytes, ApiError>> {
    let (events, coming) = mpsc::channel(AHEAD);
    let jobs = app.jobs.clone();
    // A reader who left is noticed at the next event, and costs the job nothing.
    jobs.spawn(async move {
        let _ = tell(&app, &place, &events).await;
    });
    stream::unfold(coming, |mut coming| async {
        coming.recv().await.map(|bytes| (Ok(bytes), coming))
    })
}

type Gone = mpsc::error::SendError<Bytes>;

async fn tell(app: &App, place: &Stream, events: &mpsc::Sender<Bytes>) -> Result<(), Gone> {
    let live = &place.0;
    let (mut progress, mut previews) = (live.progress.clone(), live.previews.subscribe());
    let mut ended = std::pin::pin!(live.ended());
    progress.mark_changed();
    let (mut moves, mut shows) = (true, true);
    loop {
        let next = tokio::select! {
            biased;
            ended = &mut ended => {
                let (user, id) = (&live.user, &live.id);
                return events.send(last(app, user, id, live.milliunits, &ended).await).await;
            }
            changed = progress.changed(), if moves => {
                moves = changed.is_ok();
                let now = *progress.borrow_and_update();
                standing(&now)
            }
            changed = previews.changed(), if shows => {
                shows = changed.is_ok();
                let pixels = previews.borrow_and_update().clone();
                pixels.and_then(|pixels| preview(&pixels))
            }
            () = tokio::time::sleep(QUIET) => Some(Bytes::from_static(b":\n\n")),
            () = events.closed() => return Ok(()),
        };
        if let Some(next) = next {
            events.send(next).await?;
        }
    }
}

fn standing(progress: &Progress) -> Option<Bytes> {
    match progress {
        Progress::Queued { position } => {
            Some(event("queued", &json!({ "queue_position": position })))
        }
        Progress::Running { step, steps } => {
            Some(event("step", &json!({ "step": step, "steps": steps })))
        }
        Progress::Over => None,
    }
}

/// A preview is some 100 pixels wide: encoding it takes less than handing it to another thread.
fn preview(pixels: &Pixels) -> Option<Bytes> {
    let png = encode(pixels, Format::Png).ok()?;
    let data = json!({
        "width": pixels.width, "height": pixels.height, "format": "png", "data": STANDARD.encode(png)
    });
    Some(event("preview", &data))
}

/// The last event of a job that ended. A process that stops sends none: the client comes back to the next one.
pub async fn last(app: &App, user: &str, id: &str, milliunits: u64, ended: &Ended) -> Bytes {
    let job = JobAnswer::ended(app, id, milliunits, ended);
    let mut data = json!({ "job": job.with_truncation(app).await });
    let name = match ended {
        Ended::Done { .. } => {
            // A link that cannot be made now can be asked for at the job's own address.
            let images = answers::images(app, user, id).await.unwrap_or_default();
            if let Some(fields) = data.as_object_mut() {
                fields.insert("images".into(), images);
            }
            "done"
        }
        Ended::Failed(problem, _) => {
            data = json!({ "code": problem.code, "title": problem.title });
            "failed"
        }
        Ended::Cancelled(_) => "cancelled",
        Ended::Stopped => return Bytes::from_static(COME_BACK.as_bytes()),
    };
    event(name, &data)
}
