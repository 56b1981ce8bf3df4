//! application/x-www-form-urlencoded, read strictly.

/// Name and value of every parameter.
pub(super) type Form = Vec<(String, String)>;

/// May stand several times: where a token is wanted for several (RFC 8693 section 2.1, RFC 8707 section 2).
const REPEATABLE: [&str; 2] = ["audience", "resource"];
/// Parameters of one form: more than any grant has.
const MOST: usize = 64;

/// The parameters of a form; `None` when one stands twice that may not, there are too many, or the text is no form.
pub(super) fn parse(body: &str) -> Option<Form> {
    let mut out = Form::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (decode(name)?, decode(value)?);
        let is_known = || out.iter().any(|(known, _)| *known == name);
        if out.len() >= MOST || (!REPEATABLE.contains(&name.as_str()) && is_known()) {
            return None;
        }
        out.push((name, value));
    }
    Some(out)
}

/// The value of a parameter; one without a value is treated as if it were left out (RFC 6749 section 3.2).
pub(super) fn value_of<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// application/x-www-form-urlencoded.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = |c: u8| char::from(c).to_digit(16);
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_are_read_strictly() {
        assert_eq!(
            parse("a=b+c&d=%2B").unwrap(),
            [("a".into(), "b c".into()), ("d".into(), "+".into())]
        );
        assert_eq!(parse("a=1&a=2"), None);
        assert_eq!(
            parse("audience=a&resource=b&audience=c&resource=b")
                .unwrap()
                .len(),
            4
        );
        assert_eq!(parse("scope=a&audience=b&scope=a"), None);
        assert_eq!(parse(&"audience=a&".repeat(MOST)).unwrap().len(), MOST);
        assert_eq!(parse(&"audience=a&".repeat(MOST + 1)), None);
        assert_eq!(parse("a"), None);
        assert_eq!(parse("a=%zz"), None);
        assert_eq!(parse("a=%ff"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in ".{0,60}|[a-z%=&+0-9]{0,40}") {
            let _ = parse(&body);
        }
    }
}
