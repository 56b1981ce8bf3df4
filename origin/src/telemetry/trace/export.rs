//! Sends spans on, many at once. A collector that is away costs spans, which are counted, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Span;
use super::json::request;
use crate::outbound::Outbound;

/// Spans in one call, and how long the first of them waits for more.
const BATCH: usize = 512;
const PATIENCE: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(5);
const ANSWER: usize = 64 * 1024;

/// Sends what `spans` brings to `endpoint` for as long as there are tracers.
pub async fn follow(
    mut spans: mpsc::Receiver<Span>,
    endpoint: String,
    outbound: Outbound,
    dropped: IntCounter,
) {
    let base = endpoint.trim_end_matches('/');
    let url = if base.ends_with("/v1/traces") {
        base.to_owned()
    } else {
        format!("{base}/v1/traces")
    };
    let mut failing = false;
    while let Some(first) = spans.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + PATIENCE;
        while batch.len() < BATCH
            && let Ok(Some(span)) = tokio::time::timeout_at(until, spans.recv()).await
        {
            batch.push(span);
        }
        let sent = send(&outbound, &url, &batch).await;
        match &sent {
            Ok(()) if failing => tracing::info!("traces are taken again"),
            Err(error) if !failing => tracing::warn!(error, "traces are not taken"),
            _ => {}
        }
        if sent.is_err() {
            dropped.inc_by(batch.len() as u64);
        }
        failing = sent.is_err();
    }
}

async fn send(outbound: &Outbound, url: &str, batch: &[Span]) -> Result<(), String> {
    let body = serde_json::to_vec(&request(batch)).map_err(|error| error.to_string())?;
    let request = Request::post(url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = outbound.send(request, WITHIN, ANSWER).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!(
            "the collector answered {}",
            answer.status().as_u16()
        ))
    }
}
