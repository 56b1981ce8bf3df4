//! The metrics that dashboards rely on, present from the start at 0.

use shared::report::{UNKNOWN_KID, VERDICTS};

use super::Health;
use crate::edge_trust::counts::EDGE_POLICIES;
use crate::schedule::Observation;
use crate::upload::UploadError;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder,
};

/// Every metric of the service.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// `signet_http_requests_total{route,status}`.
    pub requests: IntCounterVec,
    /// `signet_generations_total{outcome}`.
    pub generations: IntCounterVec,
    /// `signet_generation_seconds`.
    pub generation: Histogram,
    /// `signet_stage_seconds{stage}`.
    pub stage: HistogramVec,
    /// `signet_queue_depth`.
    pub queue_depth: IntGauge,
    /// `signet_queue_wait_seconds`.
    pub queue_wait: Histogram,
    /// `signet_batch_size`.
    pub batch_size: Histogram,
    /// `signet_rate_limited_total{policy}`.
    pub limited: IntCounterVec,
    /// `signet_storage_bytes`.
    pub storage: Gauge,
    /// `signet_session_ips`.
    pub session_ips: Histogram,
    /// `signet_user_generations`.
    pub user_generations: Histogram,
    /// `signet_links_total{verdict,kid}`.
    pub links: IntCounterVec,
    /// `signet_uploads_total{verdict}`.
    pub uploads: IntCounterVec,
    /// `signet_key_age_seconds{kind}`.
    pub key_age: GaugeVec,
    /// `signet_trace_spans_dropped_total`.
    pub spans_dropped: IntCounter,
    /// What no request moves by itself.
    pub health: Health,
}

const SECONDS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0,
];

/// Values of closed label sets.
const OUTCOMES: [&str; 4] = ["done", "failed", "cancelled", "refused"];
const STAGES: [&str; 6] = ["text", "denoise", "decode", "provider", "encode", "store"];
const POLICIES: [&str; 15] = [
    "address",
    "token",
    "user",
    "user-hour",
    "jobs",
    "units-day",
    "storage",
    "streams",
    "penalty-box",
    "reads",
    "uploads",
    "writes",
    "links",
    "token-endpoint",
    "token-endpoint-client",
];

/// Routes that answer from limits, as templates. A series that is born with its first burst hides it from `rate`.
const ROUTES: [&str; 16] = [
    "/api/generate",
    "/api/upload",
    "/api/usage",
    "/api/images",
    "/api/images/{id}",
    "/api/images/{id}/link",
    "/api/images/{id}/keep",
    "/api/jobs/{id}",
    "/api/jobs/{id}/events",
    "/oauth/token",
    "/oauth/revoke",
    "/oauth/introspect",
    "/auth/login",
    "/auth/callback",
    "/admin/session",
    "other",
];
/// Their answers that come in bursts: a first flood of strangers or of failures is a rise too.
const STATUSES: [&str; 6] = ["200", "401", "404", "429", "500", "503"];

impl Metrics {
    /// # Errors
    /// Only a defect: two metrics of one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let metric =
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let stage = HistogramVec::new(
            HistogramOpts::new("signet_stage_seconds", "Time of a generation's stages.")
                .buckets(SECONDS.to_vec()),
            &["stage"],
        )?;
        registry.register(Box::new(stage.clone()))?;
        let queue_depth = IntGauge::new("signet_queue_depth", "Jobs that wait.")?;
        registry.register(Box::new(queue_depth.clone()))?;
        let storage = Gauge::new(
            "signet_storage_bytes",
            "Bytes stored or reserved by all users.",
        )?;
        registry.register(Box::new(storage.clone()))?;
        let key_age = GaugeVec::new(
            Opts::new(
                "signet_key_age_seconds",
                "Age of the key that signs or hashes now, by kind; 0 where there is none.",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(key_age.clone()))?;
        let spans_dropped = IntCounter::new(
            "signet_trace_spans_dropped_total",
            "Spans that the collector did not get.",
        )?;
        registry.register(Box::new(spans_dropped.clone()))?;
        let metrics = Self {
            key_age,
            spans_dropped,
            requests: counters(
                "signet_http_requests_total",
                "Answers by route and status.",
                &["route", "status"],
            )?,
            generations: counters(
                "signet_generations_total",
                "Generations by outcome.",
                &["outcome"],
            )?,
            generation: histogram(
                "signet_generation_seconds",
                "Time from arrival to picture.",
                &SECONDS,
            )?,
            queue_wait: histogram("signet_queue_wait_seconds", "Time in the queue.", &SECONDS)?,
            batch_size: histogram(
                "signet_batch_size",
                "Rows in a call of the denoiser.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            )?,
            limited: counters(
                "signet_rate_limited_total",
                "Refusals by limit.",
                &["policy"],
            )?,
            session_ips: histogram(
                "signet_session_ips",
                "Addresses seen in a session.",
                &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0],
            )?,
            user_generations: histogram(
                "signet_user_generations",
                "Generations an hour of active users.",
                &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0],
            )?,
            links: counters(
                "signet_links_total",
                "Opened and refused links.",
                &["verdict", "kid"],
            )?,
            uploads: counters("signet_uploads_total", "Uploads by verdict.", &["verdict"])?,
            health: Health::new(&registry)?,
            stage,
            queue_depth,
            storage,
            registry,
        };
        metrics.touch();
        Ok(metrics)
    }

    /// Makes every series of a closed label set present at 0.
    fn touch(&self) {
        for outcome in OUTCOMES {
            self.generations.with_label_values(&[outcome]);
        }
        for stage in STAGES {
            self.stage.with_label_values(&[stage]);
        }
        for policy in POLICIES.iter().chain(&EDGE_POLICIES) {
            self.limited.with_label_values(&[policy]);
        }
        for verdict in VERDICTS {
            self.links.with_label_values(&[verdict, UNKNOWN_KID]);
        }
        for kind in super::ages::KINDS {
            self.key_age.with_label_values(&[kind]);
        }
        for verdict in ["accepted", "refused"].iter().chain(&UploadError::CODES) {
            self.uploads.with_label_values(&[verdict]);
        }
        for route in ROUTES {
            for status in STATUSES {
                self.requests.with_label_values(&[route, status]);
            }
        }
    }

    /// Makes each key of the link ring visible before its first link, and the last one's end after it.
    pub fn know_link_keys<'a>(&self, kids: impl Iterator<Item = &'a str>) {
        for kid in kids {
            for verdict in VERDICTS {
                self.links.with_label_values(&[verdict, kid]);
            }
        }
    }

    /// What the engine's thread reports to.
    pub fn observer(&self) -> crate::schedule::Observer {
        let metrics = self.clone();
        Box::new(move |seen| match seen {
            Observation::Waited(wait) => metrics.queue_wait.observe(wait.as_secs_f64()),
            Observation::Batch { slots } => metrics.batch_size.observe(slots as f64),
            Observation::Stage { stage, took } => metrics
                .stage
                .with_label_values(&[stage])
                .observe(took.as_secs_f64()),
        })
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_contract_is_there_from_the_start() {
        let text = Metrics::new().unwrap().render();
        for name in [
            "signet_http_requests_total",
            "signet_generations_total",
            "signet_generation_seconds",
            "signet_stage_seconds",
            "signet_queue_depth",
            "signet_queue_wait_seconds",
            "signet_batch_size",
            "signet_rate_limited_total",
            "signet_storage_bytes",
            "signet_session_ips",
            "signet_user_generations",
            "signet_links_total",
            "signet_uploads_total",
            "signet_prompt_repeats",
            "signet_redis_away",
            "signet_revocations",
            "signet_edge_told_timestamp_seconds",
            "signet_certificate_not_before_seconds",
            "signet_certificate_not_after_seconds",
            "signet_certificate_reload_failures_total",
        ] {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn a_first_burst_of_refusals_is_a_rise_and_no_birth() {
        let metrics = Metrics::new().unwrap();
        metrics.know_link_keys(["k1"].into_iter());
        let text = metrics.render();
        for series in [
            r#"signet_http_requests_total{route="/api/generate",status="429"} 0"#,
            r#"signet_links_total{kid="k1",verdict="link_expired"} 0"#,
        ] {
            assert!(text.contains(series), "{series}");
        }
    }

    #[test]
    fn no_route_of_the_api_is_born_with_its_first_burst() {
        let text = Metrics::new().unwrap().render();
        let routes = include_str!("../routes.rs");
        let templates: Vec<_> = routes
            .split("at(\"")
            .filter_map(|rest| rest.split('"').next())
            .filter(|path| {
                ["/api/", "/oauth/", "/v1/"]
                    .iter()
                    .any(|room| path.starts_with(room))
            })
            .collect();
        assert!(templates.len() >= 12, "{templates:?}");
        for route in templates {
            let series = format!(r#"signet_http_requests_total{{route="{route}",status="429"}} 0"#);
            assert!(text.contains(&series), "{series}");
        }
    }
}
