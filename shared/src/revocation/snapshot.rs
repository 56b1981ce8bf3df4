//! How origins of earlier versions told it: all that is revoked at once, up to 1 MiB. Read still, since edges are
//! deployed first; a line each, ended by LF:
//!
//! ```text
//! signet-revoked-v1 {unix-milliseconds}
//! epoch {owner} {epoch}
//! link {first 16 bytes of SHA-256 of the sig, in hex} {exp}
//! suspended {owner}
//! ```

use super::entry::{Entry, Kind, NEVER};
use super::{MAX_TEXT, number};

/// What a snapshot begins with.
pub const HEAD: &str = "signet-revoked-v1";

/// All that was revoked at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the origin made it, in Unix milliseconds.
    pub taken_ms: u64,
    /// All of it.
    pub entries: Vec<Entry>,
}

impl Snapshot {
    /// Reads the text of a snapshot; anything unknown in it makes it none, since what is not understood may revoke.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').filter(|_| text.len() <= MAX_TEXT)?;
        let mut lines = text.split('\n');
        let taken_ms = number(lines.next()?.strip_prefix(HEAD)?.strip_prefix(' ')?)?;
        let entries = lines.map(entry).collect::<Option<_>>()?;
        Some(Self { taken_ms, entries })
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    match (words.next()?, words.next()?, words.next(), words.next()) {
        ("epoch", owner, Some(epoch), None) => {
            Entry::new(Kind::Epoch, owner, number(epoch)?, NEVER)
        }
        ("link", print, Some(exp), None) => Entry::new(Kind::Link, print, 0, number(exp)?),
        ("suspended", owner, None, None) => Entry::new(Kind::Suspended, owner, 0, NEVER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "signet-revoked-v1 [0-9]{0,21}\n((epoch|link|suspended) [ -~]{0,40}\n?){0,3}|.{0,60}") {
            let _ = Snapshot::parse(&text);
        }
    }

    #[test]
    fn what_is_not_understood_makes_no_snapshot() {
        let good = "signet-revoked-v1 5\nepoch a 1\nlink 000102030405060708090a0b0c0d0e0f 9\nsuspended b\n";
        let read = Snapshot::parse(good).unwrap();
        let lines: Vec<String> = read.entries.iter().map(ToString::to_string).collect();
        assert_eq!(read.taken_ms, 5);
        assert_eq!(
            lines,
            [
                "epoch a 1 253402300799",
                "link 000102030405060708090a0b0c0d0e0f 0 9",
                "suspended b 0 253402300799"
            ]
        );
        for bad in [
            "",
            "\n",
            "signet-revoked-v1\n",
            "signet-revoked-v1 5",
            "signet-revoked-v2 5\n",
            "signet-revoked-v1 05\n",
            "signet-revoked-v1 5\nepoch a\n",
            "signet-revoked-v1 5\nepoch a 1 2\n",
            "signet-revoked-v1 5\nepoch a/b 1\n",
            "signet-revoked-v1 5\nlink 00 1\n",
            "signet-revoked-v1 5\nlink 000102030405060708090A0B0C0D0E0F 9\n",
            "signet-revoked-v1 5\nsuspended \n",
            "signet-revoked-v1 5\n\n",
            "signet-revoked-v1 5\nallow a\n",
            "signet-revoked-v1 5\nsuspended b\r\n",
            "signet-revoked-v1 +5\n",
        ] {
            assert_eq!(Snapshot::parse(bad), None, "{bad:?}");
        }
    }
}
