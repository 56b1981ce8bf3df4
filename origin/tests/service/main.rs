//! The whole service, as the program that ships: each test starts `signet` on free ports in a folder of its own.
// clippy.toml lets tests panic, but does not count their helper functions as tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod front;
mod http;
mod neighbours;
mod program;
mod redis;

mod bad_input;
mod canary;
mod charges;
mod cleaning;
mod configuration;
mod contract;
mod crash;
mod doctor;
mod drift;
mod edge;
mod engine;
mod failing_parts;
mod identity;
mod isolation;
mod jobs;
mod limits;
mod links;
mod main_job;
mod models;
mod oauth;
mod operator;
mod origins;
mod origins_jobs;
mod provenance;
mod provider;
mod readers;
mod references;
mod rotation;
mod routes;
mod smuggling;
mod state_disk;
mod traces;
mod turns;
mod uploads;
mod uploads_fair;
