//! A reader who takes little at a time holds a connection and a file open for as long as it likes. One who takes nothing
//! at all is cut off by the connection itself (`server.stalled_seconds`).

use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt};

use crate::clock::Clock;
use crate::error::ApiError;

/// Bytes a second on average, below which an answer breaks off: less than the slowest telephone network carries.
const SLOWEST: u64 = 2048;

/// The body as it is, until its reader is `grace` seconds behind the slowest pace. Parts are asked for only when the
/// connection has room for them, so the time between them is the reader's.
pub(super) fn paced(
    body: impl Stream<Item = Result<Bytes, ApiError>>,
    clock: Clock,
    grace: u32,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let begun = clock.nanos();
    let grace = Duration::from_secs(grace.into());
    let mut taken = 0u64;
    body.map(move |part| {
        let part = part?;
        let due = grace + Duration::from_secs(taken / SLOWEST);
        if Duration::from_nanos(clock.nanos().saturating_sub(begun)) > due {
            return Err(ApiError::Internal("the reader is too slow".into()));
        }
        taken += part.len() as u64;
        Ok(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    #[test]
    fn a_reader_below_the_slowest_pace_is_cut_off_and_one_above_it_is_not() {
        let read_with_pauses_of = |seconds: u64| {
            let clock = Clock::manual(1_000);
            let parts = stream::iter((0..50).map(|_| Ok(Bytes::from(vec![0; 65_536]))));
            let mut body = Box::pin(paced(parts, clock.clone(), 20));
            futures_util::FutureExt::now_or_never(async move {
                let mut parts = 0;
                while let Some(Ok(_)) = body.next().await {
                    parts += 1;
                    clock.advance(seconds);
                }
                parts
            })
            .unwrap()
        };
        assert_eq!(
            read_with_pauses_of(31),
            50,
            "65,536 bytes in 31 s are fast enough"
        );
        // Each part pays for 32 s; the one that is 20 s late is the last.
        assert_eq!(read_with_pauses_of(60), 1);
        assert_eq!(read_with_pauses_of(36), 6);
    }
}
