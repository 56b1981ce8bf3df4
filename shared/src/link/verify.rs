//! From a link's shape to the right to open it.

use std::net::IpAddr;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::name::{self, MAX_WIDE_BYTES};
use super::{CLOCK_SKEW, LinkError, MAX_LIFE, UnverifiedLink, VERSION};
use crate::keyring::{Key, Keyring};
use crate::object_key::ObjectKey;
use crate::referer::{FetchHeaders, RefererPolicy};

/// Feeds what the MAC covers: `signet-link-v1`, `/key`, then each `name=value`, every line ended by one LF.
pub(super) fn mac_of(key: &Key, object: &str, params: &str) -> [u8; 32] {
    let mut mac: Hmac<Sha256> = key.start();
    mac.update(VERSION.as_bytes());
    mac.update(b"\n/");
    mac.update(object.as_bytes());
    mac.update(b"\n");
    for line in params.split('&') {
        mac.update(line.as_bytes());
        mac.update(b"\n");
    }
    mac.finalize().into_bytes().into()
}

/// A link that one of our keys signed, in its time, opened from an address it allows.
#[derive(Clone, Debug)]
pub struct VerifiedLink<'a>(UnverifiedLink<'a>);

impl<'a> UnverifiedLink<'a> {
    /// Checks MAC, expiry, longest life and client address, in this order, so that nobody learns anything about a
    /// link without a valid MAC. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`LinkError::BadSignature`], [`LinkError::Expired`], [`LinkError::LifeTooLong`], [`LinkError::IpMismatch`].
    pub fn verify(
        self,
        ring: &Keyring,
        now: u64,
        client: Option<IpAddr>,
    ) -> Result<VerifiedLink<'a>, LinkError> {
        let key = ring.get(self.kid).ok_or(LinkError::BadSignature)?;
        if !bool::from(mac_of(key, self.key, self.before_sig).ct_eq(&self.mac)) {
            return Err(LinkError::BadSignature);
        }
        if now >= self.exp {
            return Err(LinkError::Expired);
        }
        if self.exp - now > MAX_LIFE + CLOCK_SKEW {
            return Err(LinkError::LifeTooLong);
        }
        match (&self.ip, client) {
            (Some(range), Some(client)) if range.contains(client) => {}
            (Some(_), _) => return Err(LinkError::IpMismatch),
            (None, _) => {}
        }
        Ok(VerifiedLink(self))
    }
}

impl VerifiedLink<'_> {
    /// Asks the referer policy. What remains owns its parts, since it lives across the object's reading.
    ///
    /// # Errors
    /// [`LinkError::RefererDenied`].
    pub fn permit(
        self,
        policy: &RefererPolicy,
        headers: &FetchHeaders<'_>,
    ) -> Result<PermittedLink, LinkError> {
        if !policy.allows(headers) {
            return Err(LinkError::RefererDenied);
        }
        let link = self.0;
        // The shape was checked while parsing; a key that is none cannot get here.
        let key = ObjectKey::parse(link.key).map_err(|_| LinkError::Malformed)?;
        let mut buffer = [0; MAX_WIDE_BYTES];
        let wide = match link.dn {
            None => None,
            Some(value) => Some(name::decode(value, &mut buffer).ok_or(LinkError::Malformed)?),
        };
        Ok(PermittedLink {
            key,
            exp: link.exp,
            kid: link.kid.into(),
            is_wide: wide.is_some(),
            name: link.dl.or(wide).map(Into::into),
            ep: link.ep,
            fingerprint: fingerprint(link.sig),
        })
    }

    /// Id of the key that signed it, for the counters.
    pub fn kid(&self) -> &str {
        self.0.kid
    }
}

/// How a link is named in a revocation: the first 16 bytes of SHA-256 of its `sig`.
pub fn fingerprint(sig: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(sig.as_bytes()).into();
    let mut out = [0; 16];
    out.copy_from_slice(digest.split_at(16).0);
    out
}

/// A verified link that the referer policy lets pass.
#[derive(Clone, Debug)]
pub struct PermittedLink {
    key: ObjectKey,
    exp: u64,
    kid: Box<str>,
    name: Option<Box<str>>,
    is_wide: bool,
    ep: u64,
    fingerprint: [u8; 16],
}

impl PermittedLink {
    /// The object it opens.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// End of its life in Unix seconds.
    pub fn exp(&self) -> u64 {
        self.exp
    }

    /// Id of the key that signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Name under which a browser saves it.
    pub fn download_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether that name came in `dn`: it may hold any letter.
    pub fn is_wide_name(&self) -> bool {
        self.is_wide
    }

    /// The owner's link epoch when it was signed.
    pub fn epoch(&self) -> u64 {
        self.ep
    }

    /// Its name in a revocation.
    pub fn fingerprint(&self) -> &[u8; 16] {
        &self.fingerprint
    }
}
