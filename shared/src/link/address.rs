//! The parameter `ip`: dotted IPv4, or IPv6 as 32 lower-case hex digits, optionally `-PREFIX`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The text is not an address range in the one spelling that links use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRange;

/// Addresses that share `prefix` leading bits with `network`. Never holds IPv4 inside `::ffff:0:0/96`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Reads the one spelling: no leading zeros, host bits zero, IPv6 never v4-mapped.
    ///
    /// # Errors
    /// [`InvalidRange`].
    pub fn parse(text: &str) -> Result<Self, InvalidRange> {
        let (address, prefix) = match text.split_once('-') {
            Some((address, prefix)) => (address, Some(decimal(prefix, 128).ok_or(InvalidRange)?)),
            None => (text, None),
        };
        let network = if address.len() == 32 {
            IpAddr::V6(hex_v6(address)?)
        } else {
            IpAddr::V4(dotted_v4(address)?)
        };
        let prefix = prefix.unwrap_or(width(network));
        Self::new(network, prefix)
    }

    /// Reads what people and programs write: an address or a range in CIDR notation (RFC 4632, RFC 4291 section 2.3) or
    /// with a netmask (`203.0.113.0/255.255.255.0`), and the spelling of links. Host bits must be zero in each; addresses and ranges inside `::ffff:0:0/96` are the IPv4 in them.
    ///
    /// # Errors
    /// [`InvalidRange`].
    pub fn read(text: &str) -> Result<Self, InvalidRange> {
        let (address, prefix) = match text.split_once(['/', '-']) {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = match u128::from_str_radix(address, 16) {
            Ok(bits) if address.len() == 32 && !address.starts_with('+') => {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
            _ => address.parse().map_err(|_| InvalidRange)?,
        };
        let prefix = match prefix {
            Some(text) => decimal(text, 128)
                .or_else(|| netmask(text).filter(|_| address.is_ipv4()))
                .ok_or(InvalidRange)?,
            None => width(address),
        };
        let (address, prefix) = match (address, address.to_canonical()) {
            // A range that is wider than the IPv4 inside it says something about no client.
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) => {
                (v4, prefix.checked_sub(96).ok_or(InvalidRange)?)
            }
            (address, _) => (address, prefix),
        };
        Self::new(address, prefix)
    }

    /// # Errors
    /// [`InvalidRange`] when the prefix is too long, host bits are set, or the address is a v4-mapped IPv6.
    pub fn new(network: IpAddr, prefix: u8) -> Result<Self, InvalidRange> {
        let mapped = matches!(network, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let host_bits = match network {
            IpAddr::V4(v4) => {
                u128::from(v4.to_bits()) & low_bits(32u8.checked_sub(prefix).ok_or(InvalidRange)?)
            }
            IpAddr::V6(v6) => {
                v6.to_bits() & low_bits(128u8.checked_sub(prefix).ok_or(InvalidRange)?)
            }
        };
        if mapped || host_bits != 0 {
            Err(InvalidRange)
        } else {
            Ok(Self { network, prefix })
        }
    }

    /// Whether `client` lies in the range; a v4-mapped client counts as IPv4.
    pub fn contains(&self, client: IpAddr) -> bool {
        match (self.network, client.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(it)) => {
                u128::from(net.to_bits() ^ it.to_bits()) >> (32 - self.prefix) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(it)) => {
                let differing = net.to_bits() ^ it.to_bits();
                self.prefix == 0 || differing >> (128 - self.prefix) == 0
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for AddressRange {
    /// The spelling that [`AddressRange::parse`] reads; the prefix only where it says something.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.network {
            IpAddr::V4(v4) => write!(f, "{v4}")?,
            IpAddr::V6(v6) => write!(f, "{:032x}", v6.to_bits())?,
        }
        if self.prefix == width(self.network) {
            Ok(())
        } else {
            write!(f, "-{}", self.prefix)
        }
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

const fn low_bits(count: u8) -> u128 {
    match 1u128.checked_shl(count as u32) {
        Some(bit) => bit - 1,
        None => u128::MAX,
    }
}

/// A decimal number without leading zeros, at most `max`.
fn decimal(text: &str, max: u16) -> Option<u8> {
    let plain = (1..=3).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse::<u16>()
        .ok()
        .filter(|&n| n <= max)
        .and_then(|n| u8::try_from(n).ok())
}

/// The length of a netmask's prefix.
fn netmask(text: &str) -> Option<u8> {
    let bits = text.parse::<Ipv4Addr>().ok()?.to_bits();
    let ones = bits.leading_ones();
    (bits.count_ones() == ones)
        .then_some(ones)
        .and_then(|ones| u8::try_from(ones).ok())
}

fn dotted_v4(text: &str) -> Result<Ipv4Addr, InvalidRange> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parts
            .next()
            .and_then(|part| decimal(part, 255))
            .ok_or(InvalidRange)?;
    }
    if parts.next().is_some() {
        Err(InvalidRange)
    } else {
        Ok(octets.into())
    }
}

fn hex_v6(text: &str) -> Result<Ipv6Addr, InvalidRange> {
    let mut bits = 0u128;
    for c in text.bytes() {
        let digit = match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            _ => return Err(InvalidRange),
        };
        bits = bits << 4 | u128::from(digit);
    }
    Ok(Ipv6Addr::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contains(range: &str, client: &str) -> bool {
        AddressRange::parse(range)
            .unwrap()
            .contains(client.parse().unwrap())
    }

    #[test]
    fn ranges_contain_what_shares_their_prefix() {
        assert!(contains("198.51.100.7", "198.51.100.7"));
        assert!(!contains("198.51.100.7", "198.51.100.8"));
        assert!(contains("198.51.100.0-24", "198.51.100.255"));
        assert!(!contains("198.51.100.0-24", "198.51.101.0"));
        assert!(contains("0.0.0.0-0", "203.0.113.1"));
        assert!(contains("198.51.100.7", "::ffff:198.51.100.7"));
        assert!(contains(
            "20010db8000000000000000000000000-32",
            "2001:db8:1::1"
        ));
        assert!(!contains(
            "20010db8000000000000000000000000-32",
            "2001:db9::1"
        ));
        assert!(contains(
            "00000000000000000000000000000000-0",
            "2001:db9::1"
        ));
        assert!(!contains(
            "00000000000000000000000000000000-0",
            "198.51.100.7"
        ));
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.256",
            "1.2.3.4-33",
            "1.2.3.4-",
            "1.2.3.4-08",
            "1.2.3.4-24",
            "::1",
            "20010DB8000000000000000000000000",
            "20010db8000000000000000000000001-64",
            "20010db8000000000000000000000000-129",
            "00000000000000000000ffffc6336407",
            "00000000000000000000ffff00000000-96",
            "1.2.3.4-32-32",
        ] {
            assert_eq!(AddressRange::parse(bad), Err(InvalidRange), "{bad}");
        }
    }

    #[test]
    fn every_usual_notation_becomes_the_one_of_links() {
        for (text, range) in [
            ("203.0.113.9", "203.0.113.9"),
            ("203.0.113.9/32", "203.0.113.9"),
            ("203.0.113.0/24", "203.0.113.0-24"),
            ("203.0.113.0-24", "203.0.113.0-24"),
            ("203.0.113.0/255.255.255.0", "203.0.113.0-24"),
            ("0.0.0.0/0", "0.0.0.0-0"),
            ("2001:db8::1", "20010db8000000000000000000000001"),
            ("2001:DB8:0:0:0:0:0:1", "20010db8000000000000000000000001"),
            ("2001:db8::/64", "20010db8000000000000000000000000-64"),
            (
                "20010DB8000000000000000000000001",
                "20010db8000000000000000000000001",
            ),
            (
                "20010db8000000000000000000000000-64",
                "20010db8000000000000000000000000-64",
            ),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("::ffff:cb00:7109", "203.0.113.9"),
            ("::ffff:203.0.113.0/120", "203.0.113.0-24"),
            ("::ffff:0:0/96", "0.0.0.0-0"),
            ("::/0", "00000000000000000000000000000000-0"),
            ("::1", "00000000000000000000000000000001"),
        ] {
            let read = AddressRange::read(text).unwrap();
            assert_eq!(read.to_string(), range, "{text}");
            assert_eq!(AddressRange::parse(range), Ok(read), "{text}");
        }
        for bad in [
            "",
            "/",
            "/24",
            "localhost",
            "203.0.113",
            "203.0.113.9/24",
            "2001:db8::1/64",
            "203.0.113.0/33",
            "203.0.113.0/",
            "203.0.113.0/-1",
            "203.0.113.0/024",
            "203.0.113.0/24/24",
            "203.0.113.0/255.0.255.0",
            "2001:db8::/255.255.0.0",
            "2001:db8::/129",
            "fe80::1%eth0",
            "[2001:db8::1]",
            "::ffff:0:0/95",
            "010.0.0.1",
            " 203.0.113.9",
            "203.0.113.9:80",
            "+0010db8000000000000000000000001",
        ] {
            assert_eq!(AddressRange::read(bad), Err(InvalidRange), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_in_any_notation_is_a_range_that_links_carry(text in "[0-9a-f:./-]{0,44}|.{0,40}|::ffff:[0-9.]{7,15}/[0-9]{1,3}") {
            if let Ok(range) = AddressRange::read(&text) {
                prop_assert_eq!(AddressRange::parse(&range.to_string()), Ok(range));
            }
            // Whoever wrote the spelling of links is understood as before.
            if let Ok(range) = AddressRange::parse(&text) {
                prop_assert_eq!(AddressRange::read(&text), Ok(range));
            }
        }

        #[test]
        fn arbitrary_text_never_panics_and_what_is_read_is_written_back(text in "[0-9a-f.-]{0,36}|.{0,40}") {
            if let Ok(range) = AddressRange::parse(&text) {
                let full = range.prefix == width(range.network);
                prop_assert!(range.to_string() == text || (full && text.starts_with(&range.to_string())));
            }
        }
    }
}
