//! Regression and property tests of links; the table of accepted and refused ones is tests/vectors/links.json.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;
use crate::keyring::Keyring;
use crate::object_key::ObjectKey;
use crate::referer::{FetchHeaders, RefererPolicy};

const NOW: u64 = 1_800_000_000;

fn ring() -> Keyring {
    Keyring::parse(&format!(
        "k1:{},k2:{}",
        STANDARD.encode([1; 32]),
        STANDARD.encode([2; 48])
    ))
    .unwrap()
}

fn request(key: &ObjectKey) -> SignRequest<'_> {
    SignRequest {
        key,
        exp: NOW + 3600,
        dl: None,
        ep: 0,
        ip: None,
    }
}

fn verdict(target: &str, now: u64, client: Option<IpAddr>) -> Result<(), LinkError> {
    UnverifiedLink::parse(target)?
        .verify(&ring(), now, client)
        .map(|_| ())
}

fn open(target: &str) -> Result<(), LinkError> {
    verdict(target, NOW, None)
}

#[test]
fn a_signed_link_opens_until_its_last_second() {
    let key = ObjectKey::parse("generated/u1/a.png").unwrap();
    let link = request(&key).sign(&ring(), NOW).unwrap();
    assert_eq!(verdict(&link, NOW + 3599, None), Ok(()));
    assert_eq!(verdict(&link, NOW + 3600, None), Err(LinkError::Expired));
}

#[test]
fn a_delimiter_keeps_path_and_time_apart() {
    // anchors: `/avatars/12` + `3` must not be `/avatars/1` + `23`.
    let long = ObjectKey::parse("avatars/12").unwrap();
    let link = SignRequest {
        exp: NOW + 5,
        ..request(&long)
    }
    .sign(&ring(), NOW)
    .unwrap();
    let moved = link.replace("/avatars/12?exp=1", "/avatars/1?exp=21");
    assert_ne!(moved, link);
    assert_eq!(open(&moved), Err(LinkError::BadSignature));
}

#[test]
fn an_expired_link_with_a_bad_mac_tells_nothing() {
    let key = ObjectKey::parse("a/b/c.png").unwrap();
    let link = request(&key).sign(&ring(), NOW).unwrap();
    let tampered = link.replace("sig=A", "sig=B").replace("exp=18", "exp=17");
    assert_eq!(verdict(&tampered, NOW, None), Err(LinkError::BadSignature));
}

#[test]
fn signers_refuse_what_verifiers_would() {
    let key = ObjectKey::parse("generated/u/a.png").unwrap();
    let sign = |request: SignRequest<'_>| request.sign(&ring(), NOW);
    assert_eq!(
        sign(SignRequest {
            exp: NOW,
            ..request(&key)
        }),
        Err(SignError::Life)
    );
    assert_eq!(
        sign(SignRequest {
            exp: NOW + MAX_LIFE + 1,
            ..request(&key)
        }),
        Err(SignError::Life)
    );
    assert!(
        sign(SignRequest {
            exp: NOW + MAX_LIFE,
            ..request(&key)
        })
        .is_ok()
    );
    for dl in [
        "a.jpg",
        "a",
        ".png",
        "con.png",
        "aux.png",
        "COM1.png",
        "lpt9.png",
        "con.b.png",
        " b.png",
        "a/b.png",
        "a\\b.png",
        "a:b.png",
        "a\u{308}.png",
    ] {
        assert_eq!(
            sign(SignRequest {
                dl: Some(dl),
                ..request(&key)
            }),
            Err(SignError::DownloadName),
            "{dl}"
        );
    }
    for dl in [
        "a.png",
        "com.png",
        "com10.png",
        "console.png",
        "a.b.png",
        "a b.png",
        "ä.png",
    ] {
        assert!(
            sign(SignRequest {
                dl: Some(dl),
                ..request(&key)
            })
            .is_ok(),
            "{dl}"
        );
    }
    let temp = ObjectKey::parse("temp/a.png").unwrap();
    assert_eq!(sign(request(&temp)), Err(SignError::NotLinkable));
}

#[test]
fn a_name_stands_in_dl_where_that_takes_it_and_else_in_dn() {
    let key = ObjectKey::parse("generated/u/a.png").unwrap();
    for (name, parameter) in [
        ("größe.png", "dn=Z3LDtsOfZS5wbmc"),
        ("my picture.png", "dn=bXkgcGljdHVyZS5wbmc"),
        ("cat.png", "dl=cat.png"),
    ] {
        let link = SignRequest {
            dl: Some(name),
            ..request(&key)
        }
        .sign(&ring(), NOW)
        .unwrap();
        assert!(link.contains(&format!("?{parameter}&exp=")), "{link}");
        let verified = UnverifiedLink::parse(&link)
            .unwrap()
            .verify(&ring(), NOW, None);
        let policy = RefererPolicy::new([]).unwrap();
        let permitted = verified.unwrap().permit(&policy, &FetchHeaders::default());
        assert_eq!(permitted.unwrap().download_name(), Some(name));
    }
}

#[test]
fn rounding_shows_the_same_link_within_a_grain_and_never_exceeds_seven_days() {
    assert_eq!(round_up(1_001, 300, 0), 1_200);
    assert_eq!(round_up(1_200, 300, 0), 1_200);
    assert_eq!(round_up(MAX_LIFE, 1_000_000, 0), MAX_LIFE);
    assert_eq!(round_up(MAX_LIFE, 500_000, 0), 500_000);
    assert_eq!(round_up(7, 0, 0), 7);
}

#[test]
fn every_small_mutation_of_good_links_opens_nothing() {
    let key = ObjectKey::parse("generated/u1/0190a5d0-ac96-774b-bcce-b302099a8057.png").unwrap();
    let full = SignRequest {
        dl: Some("x.png"),
        ep: 3,
        ip: Some(AddressRange::parse("198.51.100.0-24").unwrap()),
        ..request(&key)
    };
    let client = "198.51.100.9".parse().ok();
    let mut tried = 0u32;
    let mut refuse = |link: &str, original: &str| {
        if link != original {
            assert!(verdict(link, NOW, client).is_err(), "accepted {link}");
            tried += 1;
        }
    };
    for link in [
        request(&key).sign(&ring(), NOW).unwrap(),
        full.sign(&ring(), NOW).unwrap(),
    ] {
        assert_eq!(verdict(&link, NOW, client), Ok(()));
        let bytes = link.as_bytes();
        // Every byte replaced by every printable one, every one inserted everywhere, every one removed.
        for at in 0..=bytes.len() {
            for c in 0x09..0x7fu8 {
                let mut inserted = bytes.to_vec();
                inserted.insert(at, c);
                refuse(std::str::from_utf8(&inserted).unwrap(), &link);
                if at < bytes.len() {
                    let mut replaced = bytes.to_vec();
                    replaced[at] = c;
                    refuse(std::str::from_utf8(&replaced).unwrap(), &link);
                }
            }
            if at < bytes.len() {
                let mut removed = bytes.to_vec();
                removed.remove(at);
                refuse(std::str::from_utf8(&removed).unwrap(), &link);
                let (head, tail) = link.split_at(at);
                for piece in [
                    "//", "/./", "/../", "%2F", "%2f", "%0A", "%00", "&&", "?", "&exp=9",
                    "\u{0430}", "\u{ff0f}", "\\", "=", "==",
                ] {
                    refuse(&format!("{head}{piece}{tail}"), &link);
                }
                let (first, rest) = tail.split_at(1);
                refuse(&format!("{head}%{:02X}{rest}", first.as_bytes()[0]), &link);
                refuse(&format!("{head}%{:02x}{rest}", first.as_bytes()[0]), &link);
                refuse(&format!("{head}{}{rest}", first.to_uppercase()), &link);
            }
        }
        let (path, query) = link.split_once('?').unwrap();
        let params: Vec<&str> = query.split('&').collect();
        for i in 0..params.len() {
            for j in 0..params.len() {
                let mut swapped = params.clone();
                swapped.swap(i, j);
                refuse(&format!("{path}?{}", swapped.join("&")), &link);
                let mut doubled = params.clone();
                doubled.insert(j, params[i]);
                refuse(&format!("{path}?{}", doubled.join("&")), &link);
            }
        }
    }
    assert!(tried > 70_000, "{tried}");
}

/// Keys, expiries and names cut from one another, so that a scheme that only joins its fields must collide.
#[test]
fn no_two_of_many_neighbouring_tuples_have_one_mac() {
    let mut joined = std::collections::HashSet::new();
    let mut macs = std::collections::HashMap::new();
    let (mut tuples, mut collisions) = (0, 0);
    for name in [
        "1", "12", "123", "1/2", "12/3", "1/23", "a", "a.png", "a/1.png", "a/12.png", "a1/2.png",
    ] {
        let key = ObjectKey::parse(name).unwrap();
        for exp in (NOW + 1..NOW + 60).chain([NOW + 3_000, NOW + 30_000, NOW + 300_000]) {
            for dl in [None, Some("1.png"), Some("12.png"), Some("a1.png")] {
                for ep in [0, 1, 12, 2, 23] {
                    let request = SignRequest {
                        exp,
                        dl,
                        ep,
                        ..request(&key)
                    };
                    let Ok(link) = request.sign(&ring(), NOW) else {
                        continue;
                    };
                    let mac = UnverifiedLink::parse(&link).unwrap().mac;
                    let other = macs.insert(mac, link.clone());
                    assert_eq!(other, None, "{link}");
                    tuples += 1;
                    // The field's mistake: everything in a row, nothing in between.
                    let row = format!(
                        "{name}{}{}{exp}",
                        dl.unwrap_or(""),
                        if ep > 0 {
                            ep.to_string()
                        } else {
                            String::new()
                        }
                    );
                    collisions += u32::from(!joined.insert(row));
                }
            }
        }
    }
    assert!(tuples > 5_000, "{tuples}");
    assert!(collisions > 100, "the tuples are no trial: {collisions}");
}

/// The field's third mistake: a number with junk behind it, or none, must never become a time.
#[test]
fn an_expiry_with_anything_but_digits_is_no_expiry_even_when_signed() {
    let ring = ring();
    for exp in [
        "1800003600x",
        "1800003600.5",
        "NaN",
        "",
        "-1",
        "+1800003600",
        "0x6b49d200",
        "1e10",
        "01800003600",
        "0",
        "9999999999999",
        "99999999999999999999999",
    ] {
        let query = format!("exp={exp}&kid=k1");
        let mac = verify::mac_of(ring.signing(), "a/b/c.png", &query);
        let mut link = format!("/a/b/c.png?{query}&sig=");
        crate::b64::encode_mac(&mac, &mut link);
        assert_eq!(open(&link), Err(LinkError::Malformed), "{exp}");
    }
}

/// Every spelling of a good link that browsers, proxies and base64 decoders would take for it, several at once.
#[test]
fn a_million_stacked_mutations_open_nothing() {
    let key = ObjectKey::parse("generated/u1/0190a5d0-ac96-774b-bcce-b302099a8057.png").unwrap();
    let link = request(&key).sign(&ring(), NOW).unwrap();
    assert_eq!(open(&link), Ok(()));
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % limit
    };
    // What fronts, browsers and decoders rewrite, cut or take for the same.
    let pieces = [
        "%2F",
        "%2f",
        "%0A",
        "%0a",
        "%00",
        "%20",
        "//",
        "/./",
        "/../",
        "..",
        "\\",
        ";",
        "&",
        "&&",
        "?",
        "#",
        "=",
        "==",
        "\n",
        "\r\n",
        "\u{0430}",
        "\u{ff0f}",
        "\u{2024}",
        "\u{200b}",
        "\u{ff05}2F",
        "&kid=k1",
        "&exp=9999999999",
        "&sig=",
        "exp=1&",
        "+",
        "-",
        "_",
    ];
    let mut tried = 0;
    for _ in 0..1_010_000 {
        let mut bytes = link.as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(9) {
                0 => bytes[at] = below(128) as u8,
                1 => bytes[at] ^= 1 << below(7),
                2 => bytes[at] ^= 0x20,
                3 => {
                    bytes.remove(at);
                }
                4 => bytes.insert(at, below(128) as u8),
                5 => {
                    let encoded = format!("%{:02X}", bytes[at]);
                    bytes.splice(at..=at, encoded.bytes());
                }
                6 => {
                    let encoded = format!("%{:02x}", bytes[at]);
                    bytes.splice(at..=at, encoded.bytes());
                }
                7 => {
                    let piece = pieces[below(pieces.len())];
                    bytes.splice(at..at, piece.bytes());
                }
                _ => {
                    // One stretch of the link twice, or two stretches changed round.
                    let (end, to) = (at + below(bytes.len() - at), below(bytes.len()));
                    let stretch = bytes[at..end].to_vec();
                    bytes.splice(to..to, stretch);
                }
            }
        }
        // Half a letter is nothing that a request target can hold.
        let mutated = String::from_utf8_lossy(&bytes);
        if mutated != link {
            assert!(open(&mutated).is_err(), "{mutated}");
            tried += 1;
        }
    }
    assert!(tried > 1_000_000, "{tried}");
}

/// Key, expiry, download name, epoch, address range.
type Fields = (String, u64, Option<String>, u64, Option<(u32, u8)>);

/// All that a link says, as strategies that stay inside the rules.
fn fields() -> impl Strategy<Value = Fields> {
    (
        "[a-z0-9]{1,3}(/[a-z0-9.]{1,4}[a-z0-9]){0,3}\\.png"
            .prop_filter("a key", |key| ObjectKey::parse(key).is_ok()),
        NOW + 1..NOW + MAX_LIFE,
        proptest::option::of(
            "[a-z0-9_-]{1,5}\\.png|[a-z äß().]{1,9}\\.png".prop_filter("a name", |name| {
                is_download_name(name, "png") || is_wide_name(name, "png")
            }),
        ),
        0u64..30,
        proptest::option::of((any::<u32>(), 0u8..=32)),
    )
}

fn signed((key, exp, dl, ep, ip): &Fields) -> (String, [u8; 32]) {
    let key = ObjectKey::parse(key).unwrap();
    let ip = ip.map(|(bits, prefix)| {
        let network = bits & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        AddressRange::new(IpAddr::V4(network.into()), prefix).unwrap()
    });
    let link = SignRequest {
        key: &key,
        exp: *exp,
        dl: dl.as_deref(),
        ep: *ep,
        ip,
    }
    .sign(&ring(), NOW)
    .unwrap();
    let mac = UnverifiedLink::parse(&link).unwrap().mac;
    (link, mac)
}

proptest! {
    #[test]
    fn whatever_is_signed_verifies_and_says_the_same(fields in fields()) {
        let (link, _) = signed(&fields);
        let unverified = UnverifiedLink::parse(&link).unwrap();
        prop_assert_eq!(unverified.key, &fields.0);
        prop_assert_eq!(unverified.exp, fields.1);
        prop_assert_eq!(unverified.ep, fields.3);
        let client = fields.4.map(|(bits, _)| IpAddr::V4(bits.into()));
        prop_assert_eq!(verdict(&link, NOW, client), Ok(()));
        let policy = RefererPolicy::new(["example.com"]).unwrap();
        let permitted = unverified.verify(&ring(), NOW, client).unwrap().permit(&policy, &FetchHeaders::default()).unwrap();
        prop_assert_eq!(permitted.key().as_str(), &fields.0);
        prop_assert_eq!(permitted.download_name(), fields.2.as_deref());
        prop_assert_eq!(permitted.epoch(), fields.3);
    }

    #[test]
    fn two_different_tuples_never_have_one_mac(a in fields(), b in fields()) {
        let ((link_a, mac_a), (link_b, mac_b)) = (signed(&a), signed(&b));
        prop_assert_eq!(link_a == link_b, mac_a == mac_b);
    }

    #[test]
    fn arbitrary_targets_never_panic_and_never_open(target in "/[a-z/.%]{0,20}(\\?[a-z=&0-9%.]{0,60})?|.{0,80}") {
        prop_assert!(open(&target).is_err());
    }
}
