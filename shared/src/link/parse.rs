//! The shape of a link: from the raw request target to named parts, without allocating.

use super::name::{self, MAX_WIDE_BYTES};
use super::{AddressRange, LinkError};
use crate::{b64, keyring, object_key};

/// A link of the right shape, about which nothing is known yet. Its parts are private until the MAC was checked.
#[derive(Clone, Debug)]
pub struct UnverifiedLink<'a> {
    pub(super) key: &'a str,
    /// The query up to `sig`, and after it: all that the MAC covers, as it stands.
    pub(super) before_sig: &'a str,
    pub(super) kid: &'a str,
    pub(super) mac: [u8; 32],
    pub(super) sig: &'a str,
    pub(super) exp: u64,
    pub(super) dl: Option<&'a str>,
    /// As it stands: base64url.
    pub(super) dn: Option<&'a str>,
    pub(super) ep: u64,
    pub(super) ip: Option<AddressRange>,
}

impl<'a> UnverifiedLink<'a> {
    /// Reads `target`, path and query exactly as they came over the wire.
    ///
    /// # Errors
    /// [`LinkError::BadSignature`] for a well-formed path without query or without `sig`, [`LinkError::Malformed`]
    /// for all else that is not the one spelling of a link.
    pub fn parse(target: &'a str) -> Result<Self, LinkError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let key = key_of(path).ok_or(LinkError::Malformed)?;
        let query = query.ok_or(LinkError::BadSignature)?;
        if !query.split('&').any(|pair| pair.starts_with("sig=")) {
            return Err(LinkError::BadSignature);
        }
        Self::parse_query(key, query).ok_or(LinkError::Malformed)
    }

    /// As [`Self::parse`], of the two sides of the question mark.
    pub(super) fn parse_parts(path: &'a str, query: &'a str) -> Option<Self> {
        Self::parse_query(key_of(path)?, query)
    }

    fn parse_query(key: &'a str, query: &'a str) -> Option<Self> {
        let (mut exp, mut kid, mut sig, mut dl, mut dn) = (None, None, None, None, None);
        let (mut ep, mut ip) = (0, None);
        let extension = object_key::extension_of(key).unwrap_or("");
        let mut last = "";
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=')?;
            // Ascending order also means: each once.
            if name <= last || !is_value(value) {
                return None;
            }
            last = name;
            match name {
                "dl" if name::is_download_name(value, extension) => dl = Some(value),
                // One name at most, and each in one of the two ways.
                "dn" if dl.is_none() => {
                    let mut buffer = [0; MAX_WIDE_BYTES];
                    let name = name::decode(value, &mut buffer)?;
                    if !name::is_wide_name(name, extension) {
                        return None;
                    }
                    dn = Some(value);
                }
                "ep" => ep = number(value)?,
                "exp" => exp = Some(number(value)?),
                "ip" => ip = Some(AddressRange::parse(value).ok()?),
                "kid" => kid = Some(value).filter(|kid| keyring::is_kid(kid)).map(Some)?,
                "sig" => sig = Some((value, b64::decode_mac(value)?)),
                _ => return None,
            }
        }
        let (sig, mac) = sig?;
        // All known names but `sig` sort before it, so what the MAC covers is one piece of the query.
        let before_sig = query
            .strip_suffix(sig)?
            .strip_suffix("sig=")?
            .strip_suffix('&')?;
        Some(Self {
            key,
            before_sig,
            kid: kid?,
            mac,
            sig,
            exp: exp?,
            dl,
            dn,
            ep,
            ip,
        })
    }
}

/// The object that a path names, where links to it may exist.
fn key_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')
        .filter(|key| object_key::is_valid(key) && object_key::is_linkable(key))
}

/// `[A-Za-z0-9._-]{1,128}`.
fn is_value(value: &str) -> bool {
    (1..=128).contains(&value.len())
        && value
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

/// `[1-9][0-9]{0,11}`.
fn number(value: &str) -> Option<u64> {
    let plain = (1..=12).contains(&value.len())
        && value.bytes().all(|c| c.is_ascii_digit())
        && !value.starts_with('0');
    if plain { value.parse().ok() } else { None }
}
