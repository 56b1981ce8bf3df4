//! One JSON line a generated picture.

use std::net::IpAddr;

/// The request's id, remembered with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// What a generation's line holds.
#[derive(Debug)]
pub struct GenerationLine<'a> {
    /// The user.
    pub user_id: &'a str,
    /// The client's address.
    pub ip: IpAddr,
    /// Keyed, so that equal prompts are seen and none can be read.
    pub prompt_hash: &'a str,
    /// Under the key before, for the day after a change: joins what was repeated across it.
    pub prompt_hash_before: Option<&'a str>,
    /// The object.
    pub output_key: &'a str,
    /// Its size.
    pub output_bytes: u64,
    /// From arrival to picture, milliseconds.
    pub latency_ms: u64,
    /// Of it in the queue.
    pub queue_ms: u64,
    /// The model's name.
    pub model: &'a str,
    /// The seed.
    pub seed: u64,
    /// Steps taken.
    pub steps: usize,
    /// Units charged.
    pub cost_units: f64,
    /// What is left of the tightest rate.
    pub rate_limit_remaining: u64,
    /// As in the answer's `x-request-id`.
    pub request_id: &'a str,
}

impl GenerationLine<'_> {
    /// Writes the line; its `timestamp` is every line's own.
    pub fn write(&self) {
        tracing::info!(
            target: "signet::generation",
            event = "image_generated",
            user_id = self.user_id,
            ip = %self.ip,
            prompt_hash = self.prompt_hash,
            prompt_hash_before = self.prompt_hash_before,
            output_key = self.output_key,
            output_bytes = self.output_bytes,
            latency_ms = self.latency_ms,
            queue_ms = self.queue_ms,
            model = self.model,
            seed = self.seed,
            steps = self.steps,
            cost_units = self.cost_units,
            rate_limit_remaining = self.rate_limit_remaining,
            request_id = self.request_id,
        );
    }
}
