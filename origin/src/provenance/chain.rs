//! A certificate chain made here, for the demo and for services without one of their own: it proves that a picture came
//! from this installation unchanged, and to nobody else who that is. The authority's key is forgotten at once, so that
//! it signs no second certificate.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use sha2::{Digest, Sha256};

use super::der::{bits, octets, oid, positive, sequence, set, text, time, tlv};
use crate::clock::rfc3339;
use crate::secret::Secret;

/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2.
const SIGNED_WITH: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// id-ecPublicKey, 1.2.840.10045.2.1.
const PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// prime256v1, 1.2.840.10045.3.1.7.
const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// commonName, 2.5.4.3, and organizationName, 2.5.4.10.
const NAMES: [[u8; 3]; 2] = [[0x55, 4, 3], [0x55, 4, 10]];
/// id-kp-emailProtection, 1.3.6.1.5.5.7.3.4: one of the purposes that C2PA accepts of a signer.
const PURPOSE: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 4];
/// subjectKeyIdentifier, keyUsage, basicConstraints, authorityKeyIdentifier, extKeyUsage: 2.5.29.n.
const SUBJECT_KEY: [u8; 3] = [0x55, 0x1d, 14];
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 15];
const CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];
const AUTHORITY_KEY: [u8; 3] = [0x55, 0x1d, 35];
const EXTENDED_USAGE: [u8; 3] = [0x55, 0x1d, 37];

/// Years that a chain made here is good for; at the service's start an old one is replaced.
const YEARS: u64 = 5;
const YEAR: u64 = 365 * 24 * 3600;

/// A key and the chain that vouches for it, both in PEM.
pub struct Credentials {
    /// PKCS#8.
    pub key: Secret,
    /// The signer's certificate first.
    pub chain: String,
}

/// Someone's name and key.
struct Party {
    name: Vec<u8>,
    pair: EcdsaKeyPair,
    pkcs8: zeroize::Zeroizing<Vec<u8>>,
}

impl Party {
    fn new(common: &str, random: &SystemRandom) -> Result<Self, String> {
        let failed = |error| format!("making a P-256 key: {error}");
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random)
            .map_err(|error| failed(error.to_string()))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), random)
            .map_err(|error| failed(error.to_string()))?;
        let [cn, o] = NAMES.map(|name| oid(&name));
        let common = set(&sequence(&[&cn, &text(common)]));
        let organisation = set(&sequence(&[&o, &text("Signet, self-made")]));
        Ok(Self {
            name: sequence(&[&organisation, &common]),
            pair,
            pkcs8: made.as_ref().to_vec().into(),
        })
    }

    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// RFC 7093, method 1.
    fn key_id(&self) -> Vec<u8> {
        let hash = Sha256::digest(self.public());
        hash.iter().copied().take(20).collect()
    }
}

/// Makes an authority, a signer, and the signer's certificate.
///
/// # Errors
/// Only when the system gives no randomness.
pub fn make(now: u64) -> Result<Credentials, String> {
    let random = SystemRandom::new();
    let authority = Party::new("Signet local authority", &random)?;
    let signer = Party::new("Signet local signer", &random)?;
    let of_authority = [
        extension(
            &CONSTRAINTS,
            true,
            &sequence(&[&tlv(1, &[0xff]), &positive(&[0])]),
        ),
        // keyCertSign
        extension(&KEY_USAGE, true, &tlv(3, &[2, 0x04])),
        extension(&SUBJECT_KEY, false, &octets(&authority.key_id())),
    ]
    .concat();
    let of_signer = [
        // digitalSignature
        extension(&KEY_USAGE, true, &tlv(3, &[7, 0x80])),
        extension(&EXTENDED_USAGE, false, &sequence(&[&oid(&PURPOSE)])),
        extension(&SUBJECT_KEY, false, &octets(&signer.key_id())),
        extension(
            &AUTHORITY_KEY,
            false,
            &sequence(&[&tlv(0x80, &authority.key_id())]),
        ),
    ]
    .concat();
    let certificates = [
        certificate(&authority, &signer, &of_signer, now, &random)?,
        certificate(&authority, &authority, &of_authority, now, &random)?,
    ];
    let chain = certificates.map(|der| pem("CERTIFICATE", &der)).concat();
    Ok(Credentials {
        key: Secret::new(pem("PRIVATE KEY", &signer.pkcs8)),
        chain,
    })
}

fn extension(name: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical {
        tlv(1, &[0xff])
    } else {
        Vec::new()
    };
    sequence(&[&oid(name), &critical, &octets(value)])
}

fn certificate(
    issuer: &Party,
    subject: &Party,
    extensions: &[u8],
    now: u64,
    random: &SystemRandom,
) -> Result<Vec<u8>, String> {
    let algorithm = sequence(&[&oid(&SIGNED_WITH)]);
    let key_type = sequence(&[&oid(&PUBLIC_KEY), &oid(&P256)]);
    let serial: [u8; 16] = rand::random();
    // An hour back, for machines whose clocks differ.
    let from = time(&rfc3339(now.saturating_sub(3600)));
    let until = time(&rfc3339(now + YEARS * YEAR));
    let body = sequence(&[
        &tlv(0xa0, &positive(&[2])),
        &positive(&serial),
        &algorithm,
        &issuer.name,
        &sequence(&[&from, &until]),
        &subject.name,
        &sequence(&[&key_type, &bits(subject.public())]),
        &tlv(0xa3, &tlv(0x30, extensions)),
    ]);
    let signature = issuer
        .pair
        .sign(random, &body)
        .map_err(|error| format!("signing a certificate: {error}"))?;
    Ok(sequence(&[&body, &algorithm, &bits(signature.as_ref())]))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    lines.push_str(&format!("-----END {label}-----\n"));
    lines
}
