//! application/x-www-form-urlencoded, read strictly.

/// Name and value of every parameter.
pub(super) type Form = Vec<(String, String)>;

/// The parameters of a form; `None` when one stands twice or the text is no form.
pub(super) fn parse(body: &str) -> Option<Form> {
    let mut out = Form::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (decode(name)?, decode(value)?);
        if out.iter().any(|(known, _)| *known == name) {
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
