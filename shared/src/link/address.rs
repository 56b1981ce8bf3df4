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

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_is_read_is_written_back(text in "[0-9a-f.-]{0,36}|.{0,40}") {
            if let Ok(range) = AddressRange::parse(&text) {
                let full = range.prefix == width(range.network);
                prop_assert!(range.to_string() == text || (full && text.starts_with(&range.to_string())));
            }
        }
    }
}
