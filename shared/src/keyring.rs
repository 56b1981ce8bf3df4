//! Keyrings: `kid:key` pairs joined by commas, the key in standard base64 with padding. The first signs, all verify.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Shortest and longest key in bytes.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

/// Why a keyring is refused; says where, never what the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyringError {
    /// No pair at all.
    Empty,
    /// The pair at this position (from 1) is not `kid:base64`, or its `kid` is not `[a-z0-9-]{1,32}`.
    Malformed(usize),
    /// The key at this position has fewer than 32 or more than 64 bytes.
    Length(usize),
    /// Two pairs have this `kid`.
    DuplicateKid(String),
    /// The pairs with these two `kid`s hold the same key.
    DuplicateKey(String, String),
}

impl std::fmt::Display for KeyringError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the keyring is empty; it needs at least one kid:key pair"),
            Self::Malformed(at) => {
                write!(
                    f,
                    "pair {at} of the keyring is not kid:key with kid of a-z 0-9 - and key in padded base64"
                )
            }
            Self::Length(at) => write!(f, "the key of pair {at} must have 32 to 64 bytes"),
            Self::DuplicateKid(kid) => write!(f, "two keys of the keyring have the id {kid}"),
            Self::DuplicateKey(a, b) => write!(f, "the key ids {a} and {b} hold the same key"),
        }
    }
}

impl std::error::Error for KeyringError {}

/// One key with its id and the hash state after the key block, so that a MAC starts half done.
#[derive(Clone)]
pub struct Key {
    kid: Box<str>,
    mac: Hmac<Sha256>,
    /// The key as HMAC sees it, padded with zeros to a block: two keys that differ in trailing zeros only are one.
    block: Zeroizing<[u8; 64]>,
}

impl Key {
    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A MAC under this key, ready for its input.
    pub fn start(&self) -> Hmac<Sha256> {
        self.mac.clone()
    }

    /// HMAC-SHA256 of `input` (RFC 2104).
    pub fn mac(&self, input: &[u8]) -> [u8; 32] {
        let mut mac = self.start();
        mac.update(input);
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}: REDACTED)", self.kid)
    }
}

/// At least one key; ids and keys are unique.
#[derive(Clone, Debug)]
pub struct Keyring(Vec<Key>);

/// Whether `kid` is `[a-z0-9-]{1,32}`.
pub fn is_kid(kid: &str) -> bool {
    (1..=32).contains(&kid.len())
        && kid
            .bytes()
            .all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

impl Keyring {
    /// Reads `kid:key,kid:key`.
    ///
    /// # Errors
    /// [`KeyringError`]: a service without a good keyring must refuse to start.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyringError::Empty);
        }
        let mut keys: Vec<Key> = Vec::new();
        for (index, pair) in text.split(',').enumerate() {
            let at = index + 1;
            let (kid, encoded) = pair.split_once(':').ok_or(KeyringError::Malformed(at))?;
            if !is_kid(kid) {
                return Err(KeyringError::Malformed(at));
            }
            let bytes = Zeroizing::new(
                STANDARD
                    .decode(encoded)
                    .map_err(|_| KeyringError::Malformed(at))?,
            );
            if !KEY_BYTES.contains(&bytes.len()) {
                return Err(KeyringError::Length(at));
            }
            let mut block = Zeroizing::new([0; 64]);
            for (to, from) in block.iter_mut().zip(bytes.iter()) {
                *to = *from;
            }
            for other in &keys {
                if other.kid() == kid {
                    return Err(KeyringError::DuplicateKid(kid.into()));
                }
                if bool::from(other.block.as_slice().ct_eq(block.as_slice())) {
                    return Err(KeyringError::DuplicateKey(other.kid().into(), kid.into()));
                }
            }
            let mac = Hmac::new_from_slice(&bytes).map_err(|_| KeyringError::Length(at))?;
            keys.push(Key {
                kid: kid.into(),
                mac,
                block,
            });
        }
        Ok(Self(keys))
    }

    /// The key that signs: the first.
    pub fn signing(&self) -> &Key {
        // `parse` is the only constructor and never makes an empty ring.
        match self.0.as_slice() {
            [first, ..] => first,
            [] => unreachable!("a keyring has at least one key"),
        }
    }

    /// The key with this id.
    pub fn get(&self, kid: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.kid() == kid)
    }

    /// All ids, the signing one first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Key::kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(kid: &str, byte: u8, length: usize) -> String {
        format!("{kid}:{}", STANDARD.encode(vec![byte; length]))
    }

    #[test]
    fn the_first_signs_and_all_verify() {
        let ring = Keyring::parse(&format!("{},{}", pair("b", 1, 32), pair("a-1", 2, 64))).unwrap();
        assert_eq!(ring.signing().kid(), "b");
        assert_eq!(ring.kids().collect::<Vec<_>>(), ["b", "a-1"]);
        assert!(ring.get("a-1").is_some() && ring.get("c").is_none());
    }

    #[test]
    fn weak_or_ambiguous_rings_are_refused() {
        let error = |text: &str| Keyring::parse(text).unwrap_err();
        assert_eq!(error(""), KeyringError::Empty);
        assert_eq!(error(" "), KeyringError::Empty);
        assert_eq!(error(&pair("a", 1, 31)), KeyringError::Length(1));
        assert_eq!(error(&pair("a", 1, 65)), KeyringError::Length(1));
        assert_eq!(error(&pair("A", 1, 32)), KeyringError::Malformed(1));
        assert_eq!(
            error(&pair(&"a".repeat(33), 1, 32)),
            KeyringError::Malformed(1)
        );
        assert_eq!(
            error(&pair("a", 1, 32).replace('=', "")),
            KeyringError::Malformed(1)
        );
        assert_eq!(
            error(&format!("{},", pair("a", 1, 32))),
            KeyringError::Malformed(2)
        );
        assert_eq!(
            error(&format!("{},{}", pair("a", 1, 32), pair("a", 2, 32))),
            KeyringError::DuplicateKid("a".into())
        );
        assert_eq!(
            error(&format!("{},{}", pair("a", 1, 32), pair("b", 1, 32))),
            KeyringError::DuplicateKey("a".into(), "b".into())
        );
    }

    #[test]
    fn keys_that_hmac_cannot_tell_apart_are_equal() {
        let mut longer = vec![9; 32];
        longer.push(0);
        let text = format!("{},b:{}", pair("a", 9, 32), STANDARD.encode(&longer));
        assert_eq!(
            Keyring::parse(&text).unwrap_err(),
            KeyringError::DuplicateKey("a".into(), "b".into())
        );
    }

    #[test]
    fn a_key_has_one_spelling() {
        let good = pair("a", 1, 32);
        assert!(Keyring::parse(&good).is_ok());
        // The last character before the padding has two unused bits, which must be zero.
        let loose = good.replace("EBAQE=", "EBAQF=");
        assert_ne!(loose, good);
        for bad in [loose, good.replace('=', "=="), good.replace(':', ": ")] {
            assert_eq!(
                Keyring::parse(&bad).unwrap_err(),
                KeyringError::Malformed(1)
            );
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let text = pair("a", 7, 32);
        let shown = format!("{:?}", Keyring::parse(&text).unwrap());
        assert!(
            shown.contains("REDACTED") && !shown.contains("Bwc"),
            "{shown}"
        );
    }

    #[test]
    fn hmac_is_that_of_rfc_4231_case_2_padded_to_a_long_enough_key() {
        // RFC 4231's keys are shorter than ours may be; the zero padding of RFC 2104 makes the longer one equal.
        let mut key = b"Jefe".to_vec();
        key.resize(64, 0);
        let ring = Keyring::parse(&format!("a:{}", STANDARD.encode(&key))).unwrap();
        let mac = ring.signing().mac(b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
