//! Gauges of what stands around a request: repeated prompts, the shared state, the certificate.

use std::sync::Arc;

use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use super::repeats::{Most, Repeats};

/// Series that no request moves by itself.
#[derive(Clone, Debug)]
pub struct Health {
    /// Prompts of the last hour.
    pub repeats: Arc<Repeats>,
    repeated: IntGaugeVec,
    /// `signet_redis_away`: 1 while a configured Redis does not answer.
    pub redis_away: IntGauge,
    /// `signet_revocations`: what is revoked at the moment, of every kind.
    pub revocations: IntGauge,
    /// `signet_edge_told_timestamp_seconds`: when the edge last took in what is revoked, or
    /// this process started to tell it, Unix time; 0 without an edge.
    pub edge_told: Gauge,
    /// `signet_certificate_not_before_seconds`, Unix time; 0 without a certificate.
    pub certificate_from: Gauge,
    /// `signet_certificate_not_after_seconds`, Unix time; 0 without a certificate.
    pub certificate_until: Gauge,
    /// `signet_certificate_reload_failures_total`.
    pub certificate_failures: IntCounter,
}

impl Health {
    /// # Errors
    /// Only a defect: two metrics of one name.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let repeated = IntGaugeVec::new(
            Opts::new(
                "signet_prompt_repeats",
                "Generations of the most repeated prompt in the last hour.",
            ),
            &["by"],
        )?;
        let redis_away = IntGauge::new(
            "signet_redis_away",
            "1 while a configured Redis does not answer.",
        )?;
        let revocations = IntGauge::new(
            "signet_revocations",
            "What is revoked at the moment: owners, epochs, clients, tokens, addresses and links.",
        )?;
        let edge_told = Gauge::new(
            "signet_edge_told_timestamp_seconds",
            "Unix time at which the edge last took in what is revoked, or telling began; 0 without an edge.",
        )?;
        let certificate_from = Gauge::new(
            "signet_certificate_not_before_seconds",
            "Unix time from which the certificate in use is valid; 0 without one.",
        )?;
        let certificate_until = Gauge::new(
            "signet_certificate_not_after_seconds",
            "Unix time until which the certificate in use is valid; 0 without one.",
        )?;
        let certificate_failures = IntCounter::new(
            "signet_certificate_reload_failures_total",
            "Changed certificate files that could not be used.",
        )?;
        registry.register(Box::new(repeated.clone()))?;
        registry.register(Box::new(redis_away.clone()))?;
        registry.register(Box::new(revocations.clone()))?;
        registry.register(Box::new(edge_told.clone()))?;
        registry.register(Box::new(certificate_from.clone()))?;
        registry.register(Box::new(certificate_until.clone()))?;
        registry.register(Box::new(certificate_failures.clone()))?;
        let health = Self {
            repeats: Arc::default(),
            repeated,
            redis_away,
            revocations,
            edge_told,
            certificate_from,
            certificate_until,
            certificate_failures,
        };
        health.show_most(Most::default());
        Ok(health)
    }

    /// Brings `signet_prompt_repeats` up to `now`, in seconds.
    pub async fn show_repeats(&self, now: u64) {
        self.show_most(self.repeats.most_anywhere(now).await);
    }

    fn show_most(&self, most: Most) {
        for (by, count) in [
            ("one_user", most.by_one_user),
            ("many_users", most.by_many_users),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.repeated.with_label_values(&[by]).set(count);
        }
    }
}
