//! What this isolate counted since its last report. `worker.js` sends one at most every 10 s; what a dying isolate or
//! a lost report takes along is not counted, so the figures are lower bounds.

use std::cell::RefCell;

use shared::report::{self, Event, Report, UNKNOWN_KID};

use crate::clock;
use crate::config::Config;
use crate::js;
use crate::origin;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// Verdict, and the place of the key in the ring.
    Link(&'static str, Option<usize>),
    Limited(&'static str),
}

thread_local! {
    /// Verdicts times keys: some dozens at most, found by looking.
    static COUNTS: RefCell<Vec<(Counted, u32)>> = const { RefCell::new(Vec::new()) };
}

fn count(what: Counted) {
    COUNTS.with_borrow_mut(
        |counts| match counts.iter_mut().find(|(other, _)| *other == what) {
            Some((_, number)) => *number = number.saturating_add(1),
            None => counts.push((what, 1)),
        },
    );
}

/// Counts a request on the images host.
pub fn link(verdict: &'static str, key: Option<usize>) {
    count(Counted::Link(verdict, key));
}

/// Counts a refusal by the limit `policy`.
pub fn limited(policy: &'static str) {
    count(Counted::Limited(policy));
}

/// The place in the ring of the key that a target names.
pub fn key_named(target: &str, config: &Config) -> Option<usize> {
    let named = report::kid_named(target, &config.link_keys)?;
    config.link_keys.kids().position(|kid| kid == named)
}

/// Takes what was counted.
fn take(config: &Config) -> Report {
    let mut report = Report::default();
    for (what, number) in COUNTS.take() {
        let event = match what {
            Counted::Link(verdict, key) => Event::Link {
                verdict,
                kid: key
                    .and_then(|at| config.link_keys.kids().nth(at))
                    .unwrap_or(UNKNOWN_KID),
            },
            Counted::Limited(policy) => Event::Limited(policy),
        };
        report.push(event, number);
    }
    report
}

/// Sends what was counted; a failure is logged where it happens.
pub async fn send(config: &Config) {
    let report = take(config);
    if report.is_empty() {
        return;
    }
    let status = origin::post(config, report::PATH, report.as_str(), clock::now()).await;
    if let Some(status) = status.filter(|&status| status != 204) {
        js::log_error(&format!("edge: the origin answered a report with {status}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::read(|name| {
            Some(match name {
                "IMAGES_HOST" => "localhost:1".into(),
                "API_HOST" => "127.0.0.1:1".into(),
                "ORIGIN_URL" => "http://127.0.0.1:2".into(),
                "LINK_KEYS" => format!("k2:{}A=,k1:{}A=", "a".repeat(42), "b".repeat(42)),
                "EDGE_KEYS" => format!("e1:{}A=", "c".repeat(42)),
                _ => return None,
            })
        })
        .unwrap()
    }

    #[test]
    fn a_report_holds_each_verdict_by_key_once_and_empties_the_counts() {
        let config = config();
        for target in ["/a?kid=k1", "/a?kid=k1", "/a?kid=k2", "/a?kid=k9", "/a"] {
            link("ok", key_named(target, &config));
        }
        limited("links");
        let report = take(&config);
        let text = report.as_str();
        assert_eq!(
            text,
            "link ok k1 2\nlink ok k2 1\nlink ok unknown 2\nlimited links 1\n"
        );
        assert!(take(&config).is_empty());
    }
}
