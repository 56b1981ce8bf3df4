//! Money as it is written in the configuration, kept in millionths so that sums are exact.

/// Millionths of whatever the provider bills in, from a decimal like `0.04`.
///
/// # Errors
/// A sentence about the form.
pub(super) fn micros(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no amount like 0.04");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 6 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    let sum = whole
        .checked_mul(1_000_000)
        .and_then(|whole| whole.checked_add(part));
    // What SQLite can count.
    sum.filter(|sum| *sum <= i64::MAX as u64).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_nonsense_is_none() {
        for (text, value) in [
            ("0.04", 40_000),
            ("1", 1_000_000),
            ("25.00", 25_000_000),
            ("0.000001", 1),
            ("9223372036854.775807", i64::MAX as u64),
        ] {
            assert_eq!(micros(text), Ok(value), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "0.0000001",
            "1,5",
            " 1",
            "NaN",
            "9223372036854.775808",
            "99999999999999999999",
        ] {
            assert!(micros(text).is_err(), "{text}");
        }
    }
}
