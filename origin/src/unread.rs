//! What a refused client still sends is read on for a while: a connection that is closed while the other side sends is
//! reset, and the answer with it is lost.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::timeout;

/// A body up to so many bytes is in the network's buffers, whoever reads it.
const SMALL: u64 = 64 * 1024;
/// No more is read than this, in bytes: an upload that is a little too long, not one that never ends.
const MOST: usize = 16 * 1024 * 1024;
/// Nor for longer than this.
const LONGEST: Duration = Duration::from_secs(10);
/// Nor from a client who pauses for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A request's body, of which the handler may leave a part.
#[derive(Clone)]
pub struct Unread(Rc<RefCell<Payload>>);

impl Unread {
    /// Keeps hold of a body that is large, or of unknown length.
    pub fn of(request: &mut ServiceRequest) -> Option<Self> {
        let headers = request.headers();
        let announced = headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.unwrap_or(0) <= SMALL && !headers.contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let kept = Self(Rc::new(RefCell::new(request.take_payload())));
        let payload = Box::pin(kept.clone());
        request.set_payload(Payload::Stream { payload });
        Some(kept)
    }

    /// Reads what is left of it, within bounds.
    pub async fn drain(self) {
        let _ = timeout(LONGEST, self.read()).await;
    }

    async fn read(mut self) {
        let mut left = MOST;
        while let Ok(Some(Ok(chunk))) = timeout(PAUSE, self.next()).await {
            match left.checked_sub(chunk.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, PayloadError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Unread {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}
