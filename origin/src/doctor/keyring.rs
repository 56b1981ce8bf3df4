//! The row about the link keyring: it is this deployment's, it was random, and no other deployment knows it.

use shared::keyring::Keyring;
use shared::object_key::ObjectKey;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::http::Ask;
use super::links::sign;
use super::visit::Visit;
use super::{Finding, Verdict, ensure, given};

/// A link of ours opens nothing at other deployments; keys of documents and tests are nobody's.
pub async fn own(visit: &Visit) -> Verdict {
    let text = given(&visit.inputs.link_keys, "LINK_KEYS is not set")?.expose();
    let ring =
        Keyring::parse(text).map_err(|error| Finding::Fail(format!("LINK_KEYS: {error}")))?;
    for pair in text.trim().split(',') {
        let (kid, key) = pair.split_once(':').unwrap_or_default();
        let bytes = STANDARD.decode(key).unwrap_or_default();
        ensure(is_random(&bytes), || {
            format!(
                "the key {kid} was never random: it is one of an example or a test, which everybody has"
            )
        })?;
    }
    let probe = visit.probe()?;
    let key = ObjectKey::parse(&probe.key)
        .map_err(|error| Finding::Fail(format!("the upload's key: {error}")))?;
    let target = sign(&ring, &key, visit.clock.seconds() + 60);
    let opened = visit.open(target.clone()).await?;
    ensure(opened.status == 200, || {
        format!(
            "a link signed with LINK_KEYS: {}; they are not this deployment's keys",
            opened.told()
        )
    })?;
    let kids: Vec<&str> = ring.kids().collect();
    let mut saw = vec![format!(
        "a link signed with {} of LINK_KEYS ({}) opens",
        ring.signing().kid(),
        kids.join(", ")
    )];
    if visit.inputs.others.is_empty() {
        saw.push("no other deployment was named (--other-images)".into());
    }
    for other in &visit.inputs.others {
        let images = visit.images()?;
        ensure(other != images, || {
            format!("--other-images {} is this deployment's own", other.url())
        })?;
        // Every key of the ring, on an object that nobody has: whoever knows the key looks for the object.
        for pair in text.trim().split(',') {
            let one = Keyring::parse(pair)
                .map_err(|error| Finding::Fail(format!("LINK_KEYS: {error}")))?;
            let target = sign(&one, &key, visit.clock.seconds() + 60);
            let answer = visit.plain.send(Ask::get(other, target)).await?;
            ensure(answer.status == 403, || {
                format!(
                    "{} answers a link signed with our key {} with {}, wanted 403 bad_signature: the two deployments share it",
                    other.url(),
                    one.signing().kid(),
                    answer.told()
                )
            })?;
        }
        saw.push(format!("{} knows none of them", other.url()));
    }
    Ok(saw.join("; "))
}

/// Whether bytes may have come from a random source: not few different ones, not one step after another.
fn is_random(bytes: &[u8]) -> bool {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let steps = bytes.windows(2).map(|pair| match pair {
        [a, b] => b.wrapping_sub(*a),
        _ => 0,
    });
    let mut different: Vec<u8> = steps.collect();
    different.sort_unstable();
    different.dedup();
    sorted.len() >= 16 && different.len() >= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_examples_are_known_and_random_ones_are_not_taken_for_them() {
        let counted: Vec<u8> = (0..32).collect();
        let later: Vec<u8> = (100..164).collect();
        for bad in [
            vec![0x42; 32],
            counted,
            later,
            b"aaaabbbbaaaabbbbaaaabbbbaaaabbbb".to_vec(),
        ] {
            assert!(!is_random(&bad), "{bad:?}");
        }
        for _ in 0..10_000 {
            assert!(is_random(&rand::random::<[u8; 32]>()));
        }
    }
}
