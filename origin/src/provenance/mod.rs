//! C2PA Content Credentials: every generated picture says, signed and for machines, that a model made it.

mod chain;
mod der;
mod settings;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use c2pa::{BoxedSigner, Builder, Context, Reader, SigningAlg, ValidationState};
use serde_json::json;

use crate::clock::{Clock, rfc3339};
use crate::infer::{Format, Pixels, encode};
use crate::secret::Secret;

pub use chain::{Credentials, make};
pub use settings::ProvenanceSettings;

/// IPTC's word for media made by a trained model.
const SOURCE_TYPE: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";

/// Marks pictures. Cheap to clone.
#[derive(Clone)]
pub struct Provenance {
    signer: Arc<BoxedSigner>,
    context: Arc<Context>,
    clock: Clock,
}

impl std::fmt::Debug for Provenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provenance(REDACTED)")
    }
}

impl Provenance {
    /// The configured signer, or the one that this service made for itself in `own`; none when switched off. A picture
    /// is marked and read back on trial, so that a chain that cannot work is found before the first user comes.
    ///
    /// # Errors
    /// What is wrong with chain or key, in words for the operator.
    pub fn open(
        settings: &ProvenanceSettings,
        own: &Path,
        clock: &Clock,
    ) -> Result<Option<Self>, String> {
        if !settings.enabled {
            return Ok(None);
        }
        let credentials = match (&settings.chain_file, &settings.key_file) {
            (Some(chain), Some(key)) => Credentials {
                chain: read(chain)?,
                key: Secret::new(read(key)?),
            },
            _ => kept(own, clock)?,
        };
        match Self::tried(&credentials, clock) {
            Ok(one) => Ok(Some(one)),
            // Ours, and too old or damaged: a new one.
            Err(_) if settings.chain_file.is_none() => {
                Self::tried(&fresh(own, clock)?, clock).map(Some)
            }
            Err(error) => Err(format!(
                "provenance.chain_file and provenance.key_file: {error}"
            )),
        }
    }

    fn tried(credentials: &Credentials, clock: &Clock) -> Result<Self, String> {
        let one = Self::new(credentials, clock)?;
        one.try_out()?;
        Ok(one)
    }

    /// A signer of these credentials.
    ///
    /// # Errors
    /// A key or chain that cannot be read.
    pub fn new(credentials: &Credentials, clock: &Clock) -> Result<Self, String> {
        let signer = c2pa::create_signer::from_keys(
            credentials.chain.as_bytes(),
            credentials.key.expose().as_bytes(),
            SigningAlg::Es256,
            None,
        );
        Ok(Self {
            signer: Arc::new(signer.map_err(|error| error.to_string())?),
            context: Arc::new(Context::new()),
            clock: clock.clone(),
        })
    }

    /// The same picture with its credentials. Takes a millisecond or two of processor.
    ///
    /// # Errors
    /// Only a certificate that has run out since the start, or a defect.
    pub fn mark(&self, file: Vec<u8>, format: Format, model: &str) -> Result<Vec<u8>, String> {
        let now = rfc3339(self.clock.seconds());
        let action = json!({
            "action": "c2pa.created", "when": now, "digitalSourceType": SOURCE_TYPE,
            "softwareAgent": { "name": model },
        });
        let definition = json!({
            "claim_generator_info": [{ "name": "Signet", "version": env!("CARGO_PKG_VERSION") }],
            "assertions": [{ "label": "c2pa.actions.v2", "data": { "actions": [action] } }],
        });
        let mut marked = Cursor::new(Vec::with_capacity(file.len() + (16 << 10)));
        let mut file = Cursor::new(file);
        Builder::from_shared_context(&self.context)
            .with_definition(definition)
            .and_then(|mut builder| {
                let signer = self.signer.as_ref().as_ref();
                builder.sign(signer, media_type(format), &mut file, &mut marked)
            })
            .map_err(|error| error.to_string())?;
        Ok(marked.into_inner())
    }

    fn try_out(&self) -> Result<(), String> {
        let pixels = Pixels {
            width: 8,
            height: 8,
            rgb: vec![128; 8 * 8 * 3],
            seed: 0,
        };
        let file = encode(&pixels, Format::Png).map_err(|error| error.to_string())?;
        let marked = self.mark(file, Format::Png, "trial")?;
        let reader = Reader::from_shared_context(&self.context)
            .with_stream("image/png", Cursor::new(marked))
            .map_err(|error| error.to_string())?;
        if reader.validation_state() == ValidationState::Invalid {
            let results = reader.validation_results();
            return Err(format!(
                "pictures signed with it are not valid: {results:?}"
            ));
        }
        Ok(())
    }
}

fn media_type(format: Format) -> &'static str {
    match format {
        Format::Png => "image/png",
        Format::Webp => "image/webp",
        Format::Jpeg => "image/jpeg",
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// What an earlier start made: key and chain in one file.
fn kept(own: &Path, clock: &Clock) -> Result<Credentials, String> {
    if !own.exists() {
        return fresh(own, clock);
    }
    let text = zeroize::Zeroizing::new(read(own)?);
    let Some(at) = text.find("-----BEGIN CERTIFICATE") else {
        return fresh(own, clock);
    };
    let (key, chain) = text.split_at(at);
    Ok(Credentials {
        key: Secret::new(key),
        chain: chain.to_owned(),
    })
}

fn fresh(own: &Path, clock: &Clock) -> Result<Credentials, String> {
    let made = make(clock.seconds())?;
    let text = zeroize::Zeroizing::new(format!("{}{}", made.key.expose(), made.chain));
    crate::startup::write_private(own, &text)
        .map_err(|error| format!("{}: {error}", own.display()))?;
    Ok(made)
}
