//! `Signet-Decided`: the limits of a request that the edge has decided, each with the numbers by which it did. The origin
//! decides a policy itself unless the edge did so by the very numbers that hold for the caller: so each is decided in
//! one place, also while the edge's objects are away or plans differ.

/// The header, which the edge signs and no client can send.
pub const HEADER: &str = "signet-decided";
/// Policy of the penalty box.
pub const PENALTY_BOX: &str = "penalty-box";
/// Policy of tokens.
pub const TOKEN: &str = "token";

/// Two numbers, written `A/B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(pub u32, pub u32);

/// What the edge decided; the request passed all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// `penalty-box`: arrivals within 60 s that pass, and seconds of a block.
    pub penalty: Option<Pair>,
    /// `token`: requests a minute, and burst.
    pub token: Option<Pair>,
}

impl Pair {
    /// Reads `A/B`, in its one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let (a, b) = text.split_once('/')?;
        Some(Self(number(a)?, number(b)?))
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// Digits without a sign or a leading zero.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

impl Decided {
    /// The header's value; none when nothing was decided.
    pub fn to_text(self) -> Option<String> {
        let words: Vec<String> = [(PENALTY_BOX, self.penalty), (TOKEN, self.token)]
            .into_iter()
            .filter_map(|(name, pair)| pair.map(|pair| format!("{name}={pair}")))
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Reads a value of a signed request. Words that are not known, as of a newer edge, decide nothing.
    pub fn parse(text: &str) -> Self {
        let mut decided = Self::default();
        for word in text.split(' ') {
            match word.split_once('=') {
                Some((PENALTY_BOX, pair)) => decided.penalty = Pair::parse(pair),
                Some((TOKEN, pair)) => decided.token = Pair::parse(pair),
                _ => {}
            }
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_and_nonsense_decide_nothing() {
        assert_eq!(Decided::default().to_text(), None);
        for text in [
            "",
            "token",
            "token=",
            "token=20",
            "token=+20/5",
            "token=020/5",
            "token=20/5/1",
            "Token=20/5",
            "token=4294967296/1",
            "jobs=1/1",
        ] {
            assert_eq!(Decided::parse(text), Decided::default(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(penalty: Option<(u32, u32)>, token: Option<(u32, u32)>) {
            let pair = |pair: Option<(u32, u32)>| pair.map(|(a, b)| Pair(a, b));
            let decided = Decided { penalty: pair(penalty), token: pair(token) };
            prop_assert_eq!(Decided::parse(&decided.to_text().unwrap_or_default()), decided);
        }

        #[test]
        fn any_text_is_read(text in "((token|penalty-box)=[0-9]{0,11}/?[0-9]{0,3} ?){0,3}|.{0,40}") {
            let _ = Decided::parse(&text);
        }
    }
}
