//! As much of DER (X.690) as a certificate needs.

/// A tag, the length, and what it holds.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 128 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let used = bytes.get(zeros..).unwrap_or_default();
        out.push(0x80 | used.len() as u8);
        out.extend_from_slice(used);
    }
    out.extend_from_slice(content);
    out
}

/// SEQUENCE of the parts.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// SET of one part.
pub fn set(part: &[u8]) -> Vec<u8> {
    tlv(0x31, part)
}

/// OBJECT IDENTIFIER, from its encoded bytes.
pub fn oid(encoded: &[u8]) -> Vec<u8> {
    tlv(0x06, encoded)
}

/// INTEGER, positive, from its bytes.
pub fn positive(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    match digits.first() {
        None => tlv(0x02, &[0]),
        Some(first) if *first >= 0x80 => tlv(0x02, &[&[0], digits].concat()),
        Some(_) => tlv(0x02, digits),
    }
}

/// BIT STRING of whole bytes.
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes].concat())
}

/// UTF8String.
pub fn text(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// OCTET STRING.
pub fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, bytes)
}

/// A time between 1950 and 2049 as UTCTime, another as GeneralizedTime, as RFC 5280 wants it; from RFC 3339 in UTC.
pub fn time(rfc3339: &str) -> Vec<u8> {
    let digits: String = rfc3339.chars().filter(char::is_ascii_digit).collect();
    match digits.as_str() {
        early if ("1950".."2050").contains(&early) => tlv(
            0x17,
            format!("{}Z", early.get(2..).unwrap_or_default()).as_bytes(),
        ),
        late => tlv(0x18, format!("{late}Z").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_have_their_shortest_form() {
        assert_eq!(tlv(4, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(positive(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(positive(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(positive(&[]), [2, 1, 0]);
    }

    #[test]
    fn times_change_their_form_at_2050() {
        assert_eq!(time("2026-03-09T14:22:01Z"), tlv(0x17, b"260309142201Z"));
        assert_eq!(time("2050-01-01T00:00:00Z"), tlv(0x18, b"20500101000000Z"));
    }
}
