//! Where a span stands: the trace and the span (W3C Trace Context).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A trace's id and a span's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

/// Exactly `N` bytes in lower-case hex, not all zero.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut found = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (at, byte) in found.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    (found != [0; N]).then_some(found)
}

impl Context {
    /// Reads a `traceparent`; `None` for anything that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str| {
            text.len() == 2 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        // A later version may have more parts; this one has not.
        let whole = version != "ff" && (version != "00" || parts.next().is_none());
        if !is_hex(version) || !is_hex(flags) || !whole {
            return None;
        }
        Some(Self {
            trace: bytes(trace)?,
            span: bytes(span)?,
            sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        })
    }

    /// The root of a request's trace: its id where that has the form of one, as the edge's and ours have, else made of
    /// it.
    pub fn of_request(id: &str) -> Self {
        let made = || {
            let mut trace = [0; 16];
            let digest = Sha256::digest(id.as_bytes());
            trace
                .iter_mut()
                .zip(digest)
                .for_each(|(to, from)| *to = from);
            trace
        };
        Self {
            trace: bytes(id).unwrap_or_else(made),
            span: rand::random(),
            sampled: true,
        }
    }

    /// A span of the same trace.
    pub fn child(&self) -> Self {
        Self {
            span: rand::random(),
            ..*self
        }
    }

    /// The span's id.
    pub fn span(&self) -> [u8; 8] {
        self.span
    }

    pub(super) fn trace(&self) -> [u8; 16] {
        self.trace
    }

    /// Whether the caller takes this trace.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// Whether this trace is among so many of a hundred; all its spans agree.
    pub fn is_among(&self, percent: u8) -> bool {
        let [.., high, low] = self.trace;
        u32::from(u16::from_be_bytes([high, low])) * 100 < u32::from(percent) * 65_536
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::hex::hex;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_by_the_book() {
        let context = Context::parse(GOOD).unwrap();
        assert_eq!(hex(&context.trace()), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(hex(&context.span()), "b7ad6b7169203331");
        assert!(context.is_sampled());
        assert!(Context::parse(&GOOD.replace("00-0", "cc-0")).is_some());
        assert!(Context::parse(&format!("{}-more", GOOD.replace("00-0", "cc-0"))).is_some());
        for bad in [
            "".to_owned(),
            GOOD.replace("00-0", "ff-0"),
            GOOD.replace("0af765", "0AF765"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace("-01", "-1"),
            GOOD.replace("-01", "-zz"),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
        ] {
            assert_eq!(Context::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_request_id_of_the_edge_is_the_traces_id() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(hex(&Context::of_request(id).trace()), id);
        assert_eq!(
            Context::of_request("short-id").trace(),
            Context::of_request("short-id").trace()
        );
        assert_ne!(
            Context::of_request("short-id").trace(),
            Context::of_request("other-id").trace()
        );
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "\\PC{0,70}") {
            let _ = Context::parse(&text);
            let _ = Context::of_request(&text);
        }

        #[test]
        fn a_share_of_the_traces_is_taken(percent in 0u8..=100) {
            let taken = (0..2_000u32).filter(|n| Context::of_request(&n.to_string()).is_among(percent)).count();
            prop_assert!(taken.abs_diff(usize::from(percent) * 20) < 140, "{taken} of 2000 at {percent} %");
        }
    }
}
