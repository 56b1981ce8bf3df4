//! Addresses as limits count them: IPv4 whole, IPv6 by /64 and, with ten times the room, by /48.

use std::net::{IpAddr, Ipv6Addr};

/// How many more an IPv6 /48 may do than one /64 of it.
pub const WIDE_FACTOR: u32 = 10;

/// What one client address counts under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressGroup {
    /// The IPv4 address, or the first 64 bits of the IPv6 address with the rest zero.
    pub narrow: IpAddr,
    /// The first 48 bits of an IPv6 address; none for IPv4.
    pub wide: Option<IpAddr>,
}

/// Groups an address; a v4-mapped IPv6 address counts as the IPv4 address in it.
pub fn group(address: IpAddr) -> AddressGroup {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => AddressGroup {
            narrow: v4,
            wide: None,
        },
        IpAddr::V6(v6) => {
            let prefix = |bits: u32| {
                IpAddr::V6(Ipv6Addr::from_bits(
                    v6.to_bits() & (u128::MAX << (128 - bits)),
                ))
            };
            AddressGroup {
                narrow: prefix(64),
                wide: Some(prefix(48)),
            }
        }
    }
}

/// Reads an address as a header gives it: no port, no zone, no brackets. v4-mapped becomes IPv4.
pub fn parse(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_grouped_as_limits_count_them() {
        let of = |text: &str| group(text.parse().unwrap());
        assert_eq!(of("198.51.100.7"), of("::ffff:198.51.100.7"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_eq!(of("2001:db8:1:2::").wide, of("2001:db8:1:3::").wide);
        assert_ne!(of("2001:db8:1:2::").wide, of("2001:db8:2:2::").wide);
        assert_eq!(of("198.51.100.7").wide, None);
    }

    #[test]
    fn only_bare_addresses_are_read() {
        assert_eq!(parse("::ffff:1.2.3.4"), "1.2.3.4".parse().ok());
        for bad in [
            "",
            "1.2.3.4:5",
            "[::1]",
            "fe80::1%eth0",
            " 1.2.3.4",
            "1.2.3.4, 5.6.7.8",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
