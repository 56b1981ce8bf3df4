//! Tokens and secrets in a query string: they would stand in logs, histories and referers, so both sides refuse them.

/// Names that only secrets have.
const NAMES: [&str; 8] = [
    "access_token",
    "token",
    "id_token",
    "refresh_token",
    "client_secret",
    "authorization",
    "api_key",
    "bearer",
];

/// Whether a query names one, however it is written.
pub fn is_in(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = decoded(pair.split('=').next().unwrap_or(pair));
        NAMES.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    })
}

/// A name with its percent-encoding undone, so that `access%5Ftoken` is no way around.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => char::from(*high)
                .to_digit(16)
                .zip(char::from(*low).to_digit(16))
                .and_then(|(high, low)| u8::try_from(high << 4 | low).ok())
                .map(|byte| (byte, after)),
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_found_however_its_name_is_written() {
        for query in [
            "access_token=x",
            "a=b&token=x",
            "Access%5FToken=x",
            "%74oken",
            "a;api_key=1",
            "token",
        ] {
            assert!(is_in(query), "{query}");
        }
        for query in [
            "",
            "limit=5&cursor=token",
            "tokens=1",
            "code=a&state=b",
            "%zz",
            "%7",
        ] {
            assert!(!is_in(query), "{query}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_queries_never_panic(query in "[a-z%0-9=&;]{0,40}|.{0,40}") {
            let _ = is_in(&query);
        }
    }
}
