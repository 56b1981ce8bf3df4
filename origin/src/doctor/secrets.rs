//! Finding secrets in text: the ones that this deployment has, and what has the shape of one.

use base64::{Engine, engine::general_purpose::STANDARD};
use shared::hex::hex;

use super::inputs::Known;
use crate::secret::Secret;

/// Shorter values are no secrets, and would be found everywhere.
const SHORTEST: usize = 16;

/// Looks for secrets. What it says is found by name, never shown.
#[derive(Debug)]
pub struct Scanner {
    needles: Vec<(String, Secret)>,
}

impl Scanner {
    /// A scanner for these secrets in each spelling that they may have.
    pub fn new(known: &[Known]) -> Self {
        let mut needles = Vec::new();
        for Known { name, value } in known {
            for pair in value.expose().split(',') {
                // Of a keyring the keys, without their padding; a key id is no secret.
                let text = pair.split_once(':').map_or(pair, |(_, key)| key);
                let bare = text.trim_end_matches('=');
                let mut spellings = vec![bare.to_owned(), bare.replace('+', "-").replace('/', "_")];
                if let Ok(bytes) = STANDARD.decode(text) {
                    spellings.push(hex(&bytes));
                }
                spellings.dedup();
                let long = spellings.into_iter().filter(|text| text.len() >= SHORTEST);
                needles.extend(long.map(|text| (name.clone(), Secret::new(text))));
            }
        }
        Self { needles }
    }

    /// How many secrets it knows, each counted once.
    pub fn known(&self) -> usize {
        let mut names: Vec<&String> = self.needles.iter().map(|(name, _)| name).collect();
        names.dedup();
        names.len()
    }

    /// The name of a secret of this deployment that stands in the text.
    pub fn known_in(&self, text: &str) -> Option<&str> {
        let found = |needle: &&(String, Secret)| text.contains(needle.1.expose());
        self.needles
            .iter()
            .find(found)
            .map(|(name, _)| name.as_str())
    }
}

/// What a key begins with, how many characters of it follow at least, and whose it is.
const PREFIXES: [(&str, usize, &str); 17] = [
    ("sk-", 32, "an API key of OpenAI's form"),
    ("sk_live_", 16, "a live Stripe key"),
    ("rk_live_", 16, "a restricted live Stripe key"),
    ("r8_", 30, "a Replicate token"),
    ("hf_", 30, "a Hugging Face token"),
    ("AKIA", 16, "an AWS access key id"),
    ("ASIA", 16, "an AWS access key id"),
    ("AIza", 35, "a Google API key"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("npm_", 36, "an npm token"),
    ("dop_v1_", 40, "a DigitalOcean token"),
];

/// What has the shape of a provider's key or of a private key.
pub fn shape_in(text: &str) -> Option<&'static str> {
    for (at, _) in text.match_indices("-----BEGIN ") {
        let line = text
            .get(at..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default();
        let body = text.get(at + line.len()..).unwrap_or_default().trim_start();
        let is_body = body
            .bytes()
            .take(40)
            .filter(|c| c.is_ascii_alphanumeric())
            .count()
            >= 36;
        if line.contains("PRIVATE KEY-----") && is_body {
            return Some("a private key");
        }
    }
    for (prefix, least, whose) in PREFIXES {
        for (at, _) in text.match_indices(prefix) {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            let starts = !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let rest = text.get(at + prefix.len()..).unwrap_or_default();
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
            let rest = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if starts && rest.len() >= least && is_random(rest) {
                return Some(whose);
            }
        }
    }
    None
}

/// What has the shape of a keyring of ours, `kid:` and 32 or 64 bytes in base64.
pub fn keyring_in(text: &str) -> bool {
    text.match_indices(':').any(|(at, _)| {
        let kid = text.get(..at).and_then(|before| before.chars().next_back());
        let rest = text.get(at + 1..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/');
        let (key, after) = rest.split_at(end.unwrap_or(rest.len()));
        let padded = (key.len() == 43 && after.starts_with('='))
            || (key.len() == 86 && after.starts_with("=="));
        padded && kid.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    })
}

/// Letters and digits mixed, and enough different ones: a placeholder of dots, x or words is no key.
fn is_random(text: &str) -> bool {
    let mut seen = [false; 256];
    for byte in text.bytes() {
        if let Some(seen) = seen.get_mut(usize::from(byte)) {
            *seen = true;
        }
    }
    let different = seen.iter().filter(|seen| **seen).count();
    different >= 8
        && text.bytes().any(|c| c.is_ascii_digit())
        && text.bytes().any(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(name: &str, value: &str) -> Known {
        Known {
            name: name.into(),
            value: Secret::new(value),
        }
    }

    #[test]
    fn a_known_key_is_found_in_every_spelling() {
        let key = STANDARD.encode([0xfbu8; 32]);
        let scanner = Scanner::new(&[
            known("LINK_KEYS", &format!("k1:{key}")),
            known("CLIENT_SECRET", "abcdefgh12345678"),
        ]);
        assert_eq!(scanner.known(), 2);
        let bare = key.trim_end_matches('=');
        for text in [
            format!("x{bare}y"),
            bare.replace('+', "-").replace('/', "_"),
            "fb".repeat(32),
        ] {
            assert_eq!(scanner.known_in(&text), Some("LINK_KEYS"), "{text}");
        }
        assert_eq!(
            scanner.known_in("secret=abcdefgh12345678"),
            Some("CLIENT_SECRET")
        );
        assert_eq!(scanner.known_in("k1: abcdefgh1234567"), None);
    }

    #[test]
    fn keys_are_known_by_their_shape_and_placeholders_are_none() {
        // Put together here, so that no scanner takes this file for a leak.
        let random = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
        for prefix in ["sk-", "sk-proj-", "hf_", "ghp_", "AIza", "npm_"] {
            assert!(
                shape_in(&format!("key = \"{prefix}{random}\"")).is_some(),
                "{prefix}"
            );
        }
        let pem = |body: &str| format!("-----BEGIN {}PRIVATE KEY-----\n{body}\n", "EC ");
        assert_eq!(shape_in(&pem(&random.repeat(2))), Some("a private key"));
        for harmless in [
            pem("..."),
            "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".into(),
            "task-force-of-people-who-like-long-names-and-hyphens".into(),
            format!("risk-{random}"),
            "sk-short1".into(),
        ] {
            assert_eq!(shape_in(&harmless), None, "{harmless}");
        }
        let ring = format!("k1:{}", STANDARD.encode([7u8; 32]));
        assert!(keyring_in(&format!("keys={ring};")));
        assert!(!keyring_in(
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}|(sk-|k:|-----BEGIN )[ -~é]{0,60}") {
            let _ = (shape_in(&text), keyring_in(&text), Scanner::new(&[known("K", &text)]).known_in(&text));
        }
    }
}
