//! base64url without padding of exactly 32 bytes, in its one canonical spelling (RFC 4648 section 5).
//!
//! Written out because the hot path must neither allocate nor accept the other spellings of the same bytes.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Length of an encoded MAC in characters.
pub const MAC_CHARS: usize = 43;

const fn value(c: u8) -> Option<u32> {
    Some(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    } as u32)
}

/// Decodes 43 characters; `None` for another length, another alphabet, or unused trailing bits that are not zero.
pub fn decode_mac(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; MAC_CHARS] = text.as_bytes().try_into().ok()?;
    let mut out = [0u8; 32];
    let (groups, rest) = text.split_at(40);
    for (four, three) in groups.chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        let mut bits = 0;
        for &c in four {
            bits = bits << 6 | value(c)?;
        }
        let [_, a, b, c] = bits.to_be_bytes();
        three.copy_from_slice(&[a, b, c]);
    }
    let mut bits = 0;
    for &c in rest {
        bits = bits << 6 | value(c)?;
    }
    if bits & 3 != 0 {
        return None;
    }
    let [_, _, a, b] = (bits >> 2).to_be_bytes();
    let (_, tail) = out.split_at_mut(30);
    tail.copy_from_slice(&[a, b]);
    Some(out)
}

/// Appends the 43 characters of `mac` to `out`.
pub fn encode_mac(mac: &[u8; 32], out: &mut String) {
    let mut push = |bits: u32, chars: u32| {
        for i in (0..chars).rev() {
            let index = (bits >> (6 * i) & 63) as usize;
            out.push(ALPHABET.get(index).copied().unwrap_or(b'A') as char);
        }
    };
    let (groups, rest) = mac.split_at(30);
    for three in groups.chunks_exact(3) {
        push(three.iter().fold(0, |bits, &b| bits << 8 | u32::from(b)), 4);
    }
    push(
        rest.iter().fold(0, |bits, &b| bits << 8 | u32::from(b)) << 2,
        3,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encoding_is_that_of_the_base64_crate_and_decodes_back(mac: [u8; 32]) {
            let mut text = String::new();
            encode_mac(&mac, &mut text);
            prop_assert_eq!(&text, &URL_SAFE_NO_PAD.encode(mac));
            prop_assert_eq!(decode_mac(&text), Some(mac));
        }

        #[test]
        fn whatever_decodes_is_the_one_canonical_spelling(text in "[A-Za-z0-9_-]{43}") {
            if let Some(mac) = decode_mac(&text) {
                let mut again = String::new();
                encode_mac(&mac, &mut again);
                prop_assert_eq!(again, text);
            } else {
                prop_assert!(!"AEIMQUYcgkosw048".contains(&text[42..]));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = decode_mac(&text);
        }
    }
}
