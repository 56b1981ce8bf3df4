//! Making links.

use super::name::{encode, is_download_name, is_wide_name};
use super::{AddressRange, MAX_LIFE, verify};
use crate::{b64, keyring::Keyring, object_key::ObjectKey};

/// What a link is to say. `now` and `exp` in Unix seconds.
#[derive(Clone, Debug)]
pub struct SignRequest<'a> {
    /// The object to open.
    pub key: &'a ObjectKey,
    /// End of its life: valid while `now < exp`.
    pub exp: u64,
    /// Name under which a browser saves it, as [`super::safe_name`] makes it: in `dl` where that takes it, else in `dn`.
    pub dl: Option<&'a str>,
    /// The owner's link epoch; 0 is left out.
    pub ep: u64,
    /// Only for clients in this range.
    pub ip: Option<AddressRange>,
}

/// Why no link is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// `temp/` has no links.
    NotLinkable,
    /// `exp` is not after `now`, or over 7 days ahead, or beyond 12 digits.
    Life,
    /// The name is not a safe one with the object's own extension.
    DownloadName,
    /// `ep` has more than 12 digits.
    Epoch,
}

impl std::fmt::Display for SignError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotLinkable => "no link exists for objects under temp/",
            Self::Life => "a link must end after now and within 7 days",
            Self::DownloadName => {
                "a download name has 100 characters A-Z a-z 0-9 _ - or 96 bytes of others at most, a dot, the object's own extension, no separators, controls or characters that Windows reserves, and is no device name"
            }
            Self::Epoch => "the link epoch is out of range",
        })
    }
}

impl std::error::Error for SignError {}

/// Rounds an expiry up to the next multiple of `grain` seconds, so that a page rendered again within it shows the
/// same link; falls back to the last multiple that keeps the life within 7 days, and to `exp` where there is none.
pub fn round_up(exp: u64, grain: u64, now: u64) -> u64 {
    if grain <= 1 {
        return exp;
    }
    let up = exp.div_ceil(grain).saturating_mul(grain);
    if up <= now.saturating_add(MAX_LIFE) {
        return up;
    }
    let down = exp / grain * grain;
    if down > now { down } else { exp }
}

impl SignRequest<'_> {
    /// Path and query of the link under the ring's first key.
    ///
    /// # Errors
    /// [`SignError`]: nothing is signed that our own verifier would refuse.
    pub fn sign(&self, ring: &Keyring, now: u64) -> Result<String, SignError> {
        const MAX_NUMBER: u64 = 999_999_999_999;
        if !self.key.is_linkable() {
            return Err(SignError::NotLinkable);
        }
        if self.exp <= now || self.exp > now.saturating_add(MAX_LIFE) || self.exp > MAX_NUMBER {
            return Err(SignError::Life);
        }
        if self.ep > MAX_NUMBER {
            return Err(SignError::Epoch);
        }
        let extension = self.key.extension().unwrap_or("");
        let name = match self.dl {
            None => None,
            Some(name) if is_download_name(name, extension) => Some(("dl", name.to_owned())),
            Some(name) if is_wide_name(name, extension) => Some(("dn", encode(name))),
            Some(_) => return Err(SignError::DownloadName),
        };
        let signing = ring.signing();
        let mut link = String::with_capacity(self.key.as_str().len() + 240);
        link.push('/');
        link.push_str(self.key.as_str());
        let query = link.len() + 1;
        let mut push = |separator: &str, name: &str, value: &str| {
            for part in [separator, name, "=", value] {
                link.push_str(part);
            }
        };
        let mut separator = "?";
        if let Some((parameter, name)) = name {
            push(separator, parameter, &name);
            separator = "&";
        }
        if self.ep > 0 {
            push(separator, "ep", &self.ep.to_string());
            separator = "&";
        }
        push(separator, "exp", &self.exp.to_string());
        if let Some(ip) = &self.ip {
            push("&", "ip", &ip.to_string());
        }
        push("&", "kid", signing.kid());
        let mac = verify::mac_of(signing, self.key.as_str(), link.get(query..).unwrap_or(""));
        link.push_str("&sig=");
        b64::encode_mac(&mac, &mut link);
        Ok(link)
    }
}
