//! Signet's origin: from a prompt to a stored picture and a signed link.
//!
//! A call walks [`middleware`] (where [`edge_trust`] says whose it is) → [`routes`] → [`auth`] → its handler:
//!
//! - [`generate`] reserves from [`quota`], waits in [`schedule`] for [`infer`] or a [`provider`] elsewhere, has
//!   [`provenance`] mark the picture, writes through [`state`] and [`storage`], and has [`publish`] sign the link. Whoever
//!   does not wait follows it in [`jobs`].
//! - [`upload`] draws a stranger's picture anew before anything of it is stored.
//! - [`images`] lists, keeps, deletes, and signs links again.
//!
//! [`deliver`] opens links where no edge does; [`revoke`] tells an edge what is revoked; [`sweep`] compares store and
//! ledger. People see [`studio`] and [`operator`], which shows what [`watch`] collects; machines, [`telemetry`].
//! [`startup`] puts it together; [`cli`] is the program, with [`doctor`] as a client of its own.

pub mod auth;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod doctor;
pub mod edge_trust;
pub mod error;
pub mod generate;
pub mod images;
pub mod infer;
pub mod jobs;
pub mod json;
pub mod middleware;
pub mod operator;
pub mod outbound;
pub mod pages;
pub mod provenance;
pub mod provider;
pub mod publish;
pub mod quota;
pub mod revoke;
pub mod routes;
pub mod schedule;
pub mod secret;
pub mod startup;
pub mod state;
pub mod storage;
pub mod studio;
pub mod sweep;
pub mod telemetry;
#[cfg(test)]
mod test_redis;
pub mod tls;
mod unread;
pub mod upload;
pub mod watch;
