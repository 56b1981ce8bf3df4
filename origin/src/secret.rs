//! Text that must never be shown: passwords and access keys from the environment or a file.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret. `Debug` and serialisation print `REDACTED`, memory is wiped on drop and equality takes
/// the same time wherever two secrets of one length differ.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// A secret given as text or in a file whose surrounding white space does not count; none where it is neither.
    ///
    /// # Errors
    /// A sentence that names `setting`: both are given, or the file cannot be read.
    pub fn given(
        setting: &str,
        text: Option<&Self>,
        file: Option<&Path>,
    ) -> Result<Option<Self>, String> {
        match (text, file) {
            (Some(_), Some(_)) => Err(format!("{setting} is given and a file of it too")),
            (Some(secret), None) => Ok(Some(secret.clone())),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map(|text| Some(Self::new(text.trim())))
                .map_err(|error| format!("{setting}_file: {}: {error}", file.display())),
            (None, None) => Ok(None),
        }
    }

    /// The text itself: pass it to the one call that needs it, never to a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("REDACTED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "REDACTED");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"REDACTED\"");
        assert_eq!(secret.expose(), "hunter2");
        assert_ne!(secret, Secret::new("hunter3"));
    }
}
