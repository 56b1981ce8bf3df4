//! Conditions and ranges of a picture's request (RFC 9110 sections 13 and 14), decided without I/O.

/// Which bytes to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// All of them, 200.
    Whole,
    /// `first..=last`, 206.
    Part {
        /// First byte.
        first: u64,
        /// Last byte, inclusive, below the size.
        last: u64,
    },
    /// The client's copy is good, 304.
    NotModified,
    /// None lies in the object, 416.
    Unsatisfiable,
    /// The client wants another object than this one, 412.
    Other,
}

/// The conditional headers of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match`.
    pub if_match: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `Range`; it means something with GET only, so a HEAD passes none.
    pub range: Option<&'a str>,
}

/// Decides for an object of `size` bytes with the strong `etag`, quotes included, in the order of section 13.2.2.
pub fn select(conditions: &Conditions<'_>, etag: &str, size: u64) -> Bytes {
    // An empty header is none: some servers take it away on its way here.
    if conditions
        .if_match
        .filter(|list| !bare(list).is_empty())
        .is_some_and(|list| !names(list, |tag| tag == etag))
    {
        return Bytes::Other;
    }
    if conditions
        .if_none_match
        .is_some_and(|list| names(list, |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag))
    {
        return Bytes::NotModified;
    }
    // A weak or older validator, or a date: the whole object is the answer (section 13.1.5).
    if conditions
        .if_range
        .is_some_and(|validator| bare(validator) != etag)
    {
        return Bytes::Whole;
    }
    conditions
        .range
        .map_or(Bytes::Whole, |range| parse(range, size))
}

/// Whether a list of tags names the object: `*`, or a tag that `is_it`.
fn names(list: &str, is_it: impl Fn(&str) -> bool) -> bool {
    bare(list) == "*" || list.split(',').any(|tag| is_it(bare(tag)))
}

/// Without the white space that headers may have (RFC 9110 section 5.6.3), and no other.
fn bare(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A single `bytes` range; several ranges, other units and malformed values mean the whole object, as section 14.2
/// allows: nobody needs parts of a picture in one answer, and each part would cost.
fn parse(range: &str, size: u64) -> Bytes {
    let Some((unit, set)) = range.split_once('=') else {
        return Bytes::Whole;
    };
    if !bare(unit).eq_ignore_ascii_case("bytes") {
        return Bytes::Whole;
    }
    let Some((first, last)) = bare(set).split_once('-') else {
        return Bytes::Whole;
    };
    let number = |text: &str| {
        let digits =
            !text.is_empty() && text.len() <= 18 && text.bytes().all(|c| c.is_ascii_digit());
        if digits {
            text.parse::<u64>().ok()
        } else {
            None
        }
    };
    match (first.is_empty(), last.is_empty()) {
        (true, false) => match number(last) {
            Some(0) => Bytes::Unsatisfiable,
            Some(_) if size == 0 => Bytes::Unsatisfiable,
            Some(suffix) => Bytes::Part {
                first: size.saturating_sub(suffix),
                last: size - 1,
            },
            None => Bytes::Whole,
        },
        (false, _) => {
            let Some(first) = number(first) else {
                return Bytes::Whole;
            };
            let last = if last.is_empty() {
                Some(u64::MAX)
            } else {
                number(last)
            };
            match last {
                Some(last) if last < first => Bytes::Whole,
                Some(_) if first >= size => Bytes::Unsatisfiable,
                Some(last) => Bytes::Part {
                    first,
                    last: last.min(size - 1),
                },
                None => Bytes::Whole,
            }
        }
        (true, true) => Bytes::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Bytes {
        select(
            &Conditions {
                range: Some(text),
                ..Conditions::default()
            },
            "\"e\"",
            100,
        )
    }

    #[test]
    fn single_ranges_are_cut_to_the_object() {
        assert_eq!(range("bytes=0-0"), Bytes::Part { first: 0, last: 0 });
        assert_eq!(
            range("bytes=90-"),
            Bytes::Part {
                first: 90,
                last: 99
            }
        );
        assert_eq!(
            range("bytes=90-1000"),
            Bytes::Part {
                first: 90,
                last: 99
            }
        );
        assert_eq!(
            range("bytes=-10"),
            Bytes::Part {
                first: 90,
                last: 99
            }
        );
        assert_eq!(range("bytes=-1000"), Bytes::Part { first: 0, last: 99 });
        assert_eq!(range("bytes=100-"), Bytes::Unsatisfiable);
        assert_eq!(range("bytes=-0"), Bytes::Unsatisfiable);
        for whole in [
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "items=0-1",
            "bytes=0-1,5-6",
            "bytes=+1-2",
            "",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(range(whole), Bytes::Whole, "{whole}");
        }
    }

    #[test]
    fn conditions_come_before_ranges() {
        let ask = |if_none_match, if_range| {
            select(
                &Conditions {
                    if_match: None,
                    if_none_match,
                    if_range,
                    range: Some("bytes=0-0"),
                },
                "\"e\"",
                100,
            )
        };
        assert_eq!(ask(Some("\"x\", W/\"e\""), None), Bytes::NotModified);
        assert_eq!(ask(Some("*"), None), Bytes::NotModified);
        assert_eq!(ask(Some("\"x\""), None), Bytes::Part { first: 0, last: 0 });
        assert_eq!(ask(None, Some("\"e\"")), Bytes::Part { first: 0, last: 0 });
        assert_eq!(ask(None, Some("W/\"e\"")), Bytes::Whole);
        assert_eq!(
            ask(None, Some("Mon, 01 Jan 2024 00:00:00 GMT")),
            Bytes::Whole
        );
    }

    #[test]
    fn another_object_than_the_one_that_is_wanted_is_not_sent() {
        let ask = |if_match, if_none_match| {
            let conditions = Conditions {
                if_match: Some(if_match),
                if_none_match,
                range: Some("bytes=0-0"),
                ..Conditions::default()
            };
            select(&conditions, "\"e\"", 100)
        };
        let part = Bytes::Part { first: 0, last: 0 };
        for good in ["\"e\"", "\"x\", \"e\"", "*", "\t\"e\" ", "", " "] {
            assert_eq!(ask(good, None), part, "{good}");
            assert_eq!(ask(good, Some("\"e\"")), Bytes::NotModified, "{good}");
        }
        // Strong comparison: a weak tag is never the object's own (section 13.1.1).
        for bad in ["\"x\"", "W/\"e\"", "e", "\"e", "\u{a0}\"e\""] {
            assert_eq!(ask(bad, Some("\"e\"")), Bytes::Other, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_part_always_lies_in_the_object(text in "bytes=[0-9]{0,20}-[0-9]{0,20}|.{0,30}", size in 0u64..200) {
            if let Bytes::Part { first, last } = select(&Conditions { range: Some(&text), ..Conditions::default() }, "\"e\"", size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
