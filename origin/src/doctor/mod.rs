//! `signet doctor`: the hardening checklist, tried on a live deployment from where its clients and strangers stand.
//!
//! Each row tries one thing and says what it did and saw. [`visit`] holds what the rows share: a token, and one small
//! upload that is looked at from all sides and deleted at the end. Rows that block or spend come last and only when
//! asked for.

mod http;
mod inputs;
mod report;
mod visit;

mod alerts;
mod exposed;
mod hosts;
mod keyring;
mod limits;
mod links;
mod logs;
mod quotas;
mod secrets;
mod storage;
mod tokens;
mod tree;
mod uploads;
mod versions;

use std::pin::Pin;

pub use http::ConnectTo;
pub use inputs::{Base, Credentials, Inputs, Known};
pub use report::{Row, Status, table};

use crate::clock::Clock;
use limits::Met;
use visit::Visit;

/// Why a row does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The item is broken: what was done and seen.
    Fail(String),
    /// The row could not or may not be tried: why.
    Skipped(String),
}

/// What a row did and saw, or why it does not pass.
type Verdict = Result<String, Finding>;

/// A row to be.
struct Check<'a> {
    id: &'static str,
    title: &'static str,
    work: Pin<Box<dyn Future<Output = Verdict> + 'a>>,
}

fn check<'a>(
    id: &'static str,
    title: &'static str,
    work: impl Future<Output = Verdict> + 'a,
) -> Check<'a> {
    let work = Box::pin(work);
    Check { id, title, work }
}

/// A row that blocks this client or spends its user's generations: only when asked for.
fn spending<'a>(
    visit: &'a Visit,
    id: &'static str,
    title: &'static str,
    work: impl Future<Output = Verdict> + 'a,
) -> Check<'a> {
    check(id, title, async move {
        if visit.inputs.intrusive {
            work.await
        } else {
            let why = "it blocks this address or spends generations for a while: add --intrusive";
            Err(Finding::Skipped(why.into()))
        }
    })
}

/// All rows in order.
fn checks<'a>(visit: &'a Visit, met: &'a Met) -> Vec<Check<'a>> {
    vec![
        check(
            "limits-declared",
            "Limits and quotas are on",
            limits::declared(visit),
        ),
        check(
            "token-life",
            "Access tokens live 15 to 60 minutes",
            tokens::life(visit),
        ),
        check(
            "token-scopes",
            "A token opens nothing but its scopes",
            tokens::scopes(visit),
        ),
        check(
            "token-bearer",
            "Only access tokens are bearer tokens",
            tokens::bearer(visit),
        ),
        check(
            "upload-reencoded",
            "Uploads are drawn anew, without metadata",
            uploads::reencoded(visit),
        ),
        check(
            "upload-type",
            "An upload's type is judged by its content",
            uploads::by_content(visit),
        ),
        check(
            "body-limit",
            "Bodies that are too large are refused",
            uploads::body_limit(visit),
        ),
        check(
            "link-opens",
            "A signed link opens, fenced by its headers",
            links::opens(visit),
        ),
        check(
            "link-unsigned",
            "A link without its signature is refused",
            links::unsigned(visit),
        ),
        check(
            "link-expired",
            "An expired link is refused",
            links::expired(visit),
        ),
        check(
            "link-tampered",
            "A changed link is refused",
            links::tampered(visit),
        ),
        check(
            "link-spelling",
            "Other spellings of a good link are refused",
            links::spelling(visit),
        ),
        check(
            "link-referer",
            "Foreign pages cannot embed pictures",
            links::referer(visit),
        ),
        check(
            "images-host",
            "Pictures have a host of their own",
            hosts::images(visit),
        ),
        check(
            "origin-bypass",
            "The origin answers only through its front",
            hosts::origin(visit),
        ),
        check(
            "operator-private",
            "The operator's listener is not public",
            hosts::operator(visit),
        ),
        check(
            "https",
            "Everything is served over HTTPS alone",
            hosts::https(visit),
        ),
        check(
            "hsts",
            "Browsers are told to stay on HTTPS",
            hosts::hsts(visit),
        ),
        check(
            "bucket-private",
            "The bucket is not public",
            storage::bucket(visit),
        ),
        check(
            "lifecycle",
            "Lifecycle rules are in place",
            storage::lifecycle(visit),
        ),
        check(
            "link-keys",
            "The link keyring is this deployment's alone",
            keyring::own(visit),
        ),
        check(
            "client-secrets",
            "Nothing a client can fetch holds a key",
            exposed::keys(visit),
        ),
        check(
            "source-secrets",
            "The source tree holds no secret",
            tree::scan(visit),
        ),
        check(
            "alerts",
            "The alert rules are loaded",
            alerts::loaded(visit),
        ),
        check(
            "versions",
            "No advisory is known against the software",
            versions::advisories(visit),
        ),
        check(
            "access-log",
            "Access logs hold no authorization",
            logs::access(visit),
        ),
        check(
            "storage-quota",
            "Every stored byte is counted",
            storage::quota(visit),
        ),
        check(
            "structured-logs",
            "Generations are logged with keyed prompt hashes",
            logs::structured(visit),
        ),
        spending(
            visit,
            "limit-address",
            "An address is limited at the front",
            limits::address(visit, met),
        ),
        spending(
            visit,
            "limit-token",
            "A token is limited at the front",
            limits::token(visit, met),
        ),
        spending(
            visit,
            "quota-user",
            "A user has a quota",
            quotas::user(visit, met),
        ),
        spending(
            visit,
            "storage-full",
            "A full storage quota refuses",
            storage::full(visit),
        ),
        // Last of all: it may block this very client for minutes.
        spending(
            visit,
            "penalty-box",
            "An address that hammers is blocked",
            quotas::penalty_box(visit, met),
        ),
    ]
}

/// Tries everything; one row an item.
///
/// # Errors
/// The system has no certificates to check servers by.
pub async fn examine(inputs: Inputs, clock: Clock) -> std::io::Result<Vec<Row>> {
    let visit = Visit::begin(inputs, clock).await?;
    let met = Met::default();
    let mut rows = Vec::new();
    for Check { id, title, work } in checks(&visit, &met) {
        let (status, evidence) = match work.await {
            Ok(evidence) => (Status::Pass, evidence),
            Err(Finding::Fail(evidence)) => (Status::Fail, evidence),
            Err(Finding::Skipped(evidence)) => (Status::Skipped, evidence),
        };
        rows.push(Row {
            id,
            title,
            status,
            evidence: visit.redact(evidence),
        });
    }
    visit.end().await;
    Ok(rows)
}

/// Fails unless `good`; the text says what was wanted and seen.
fn ensure(good: bool, text: impl FnOnce() -> String) -> Result<(), Finding> {
    if good {
        Ok(())
    } else {
        Err(Finding::Fail(text()))
    }
}

/// `value`, or the row is skipped for want of it.
fn given<'a, T>(value: &'a Option<T>, missing: &str) -> Result<&'a T, Finding> {
    value
        .as_ref()
        .ok_or_else(|| Finding::Skipped(missing.into()))
}
