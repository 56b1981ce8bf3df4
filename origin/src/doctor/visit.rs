//! What the rows share: a client, a token, and one small upload that is deleted at the end.

use std::sync::Mutex;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Method;
use serde_json::Value;

use super::http::{Answer, Ask, Http};
use super::inputs::{Base, Credentials, Inputs};
use super::{Finding, given, uploads};
use crate::auth::provider::encode;
use crate::clock::Clock;

/// Longest `Retry-After` that is waited for, in seconds.
const PATIENCE: u64 = 15;

/// The upload that links are tried on.
#[derive(Debug)]
pub struct Probe {
    /// Names it in the API.
    pub id: String,
    /// The object's key.
    pub key: String,
    /// Its signed link.
    pub url: String,
    /// Its size as the service told it.
    pub bytes: u64,
}

/// One examination.
pub struct Visit {
    /// What was given.
    pub inputs: Inputs,
    /// The time.
    pub clock: Clock,
    /// The client, with the address of this visit.
    pub http: Http,
    /// The client for other servers.
    pub plain: Http,
    /// What the token endpoint answered, or why nothing.
    pub grant: Result<Value, Finding>,
    /// The upload, or why there is none.
    pub probe: Result<Probe, Finding>,
    /// Bytes that the user's storage held before and with the upload.
    pub stored: Option<(u64, u64)>,
    /// Tokens and signatures of this visit: never printed, looked for in logs.
    spoken: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visit")
    }
}

impl Visit {
    /// Takes a token and makes the upload. What fails here is told by the rows that need it.
    ///
    /// # Errors
    /// The system has no certificates.
    pub async fn begin(inputs: Inputs, clock: Clock) -> std::io::Result<Self> {
        let http = Http::new(inputs.connect_to.clone())?;
        let mut visit = Self {
            plain: http.clone(),
            http,
            inputs,
            clock,
            grant: Err(Finding::Skipped("no token was asked for".into())),
            probe: Err(Finding::Skipped("nothing was uploaded".into())),
            stored: None,
            spoken: Mutex::default(),
        };
        visit.http = visit.stranger();
        visit.grant = visit.ask_token(&visit.http, None).await;
        let before = visit.usage("storage", "used").await.ok();
        visit.probe = uploads::make_probe(&visit).await;
        let after = visit.usage("storage", "used").await.ok();
        visit.stored = before.zip(after);
        Ok(visit)
    }

    /// Deletes the upload.
    pub async fn end(&self) {
        if let Ok(probe) = &self.probe {
            let _ = self.delete_image(&probe.id).await;
        }
    }

    /// A client with an address that nobody used before, where the deployment is on this machine and believes us.
    /// Elsewhere the same client: there the address is what it is.
    pub fn stranger(&self) -> Http {
        let loopback = self.inputs.edge.as_ref().is_some_and(Base::is_loopback);
        if loopback {
            // RFC 2544: addresses for tests, which nobody has.
            let [a, b, c] = rand::random::<[u8; 3]>();
            let address = format!("198.{}.{b}.{c}", 18 + (a & 1));
            self.plain.as_address(&address)
        } else {
            self.plain.clone()
        }
    }

    /// `EDGE_URL`.
    ///
    /// # Errors
    /// [`Finding::Skipped`] without it; so with the others below.
    pub fn edge(&self) -> Result<&Base, Finding> {
        given(&self.inputs.edge, "EDGE_URL is not set")
    }

    /// `IMAGES_URL`.
    ///
    /// # Errors
    /// [`Finding::Skipped`].
    pub fn images(&self) -> Result<&Base, Finding> {
        given(&self.inputs.images, "IMAGES_URL is not set")
    }

    /// The client's credentials.
    ///
    /// # Errors
    /// [`Finding::Skipped`].
    pub fn client(&self) -> Result<&Credentials, Finding> {
        given(
            &self.inputs.client,
            "CLIENT_ID and CLIENT_SECRET are not set",
        )
    }

    /// A token with every scope of the client.
    ///
    /// # Errors
    /// [`Finding::Skipped`]: the row `token-life` tells why there is none.
    pub fn token(&self) -> Result<&str, Finding> {
        let grant = self.grant.as_ref().ok();
        let token = grant.and_then(|grant| grant.get("access_token")?.as_str());
        token.ok_or_else(|| Finding::Skipped("there is no token: see token-life".into()))
    }

    /// The upload.
    ///
    /// # Errors
    /// [`Finding::Skipped`]: the row `upload-reencoded` tells why there is none.
    pub fn probe(&self) -> Result<&Probe, Finding> {
        let probe = self.probe.as_ref();
        probe.map_err(|_| Finding::Skipped("there is no picture: see upload-reencoded".into()))
    }

    /// Path and query of the upload's link.
    ///
    /// # Errors
    /// [`Finding::Skipped`] without a link to `IMAGES_URL`.
    pub fn link(&self) -> Result<&str, Finding> {
        let images = self.images()?;
        images
            .target_of(&self.probe()?.url)
            .ok_or_else(|| Finding::Skipped("links lead elsewhere: see images-host".into()))
    }

    /// Opens a target at the images host.
    ///
    /// # Errors
    /// No address, no answer.
    pub async fn open(&self, target: impl Into<String>) -> Result<Answer, Finding> {
        Ok(self.http.send(Ask::get(self.images()?, target)).await?)
    }

    /// Sends what `ask` makes, and once more when told to come back soon.
    ///
    /// # Errors
    /// No answer.
    pub async fn patiently<'a>(
        &self,
        http: &Http,
        ask: impl Fn() -> Ask<'a>,
    ) -> Result<Answer, Finding> {
        let answer = http.send(ask()).await?;
        let wait = answer
            .header("retry-after")
            .and_then(|wait| wait.parse().ok());
        match wait.filter(|wait| answer.status == 429 && *wait <= PATIENCE) {
            Some(wait) => {
                tokio::time::sleep(Duration::from_secs(wait)).await;
                Ok(http.send(ask()).await?)
            }
            None => Ok(answer),
        }
    }

    /// The token endpoint's answer to the client, with these scopes or all it has.
    ///
    /// # Errors
    /// No credentials, no answer, or another one than a token.
    pub async fn ask_token(&self, http: &Http, scope: Option<&str>) -> Result<Value, Finding> {
        let answer = self.token_endpoint(http, scope).await?;
        let json = answer.json();
        match json.get("access_token").and_then(Value::as_str) {
            Some(token) if answer.status == 200 => {
                self.keep_quiet_about(token);
                Ok(json)
            }
            _ => Err(Finding::Fail(format!(
                "POST /oauth/token with the client's secret: {}, no token",
                answer.told()
            ))),
        }
    }

    /// Whatever the token endpoint answers.
    ///
    /// # Errors
    /// No credentials or no answer.
    pub async fn token_endpoint(
        &self,
        http: &Http,
        scope: Option<&str>,
    ) -> Result<Answer, Finding> {
        let (edge, client) = (self.edge()?, self.client()?);
        let pair = format!("{}:{}", encode(&client.id), encode(client.secret.expose()));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        let scope = scope.map(|scope| format!("&scope={}", encode(scope)));
        let body = format!("grant_type=client_credentials{}", scope.unwrap_or_default());
        self.patiently(http, || {
            Ask::post(edge, "/oauth/token")
                .header("authorization", &basic)
                .body("application/x-www-form-urlencoded", body.clone())
        })
        .await
    }

    /// A number of a row of `GET /api/usage`.
    ///
    /// # Errors
    /// No token, no answer, no such row.
    pub async fn usage(&self, policy: &str, field: &str) -> Result<u64, Finding> {
        let usage = self.usage_rows().await?;
        let row = usage
            .iter()
            .find(|row| row.get("policy").and_then(Value::as_str) == Some(policy));
        row.and_then(|row| row.get(field)?.as_u64())
            .ok_or_else(|| Finding::Fail(format!("GET /api/usage shows no policy {policy:?}")))
    }

    /// The rows of `GET /api/usage`.
    ///
    /// # Errors
    /// No token, no answer, another answer than a report.
    pub async fn usage_rows(&self) -> Result<Vec<Value>, Finding> {
        let (edge, token) = (self.edge()?, self.token()?);
        let answer = self
            .patiently(&self.http, || Ask::get(edge, "/api/usage").token(token))
            .await?;
        let rows = answer
            .json()
            .get("limits")
            .and_then(Value::as_array)
            .cloned();
        rows.ok_or_else(|| Finding::Fail(format!("GET /api/usage: {}", answer.told())))
    }

    /// Deletes a picture of ours.
    ///
    /// # Errors
    /// No token, or no answer.
    pub async fn delete_image(&self, id: &str) -> Result<Answer, Finding> {
        let (edge, token) = (self.edge()?, self.token()?);
        self.patiently(&self.http, || {
            Ask::new(edge, Method::DELETE, format!("/api/images/{id}")).token(token)
        })
        .await
    }

    /// Remembers a token or signature of this visit.
    pub fn keep_quiet_about(&self, secret: &str) {
        let mut spoken = self
            .spoken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        spoken.push(secret.to_owned());
    }

    /// Tokens and signatures of this visit.
    pub fn spoken(&self) -> Vec<String> {
        let spoken = self
            .spoken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        spoken.clone()
    }

    /// Evidence without any secret, whatever a broken deployment answered.
    pub fn redact(&self, mut evidence: String) -> String {
        for secret in self.spoken() {
            evidence = evidence.replace(&secret, "REDACTED");
        }
        for known in &self.inputs.known {
            let value = known.value.expose();
            for part in value.split([',', ':']).filter(|part| part.len() >= 16) {
                evidence = evidence.replace(part, "REDACTED");
            }
        }
        evidence
    }
}
