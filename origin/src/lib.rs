//! Signet's origin: from a prompt to a stored picture and a signed link.
//!
//! A request walks [`routes`] → [`middleware`] → [`auth`] → [`generate`], which reserves from [`quota`], waits in
//! [`schedule`] for [`infer`], writes through [`state`] and [`storage`], and has [`publish`] sign the link. [`deliver`]
//! opens links where no edge does. [`startup`] puts it together; [`cli`] is the program.

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
pub mod tls;
mod unread;
pub mod upload;
pub mod watch;
