//! `POST /.signet/counts`: what the edge counted, added to the metrics. The gate forwards no client's call to this path,
//! and only a request that the edge signed, once, gets here.

use actix_web::{HttpResponse, web};
use shared::problem;
use shared::report::{self, Event, UNKNOWN_KID, VERDICTS};

use super::SignedBody;
use crate::error::ApiError;
use crate::startup::App;
use crate::telemetry::Metrics;

/// Limits that the edge decides.
pub const EDGE_POLICIES: [&str; 5] = [
    "links",
    "edge-flood",
    "edge-flood-token",
    "penalty-box",
    "token",
];

/// Takes a report.
pub async fn take(app: web::Data<App>, body: SignedBody) -> Result<HttpResponse, ApiError> {
    if app.edge_keys.is_none() {
        return Err(ApiError::Problem(problem::NOT_FOUND));
    }
    let text = std::str::from_utf8(&body).ok();
    let events = text
        .and_then(report::parse)
        .ok_or_else(|| ApiError::Invalid("this is no report of counts".into()))?;
    let ring = app.publisher.ring.get();
    for (event, count) in events {
        add(&app.metrics, &ring, event, count.into());
        if let Event::Link { verdict, .. } = event
            && !report::is_aside(verdict)
        {
            app.watch.links(verdict == "ok", count.into());
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Words that are not known here are left out: labels stay a closed set.
fn add(metrics: &Metrics, ring: &shared::keyring::Keyring, event: Event<'_>, count: u64) {
    match event {
        Event::Link { verdict, kid } if VERDICTS.contains(&verdict) => {
            let kid = ring.get(kid).map_or(UNKNOWN_KID, |key| key.kid());
            metrics
                .links
                .with_label_values(&[verdict, kid])
                .inc_by(count);
        }
        Event::Limited(policy) if EDGE_POLICIES.contains(&policy) => {
            metrics.limited.with_label_values(&[policy]).inc_by(count);
        }
        Event::Link { .. } | Event::Limited(_) => {
            tracing::warn!("the edge counts what is not known here; is it of another version?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_become_series() {
        let metrics = Metrics::new().unwrap();
        let ring =
            shared::keyring::Keyring::parse("k1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=")
                .unwrap();
        let before = metrics.render().lines().count();
        for (verdict, kid) in [("ok", "k1"), ("ok", "k7"), ("user-1", "k1")] {
            add(&metrics, &ring, Event::Link { verdict, kid }, 3);
        }
        for policy in ["links", "203.0.113.9"] {
            add(&metrics, &ring, Event::Limited(policy), 2);
        }
        let text = metrics.render();
        for line in [
            "signet_links_total{kid=\"k1\",verdict=\"ok\"} 3",
            "signet_links_total{kid=\"unknown\",verdict=\"ok\"} 3",
            "signet_rate_limited_total{policy=\"links\"} 2",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert_eq!(text.lines().count(), before + 1, "the series of k1");
    }
}
