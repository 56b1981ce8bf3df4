//! What edge and origin must agree on, as pure functions: no I/O, clock, environment, randomness or logging.
//!
//! The way of a link: [`link::UnverifiedLink::parse`] reads the raw request target, [`link::UnverifiedLink::verify`]
//! checks MAC ([`keyring`]), time and address, [`link::VerifiedLink::permit`] the policy of [`referer`],
//! [`revocation::judge`] what was revoked. Each step's result can only be made by that step. [`image_headers`]
//! and [`range`] shape the answer; a refusal is a [`problem`], written as [`error_shape`] says, or for people as a
//! [`refusal_page`]. [`site_file`] is what browsers ask every host for.
//!
//! Limits: [`gcra`] for rates, [`penalty`] for the penalty box; addresses count as [`client_ip`] groups them.
//!
//! The way of an API call from edge to origin: the form and the claims of its token ([`access_token`]), then
//! [`edge_auth`] (RFC 9421). What the edge counts goes there as a [`report`], what it decided with the request
//! ([`decided`]).

pub mod access_token;
pub mod b64;
pub mod client_ip;
pub mod decided;
pub mod edge_auth;
pub mod error_shape;
pub mod gcra;
pub mod hex;
pub mod image_headers;
pub mod keyring;
pub mod link;
pub mod object_key;
pub mod penalty;
pub mod plain_path;
pub mod problem;
pub mod range;
pub mod referer;
pub mod refusal_page;
pub mod report;
pub mod revocation;
pub mod secret_in_query;
pub mod site_file;
