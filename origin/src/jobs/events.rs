//! A job's server-sent events (WHATWG HTML, section 9.2): `queued`, `step`, `preview`, then `done`, `failed` or
//! `cancelled`.
//!
//! Events tell how things stand, so a slow or returning reader misses nothing but steps in between. Each has an id that
//! names what it told: `Last-Event-ID` says what a returning reader knows, and who knows the end is answered 204, which
//! makes an `EventSource` stop.

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
/// Such a comment.
pub(super) const COMMENT: &[u8] = b":\n\n";
/// Events that wait for a slow reader.
const AHEAD: usize = 4;
/// A stream with nothing but the time after which the client asks again.
const COME_BACK: &str = "retry: 2000\n\n";

/// The id of the last event, however the job ended.
pub(super) const END: &str = "end";

fn event(name: &str, id: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {id}\ndata: {data}\n\n"))
}

/// What a reader knows who was told how a job stands.
fn id_of(progress: &Progress) -> String {
    match progress {
        Progress::Queued { position } => format!("queued-{position}"),
        Progress::Running { step, .. } => format!("step-{step}"),
        Progress::Over => "over".into(),
    }
}

/// The stream of a job under way.
/// `known` is the id of the last event that the reader was told.
pub fn of(
    app: App,
    place: Stream,
    known: Option<String>,
) -> impl futures_util::Stream<Item = Result<Bytes, ApiError>> {
    let (events, coming) = mpsc::channel(AHEAD);
    let jobs = app.jobs.clone();
    // A reader who left is noticed at the next event, and costs the job nothing.
    jobs.spawn(async move {
        let _ = tell(&app, &place, known, &events).await;
    });
    stream::unfold(coming, |mut coming| async {
        coming.recv().await.map(|bytes| (Ok(bytes), coming))
    })
}

type Gone = mpsc::error::SendError<Bytes>;

async fn tell(
    app: &App,
    place: &Stream,
    known: Option<String>,
    events: &mpsc::Sender<Bytes>,
) -> Result<(), Gone> {
    let live = &place.0;
    let (mut progress, mut previews) = (live.progress.clone(), live.previews.subscribe());
    let mut ended = std::pin::pin!(live.ended());
    progress.mark_changed();
    let (mut moves, mut shows) = (true, true);
    let mut known = known;
    // The first bytes open the stream at once, through whatever stands between.
    events.send(Bytes::from_static(COMMENT)).await?;
    let mut quiet = tokio::time::interval(QUIET);
    quiet.reset();
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
                // Told again only what the reader does not know.
                standing(&now).filter(|_| known.take().is_none_or(|known| known != id_of(&now)))
            }
            changed = previews.changed(), if shows => {
                shows = changed.is_ok();
                let pixels = previews.borrow_and_update().clone();
                let at = id_of(&live.progress.borrow());
                pixels.and_then(|pixels| preview(&pixels, &at))
            }
            _ = quiet.tick() => Some(Bytes::from_static(COMMENT)),
            () = events.closed() => return Ok(()),
        };
        if let Some(next) = next {
            events.send(next).await?;
            quiet.reset();
        }
    }
}

fn standing(progress: &Progress) -> Option<Bytes> {
    match progress {
        Progress::Queued { position } => {
            let data = json!({ "queue_position": position });
            Some(event("queued", &id_of(progress), &data))
        }
        Progress::Running { step, steps } => {
            let data = json!({ "step": step, "steps": steps });
            Some(event("step", &id_of(progress), &data))
        }
        Progress::Over => None,
    }
}

/// A preview is some 100 pixels wide: encoding it takes less than handing it to another thread.
fn preview(pixels: &Pixels, id: &str) -> Option<Bytes> {
    let png = encode(pixels, Format::Png).ok()?;
    let data = json!({
        "width": pixels.width, "height": pixels.height, "format": "png", "data": STANDARD.encode(png)
    });
    Some(event("preview", id, &data))
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
    event(name, END, &data)
}
