//! Addresses as limits count them: IPv4 whole, IPv6 by /64 and, with ten times the room, by /48.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The IPv4 address that an IPv6 address stands for: v4-mapped (RFC 4291), NAT64 under the well-known prefix (RFC 6052)
/// and under the local one (RFC 8215, read as a /96), SIIT (RFC 2765) and 6to4 (RFC 3056). Whoever has that IPv4 address
/// is behind all of them.
fn inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// Groups an address; an IPv6 address that stands for an IPv4 address counts as that.
pub fn group(address: IpAddr) -> AddressGroup {
    let address = match address {
        IpAddr::V6(v6) => inside(v6).map_or(address, IpAddr::V4),
        v4 => v4,
    };
    match address {
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
        for same in [
            "64:ff9b::198.51.100.7",
            "64:ff9b:1:2:3:4:198.51.100.7",
            "::ffff:0:198.51.100.7",
            "2002:c633:6407::1",
            "2002:c633:6407:ffff::9",
        ] {
            assert_eq!(of(same), of("198.51.100.7"), "{same}");
        }
        for other in [
            "64:ff9b:2::198.51.100.7",
            "64:ff9c::198.51.100.7",
            "::198.51.100.7",
            "2003:c633:6407::1",
        ] {
            assert_ne!(of(other).narrow, of("198.51.100.7").narrow, "{other}");
        }
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
