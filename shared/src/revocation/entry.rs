//! One revocation, and what it names. As text a line: `{kind} {name} {value} {ends}`.

use std::fmt;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::number;
use crate::client_ip;

/// The end of what never ends by itself: the last second of the year 9999.
pub const NEVER: u64 = 253_402_300_799;

/// Longest name: a user's, a client's or a token's id.
const MAX_NAME: usize = 64;

/// What kind of thing is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An owner, all of whose links and tokens count no more.
    Suspended,
    /// An owner's links with a smaller epoch, which is the entry's value.
    Epoch,
    /// A client's tokens.
    Client,
    /// One token, by its `jti`.
    Token,
    /// A group of addresses, as [`client_ip::group`] has them.
    Address,
    /// One link, by its fingerprint.
    Link,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Suspended,
        Self::Epoch,
        Self::Client,
        Self::Token,
        Self::Address,
        Self::Link,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Epoch => "epoch",
            Self::Client => "client",
            Self::Token => "token",
            Self::Address => "address",
            Self::Link => "link",
        }
    }

    /// Reads it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Its bit in a set of subjects: an owner is asked about once, whatever was decided about them.
    pub(super) fn bit(self) -> u8 {
        match self {
            Self::Suspended | Self::Epoch => 1,
            Self::Client => 2,
            Self::Token => 4,
            Self::Address => 8,
            Self::Link => 16,
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Suspended | Self::Epoch => "owner",
            other => other.as_str(),
        }
    }
}

/// What an entry may name; asked for as `{subject} {name}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    kind: Kind,
    text: String,
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.subject(), self.text)
    }
}

/// Where a name lies: the page, and what a filter is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Below [`super::PAGES`].
    pub page: u16,
    /// Evenly spread.
    pub mark: [u64; 2],
}

impl Name {
    /// An owner, suspended or of an epoch.
    pub fn owner(id: &str) -> Self {
        Self::of(Kind::Suspended, id)
    }

    /// A client.
    pub fn client(id: &str) -> Self {
        Self::of(Kind::Client, id)
    }

    /// A token.
    pub fn token(jti: &str) -> Self {
        Self::of(Kind::Token, jti)
    }

    /// A link.
    pub fn link(print: &[u8; 16]) -> Self {
        Self {
            kind: Kind::Link,
            text: format!("{:032x}", u128::from_be_bytes(*print)),
        }
    }

    /// A group's address: the IPv4 address, the /64, or with `is_wide` the /48.
    pub fn address(address: IpAddr, is_wide: bool) -> Self {
        let text = match (address, is_wide) {
            (IpAddr::V4(_), _) => address.to_string(),
            (IpAddr::V6(_), false) => format!("{address}/64"),
            (IpAddr::V6(_), true) => format!("{address}/48"),
        };
        Self {
            kind: Kind::Address,
            text,
        }
    }

    fn of(kind: Kind, id: &str) -> Self {
        Self {
            kind,
            text: id.to_owned(),
        }
    }

    /// The kinds of entries that may name it.
    pub fn kinds(&self) -> &'static [Kind] {
        match self.kind {
            Kind::Suspended | Kind::Epoch => &[Kind::Suspended, Kind::Epoch],
            Kind::Client => &[Kind::Client],
            Kind::Token => &[Kind::Token],
            Kind::Address => &[Kind::Address],
            Kind::Link => &[Kind::Link],
        }
    }

    /// Whether an entry is about it.
    pub fn is_of(&self, entry: &Entry) -> bool {
        self.kinds().contains(&entry.kind) && self.text == entry.name
    }

    /// The id alone.
    pub fn id(&self) -> &str {
        &self.text
    }

    /// Its bit in a set of subjects.
    pub(super) fn bit(&self) -> u8 {
        self.kind.bit()
    }

    /// Reads what [`Name`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (subject, name) = text.split_once(' ')?;
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.subject() == subject)?;
        checked(kind, name).map(|text| Self { kind, text })
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        let mut hash = Sha256::new();
        hash.update(self.kind.subject());
        hash.update(b" ");
        hash.update(&self.text);
        let digest: [u8; 32] = hash.finalize().into();
        let word = |at: usize| word(digest.iter().skip(at));
        Place {
            page: u16::try_from(word(0) >> 52).unwrap_or(0),
            mark: [word(8), word(16)],
        }
    }
}

/// The first eight bytes as a number.
fn word<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes
        .take(8)
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// A name in its one spelling.
fn checked(kind: Kind, text: &str) -> Option<String> {
    let is_id = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let good = match kind {
        Kind::Link => text.len() == 32 && text.bytes().all(is_hex),
        Kind::Address => return group(text).map(|name| name.text).filter(|one| one == text),
        _ => (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_id),
    };
    good.then(|| text.to_owned())
}

/// The group that an operator names: an IPv4 address, or an IPv6 address with `/64` (also without it) or `/48`.
pub fn group(text: &str) -> Option<Name> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address = client_ip::parse(address)?;
    let group = client_ip::group(address);
    match (group.wide, prefix) {
        (None, None | Some("32")) => Some(Name::address(group.narrow, false)),
        (Some(_), None | Some("64")) => Some(Name::address(group.narrow, false)),
        (Some(wide), Some("48")) => Some(Name::address(wide, true)),
        _ => None,
    }
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// What kind of thing.
    pub kind: Kind,
    /// Its id, in the kind's one spelling.
    pub name: String,
    /// The smallest epoch that opens; 0 for other kinds.
    pub value: u64,
    /// Unix seconds from which on it counts no more.
    pub ends: u64,
}

impl Entry {
    /// An entry, if the name is one of its kind.
    pub fn new(kind: Kind, name: &str, value: u64, ends: u64) -> Option<Self> {
        Some(Self {
            kind,
            name: checked(kind, name)?,
            value,
            ends,
        })
    }

    /// What it names.
    pub fn subject(&self) -> Name {
        Name {
            kind: self.kind,
            text: self.name.clone(),
        }
    }

    /// Reads a line without its line feed.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = Kind::parse(words.next()?)?;
        let (name, value, ends) = (
            words.next()?,
            number(words.next()?)?,
            number(words.next()?)?,
        );
        Self::new(kind, name, value, ends).filter(|_| words.next().is_none())
    }

    /// A digest of the whole line, of which those of a page are joined by exclusive or: 63 bits, so that SQL holds it.
    pub fn digest(&self) -> u64 {
        let digest: [u8; 32] = Sha256::digest(self.to_string().as_bytes()).into();
        word(digest.iter()) >> 1
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        write!(f, "{kind} {} {} {}", self.name, self.value, self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::revocation) fn any_entry() -> impl Strategy<Value = Entry> {
        let id = || "[A-Za-z0-9_-]{1,64}";
        let named = prop_oneof![
            id().prop_map(|id| (Kind::Suspended, id)),
            id().prop_map(|id| (Kind::Epoch, id)),
            id().prop_map(|id| (Kind::Client, id)),
            id().prop_map(|id| (Kind::Token, id)),
            any::<u32>().prop_map(|bits| (
                Kind::Address,
                std::net::Ipv4Addr::from_bits(bits).to_string()
            )),
            any::<[u8; 16]>().prop_map(|print| (Kind::Link, Name::link(&print).text)),
        ];
        (named, any::<u64>(), any::<u64>())
            .prop_map(|((kind, name), value, ends)| Entry::new(kind, &name, value, ends).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entry in any_entry()) {
            prop_assert_eq!(Entry::parse(&entry.to_string()), Some(entry.clone()));
            let subject = entry.subject().to_string();
            prop_assert_eq!(Name::parse(&subject).map(|name| name.place()), Some(entry.subject().place()));
            prop_assert!(entry.subject().place().page < super::super::PAGES);
        }

        #[test]
        fn arbitrary_lines_never_panic_and_have_one_spelling(line in "(epoch|link|suspended|client|token|address) [ -~]{0,70}|.{0,60}") {
            if let Some(entry) = Entry::parse(&line) {
                prop_assert_eq!(entry.to_string(), line);
            }
        }

        #[test]
        fn arbitrary_names_never_panic_and_have_one_spelling(line in "(owner|link|client|token|address) [ -~]{0,70}|.{0,60}") {
            if let Some(name) = Name::parse(&line) {
                prop_assert_eq!(name.to_string(), line);
            }
        }
    }

    #[test]
    fn groups_are_read_as_people_write_them_and_written_in_one_way() {
        for (text, known) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7/32", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("2001:DB8:0:1::9", Some("2001:db8:0:1::/64")),
            ("2001:db8:0:1::/64", Some("2001:db8:0:1::/64")),
            ("2001:db8:5::/48", Some("2001:db8:5::/48")),
            ("203.0.113.0/24", None),
            ("2001:db8::/32", None),
            ("somewhere", None),
            ("", None),
        ] {
            assert_eq!(
                group(text).map(|name| name.text).as_deref(),
                known,
                "{text}"
            );
        }
    }

    #[test]
    fn an_owner_is_one_place_whatever_was_decided_about_them() {
        let of = |kind| Entry::new(kind, "u1", 1, 2).unwrap().subject().place();
        assert_eq!(of(Kind::Suspended), of(Kind::Epoch));
        assert_eq!(of(Kind::Suspended), Name::owner("u1").place());
        assert_ne!(of(Kind::Client), Name::owner("u1").place());
    }
}
