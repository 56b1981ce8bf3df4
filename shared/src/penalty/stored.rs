//! A [`Record`] as the edge's object keeps it: a few bytes, so that a million addresses are no burden.
//!
//! Six bytes of milliseconds, big endian: the first arrival, or with the highest bit set the end of a block. After an
//! arrival two bytes for each later one: milliseconds since the first. They fit, for an arrival counts for
//! [`WINDOW`] and may lie [`STEP`] ahead.

use std::net::IpAddr;

use super::{Record, Rule};

/// The window in milliseconds.
pub const WINDOW: u64 = 60_000;
/// How far two readings of the object's clock may differ, in milliseconds; [`WINDOW`] and this fit into two bytes.
pub const STEP: u64 = 5_000;
const BLOCK_BIT: u64 = 1 << 47;

/// The rule in milliseconds.
pub fn rule(arrivals: u32, block_seconds: u32) -> Rule {
    Rule {
        arrivals,
        window: WINDOW,
        block: u64::from(block_seconds).saturating_mul(1000),
        step: STEP,
    }
}

impl Record {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let first = self.arrivals.front().copied();
        let head = match first {
            Some(first) => first.min(BLOCK_BIT - 1),
            None => self.blocked_until.min(BLOCK_BIT - 1) | BLOCK_BIT,
        };
        let mut bytes = Vec::with_capacity(6 + 2 * self.arrivals.len());
        bytes.extend_from_slice(head.to_be_bytes().split_at(2).1);
        for at in self.arrivals.iter().skip(1) {
            let since = at.saturating_sub(first.unwrap_or(*at));
            bytes.extend_from_slice(&u16::try_from(since).unwrap_or(u16::MAX).to_be_bytes());
        }
        bytes
    }

    /// Reads them; bytes that are none of a record are a new record.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let Some((head, rest)) = bytes.split_first_chunk::<6>() else {
            return Self::default();
        };
        let head = head.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if head & BLOCK_BIT != 0 {
            return Self {
                blocked_until: head & !BLOCK_BIT,
                ..Self::default()
            };
        }
        let later = rest.chunks_exact(2).map(|pair| {
            let since = pair.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            head + since
        });
        let mut arrivals: std::collections::VecDeque<u64> =
            std::iter::once(head).chain(later).collect();
        arrivals.make_contiguous().sort_unstable();
        Self {
            arrivals,
            blocked_until: 0,
        }
    }
}

/// The key of an address's row: 4 bytes of an IPv4 address, 8 of an IPv6 /64, 6 of a /48.
pub fn key(address: IpAddr, is_wide: bool) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().split_at(if is_wide { 6 } else { 8 }).0.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::arrive;
    use super::*;
    use crate::client_ip;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// What SQLite takes for a row beside key and record: its time, headers, and space in pages that stays free.
    /// tests/edge/rows.test.mjs holds the real file to it.
    const ROW: usize = 40;
    /// docs/edge.md says so.
    const DOCUMENTED: usize = 4 * 1024 * 1024;

    #[test]
    fn a_million_addresses_in_an_hour_leave_no_more_than_documented_and_nothing_a_minute_later() {
        let rule = rule(30, 600);
        let mut rows: HashMap<Vec<u8>, (Vec<u8>, u64)> = HashMap::new();
        let bytes = |rows: &HashMap<Vec<u8>, (Vec<u8>, u64)>| -> usize {
            rows.iter()
                .map(|(key, (row, _))| key.len() + row.len() + ROW)
                .sum()
        };
        let start = 1_800_000_000_000u64;
        let mut peak = 0;
        for n in 0..1_000_000u64 {
            let now = start + n * 3_600_000 / 1_000_000;
            // Half IPv4, half IPv6 of a /48 for each 300; every hundredth comes back until it is blocked.
            let address: IpAddr = if n % 2 == 0 {
                std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap().wrapping_mul(2_654_435_761))
                    .into()
            } else {
                std::net::Ipv6Addr::from_bits(
                    0x2001_0db8 << 96 | u128::from(n / 300) << 80 | u128::from(n % 300) << 64,
                )
                .into()
            };
            let group = client_ip::group(address);
            let times = if n % 100 == 0 { 31 } else { 1 };
            for _ in 0..times {
                let take = |address, is_wide| {
                    let key = key(address, is_wide);
                    let row = rows.get(&key).map_or(&[][..], |(row, _)| row);
                    (Record::from_bytes(row), key)
                };
                let (mut narrow, narrow_key) = take(group.narrow, false);
                let mut wide = group.wide.map(|wide| take(wide, true));
                let _ = arrive(
                    &mut narrow,
                    wide.as_mut().map(|(record, _)| record),
                    rule,
                    now,
                );
                for (record, key) in std::iter::once((narrow, narrow_key)).chain(wide) {
                    rows.insert(key, (record.to_bytes(), record.forgotten_at(rule)));
                }
            }
            if n % 16_667 == 0 {
                peak = peak.max(bytes(&rows)); // a minute: the alarm
                rows.retain(|_, (_, forgotten)| *forgotten > now);
            }
        }
        assert!(peak < DOCUMENTED, "{peak}");
        println!("peak {peak} bytes");
        let later = start + 3_600_000 + 600_000;
        rows.retain(|_, (_, forgotten)| *forgotten > later);
        assert_eq!(rows.len(), 0);
    }

    #[test]
    fn keys_of_other_kinds_never_meet() {
        let of = |text: &str| client_ip::group(text.parse().unwrap());
        let v6 = of("2001:db8:1:2::9");
        assert_eq!(key(v6.narrow, false).len(), 8);
        assert_eq!(key(v6.wide.unwrap(), true).len(), 6);
        assert_eq!(key(of("192.0.2.1").narrow, false), [192, 0, 2, 1]);
    }

    proptest! {
        #[test]
        fn what_is_stored_after_each_arrival_decides_the_same(
            arrivals in 1u32..=30,
            gaps in prop::collection::vec(prop_oneof![8 => 0u64..3_000, 1 => 595_000u64..605_000, 1 => 0u64..700_000], 1..120),
            back in 0u64..10_000,
        ) {
            let rule = rule(arrivals, 600);
            let (mut kept, mut stored) = (Record::default(), Record::default().to_bytes());
            let mut at = 1_800_000_000_000u64;
            for (n, gap) in gaps.iter().enumerate() {
                at += gap;
                let now = if n % 7 == 6 { at - back } else { at };
                let mut again = Record::from_bytes(&stored);
                prop_assert_eq!(again.arrive(rule, now), kept.arrive(rule, now));
                stored = again.to_bytes();
                prop_assert!(stored.len() <= 6 + 2 * (arrivals as usize - 1));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200), now in 0u64..1 << 47) {
            let mut record = Record::from_bytes(&bytes);
            let _ = record.arrive(rule(30, 600), now);
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()).to_bytes(), record.to_bytes());
        }
    }
}
