//! The row about alerts: the rules that ship with this program are loaded where they are evaluated.

use serde_json::Value;

use super::http::Ask;
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// The rules that ship with this program.
const RULES: &str = include_str!("../../../deploy/prometheus/alerts.yml");

/// Their names.
fn names() -> impl Iterator<Item = &'static str> {
    RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert:").map(str::trim))
}

/// Asks Prometheus for its rules and for the service's health.
pub async fn loaded(visit: &Visit) -> Verdict {
    let Some(prometheus) = &visit.inputs.prometheus else {
        return Err(Finding::Skipped(
            "no Prometheus was given (--prometheus, PROMETHEUS_URL)".into(),
        ));
    };
    let answer = visit
        .plain
        .send(Ask::get(prometheus, "/api/v1/rules?type=alert"))
        .await?;
    ensure(answer.status == 200, || {
        format!("GET {}/api/v1/rules: {}", prometheus.url(), answer.told())
    })?;
    let json = answer.json();
    let groups = json
        .pointer("/data/groups")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let rules: Vec<&Value> = groups
        .iter()
        .filter_map(|group| group.get("rules")?.as_array())
        .flatten()
        .collect();
    let text = |rule: &Value, name: &str| {
        rule.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let missing: Vec<&str> = names()
        .filter(|name| !rules.iter().any(|rule| text(rule, "name") == *name))
        .collect();
    ensure(missing.is_empty(), || {
        format!("{} has no rule {}", prometheus.url(), missing.join(", "))
    })?;
    let broken = rules.iter().find(|rule| text(rule, "health") == "err");
    ensure(broken.is_none(), || {
        let rule = broken
            .map(|rule| (text(rule, "name"), text(rule, "lastError")))
            .unwrap_or_default();
        format!("the rule {} cannot be evaluated: {}", rule.0, rule.1)
    })?;
    let firing: Vec<String> = rules
        .iter()
        .filter(|rule| text(rule, "state") == "firing")
        .map(|rule| text(rule, "name"))
        .collect();
    let firing = if firing.is_empty() {
        "none fires".into()
    } else {
        format!("firing: {}", firing.join(", "))
    };
    Ok(format!(
        "{} has all {} rules that ship with this program; {firing}",
        prometheus.url(),
        names().count()
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_shipped_rules_have_names() {
        assert!(super::names().count() >= 10);
        assert!(super::names().all(|name| name.starts_with("Signet")));
    }
}
