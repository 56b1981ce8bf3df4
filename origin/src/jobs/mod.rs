//! Jobs: generations that live on their own, whoever waits for them.
//!
//! [`crate::generate`] writes a job down, gives it to the queue and begins it here ([`Jobs::begin`]). While it lives its
//! watchers are in memory ([`Live`]): the waiting request, `GET /api/jobs/{id}`, its events ([`events`]). Its end is
//! written down before anybody hears of it. What a crash or a stop left open is settled at the next start ([`resume`]),
//! or by another origin on the same state ([`living`]), where a job is asked for by its row ([`elsewhere`]).

mod answers;
mod claims;
mod elsewhere;
mod ending;
mod events;
mod handlers;
mod live;
mod living;
mod resume;

pub(crate) use answers::{handed_over, job_problem, render, under_way};
pub use claims::Claim;
pub(crate) use elsewhere::ended as ended_elsewhere;
pub(crate) use ending::end;
pub use handlers::{cancel, events, get};
pub(crate) use live::STREAMS;
pub use live::{Ended, Jobs, Live};
pub(crate) use living::{beat_regularly, cancel_what_is_asked, take_over};
pub(crate) use resume::{forget_regularly, resume, settle};
