//! `signet doctor` on a real service behind a small front.

mod bends;
mod deployment;
mod limits;
mod rows;
