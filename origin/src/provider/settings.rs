//! The section `provider` of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::{key, money};
use crate::infer::{MAX_IMAGES, MAX_STEPS};
use crate::outbound::Reach;
use crate::secret::Secret;

/// An OpenAI-compatible service that makes pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where its API begins, up to and with the version, for example `https://api.example/v1`. Empty: no provider.
    pub base_url: String,
    /// What the provider calls the model.
    pub model: String,
    /// What requests call it here. Empty: as the provider does.
    pub name: String,
    /// The key, from `SIGNET_PROVIDER__KEY` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// The file that holds the key; followed while the service runs, and read again at SIGHUP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether the provider may be on this machine, and then without TLS: for development.
    pub allow_loopback: bool,
    /// Sizes it makes, `WIDTHxHEIGHT`; the first is the default one.
    pub sizes: Vec<String>,
    /// Most pictures in one request, 1 to 4.
    pub max_images: usize,
    /// `b64_json` or `url`: the form in which pictures are asked for. Empty: not said, for models that know one form
    /// only. Both forms are read.
    pub response_format: String,
    /// Steps that one picture counts as in cost units.
    pub steps: usize,
    /// Calls at once.
    pub parallel: usize,
    /// Longest wait for a connection, in seconds.
    pub connect_seconds: u64,
    /// Longest time for a job's pictures with all tries, in seconds.
    pub timeout_seconds: u64,
    /// Largest answer, in MiB.
    pub answer_mib: usize,
    /// What one picture costs, the dearest of what is asked for: a decimal in whatever the provider bills in, for
    /// example `"0.04"`.
    pub price: String,
    /// How much may be spent on one day (UTC), in the same money. Empty: no such limit.
    pub budget_day: String,
    /// More fields of each request, for example `quality = "low"`.
    pub fields: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            model: String::new(),
            name: String::new(),
            key: None,
            key_file: None,
            allow_loopback: false,
            sizes: vec!["1024x1024".into()],
            max_images: MAX_IMAGES,
            response_format: "b64_json".into(),
            steps: 20,
            parallel: 8,
            connect_seconds: 5,
            timeout_seconds: 120,
            answer_mib: 32,
            price: String::new(),
            budget_day: String::new(),
            fields: BTreeMap::new(),
        }
    }
}

/// Fields that Signet writes itself, and `user`, which would tell the provider who asks.
const OURS: [&str; 7] = [
    "model",
    "prompt",
    "n",
    "size",
    "response_format",
    "user",
    "stream",
];

impl Settings {
    /// Whether there is a provider.
    pub fn is_on(&self) -> bool {
        !self.base_url.is_empty()
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// A sentence that names the setting and shows nothing of the key.
    pub fn validate(&self) -> Result<(), String> {
        if !self.is_on() {
            return Ok(());
        }
        self.address()?;
        if self.model.is_empty() {
            return Err("provider.model is empty".into());
        }
        self.dimensions()?;
        for (name, value, low, high) in [
            ("max_images", self.max_images as u64, 1, MAX_IMAGES as u64),
            ("steps", self.steps as u64, 1, MAX_STEPS as u64),
            ("parallel", self.parallel as u64, 1, 1024),
            ("connect_seconds", self.connect_seconds, 1, 60),
            ("timeout_seconds", self.timeout_seconds, 1, 3600),
            ("answer_mib", self.answer_mib as u64, 1, 1024),
        ] {
            if !(low..=high).contains(&value) {
                return Err(format!(
                    "provider.{name} = {value}: must be {low} to {high}"
                ));
            }
        }
        if !["", "b64_json", "url"].contains(&self.response_format.as_str()) {
            return Err("provider.response_format must be b64_json, url or empty".into());
        }
        if let Some(name) = self
            .fields
            .keys()
            .find(|name| OURS.contains(&name.as_str()))
        {
            return Err(format!(
                "provider.fields.{name} is not for the configuration to say"
            ));
        }
        self.price_micros()?;
        if self.budget_micros()?.is_some() && self.price_micros()? == 0 {
            return Err("provider.budget_day needs provider.price".into());
        }
        key::first(self).map(drop)
    }

    /// Where requests for pictures go.
    pub(super) fn address(&self) -> Result<Uri, String> {
        let wrong = |why: &str| format!("provider.base_url {why}");
        let text = format!("{}/images/generations", self.base_url.trim_end_matches('/'));
        let uri: Uri = text.parse().map_err(|_| wrong("is no address"))?;
        if self.base_url.contains(['?', '#', '@']) {
            return Err(wrong("holds a query, a fragment or a user"));
        }
        if !may_ask(&uri, self.allow_loopback) {
            return Err(wrong(
                "is no https address (http only on loopback, with provider.allow_loopback)",
            ));
        }
        Ok(uri)
    }

    /// Where calls may go.
    pub(super) fn reach(&self) -> Reach {
        Reach::Public {
            loopback: self.allow_loopback,
        }
    }

    /// What requests call the model.
    pub(super) fn public_name(&self) -> &str {
        if self.name.is_empty() {
            &self.model
        } else {
            &self.name
        }
    }

    /// The sizes in pixels, at least one.
    pub(super) fn dimensions(&self) -> Result<Vec<(usize, usize)>, String> {
        let read = |text: &String| {
            let (width, height) = text.split_once('x')?;
            let side = |text: &str| text.parse().ok().filter(|side| (16..=4096).contains(side));
            Some((side(width)?, side(height)?))
        };
        let sizes: Option<Vec<_>> = self.sizes.iter().map(read).collect();
        sizes.filter(|sizes| !sizes.is_empty()).ok_or_else(|| {
            "provider.sizes must be a list like [\"1024x1024\"], sides 16 to 4096".into()
        })
    }

    /// The price of a picture in millionths.
    pub(super) fn price_micros(&self) -> Result<u64, String> {
        optional("provider.price", &self.price).map(|price| price.unwrap_or(0))
    }

    /// The day's budget in millionths.
    pub(super) fn budget_micros(&self) -> Result<Option<u64>, String> {
        optional("provider.budget_day", &self.budget_day)
    }
}

fn optional(name: &str, text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    money::micros(text)
        .map(Some)
        .map_err(|error| format!("{name}: {error}"))
}

/// Whether a call to this address keeps what it carries to itself: https, or this machine where that is allowed.
pub(super) fn may_ask(uri: &Uri, allow_loopback: bool) -> bool {
    let host = uri.host().unwrap_or("").trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => allow_loopback && is_here,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Settings)) -> Result<(), String> {
        let mut settings = Settings {
            base_url: "https://api.example/v1".into(),
            model: "m".into(),
            ..Settings::default()
        };
        change(&mut settings);
        settings.validate()
    }

    #[test]
    fn each_setting_that_cannot_work_is_named() {
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|s| s.base_url = String::new()), Ok(()));
        type Change = fn(&mut Settings);
        let cases: [(&str, Change); 16] = [
            ("base_url", |s| s.base_url = "http://api.example/v1".into()),
            ("base_url", |s| s.base_url = "http://127.0.0.1:9/v1".into()),
            ("base_url", |s| {
                s.base_url = "https://a:b@api.example/v1".into()
            }),
            ("base_url", |s| {
                s.base_url = "https://api.example/v1?x=1".into()
            }),
            ("base_url", |s| s.base_url = "file:///etc/passwd".into()),
            ("base_url", |s| s.base_url = "api.example".into()),
            ("model", |s| s.model = String::new()),
            ("sizes", |s| s.sizes = vec![]),
            ("sizes", |s| s.sizes = vec!["1024".into()]),
            ("sizes", |s| s.sizes = vec!["9999x1024".into()]),
            ("max_images", |s| s.max_images = 5),
            ("response_format", |s| s.response_format = "png".into()),
            ("fields.user", |s| {
                drop(s.fields.insert("user".into(), "x".into()))
            }),
            ("price", |s| s.price = "free".into()),
            ("budget_day", |s| s.budget_day = "1".into()),
            ("key", |s| s.key = Some(Secret::new("two words"))),
        ];
        for (name, change) in cases {
            let error = with(change).unwrap_err();
            assert!(error.contains(name), "{name}: {error}");
            assert!(!error.contains("two words"));
        }
        assert_eq!(
            with(|s| {
                s.base_url = "http://127.0.0.1:9/v1/".into();
                s.allow_loopback = true;
            }),
            Ok(())
        );
    }
}
