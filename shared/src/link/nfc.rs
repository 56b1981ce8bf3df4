//! Whether a short text is in NFC (Unicode Standard Annex 15), from the library's tables of canonical forms alone: its own
//! check also brings those of compatibility forms, which would be a tenth of the Worker.

use unicode_normalization::char::{canonical_combining_class, compose, decompose_canonical};

/// The longest name falls into fewer letters and marks than this: two bytes make three at most, three make four.
const MOST: usize = 192;

/// Whether `text`, at most [`super::MAX_WIDE_BYTES`] long, is what it becomes decomposed, ordered and composed again.
pub(super) fn is_nfc(text: &str) -> bool {
    if text.is_ascii() {
        return true;
    }
    let (mut letters, mut length) = (['\0'; MOST], 0);
    for c in text.chars() {
        decompose_canonical(c, |c| {
            if let Some(slot) = letters.get_mut(length) {
                *slot = c;
            }
            length += 1;
        });
    }
    let Some(letters) = letters.get_mut(..length) else {
        return false;
    };
    // Marks behind a letter stand in the order of their classes, those of one class as they came.
    for group in letters.chunk_by_mut(|_, next| canonical_combining_class(*next) != 0) {
        group.sort_by_key(|c| canonical_combining_class(*c));
    }
    let mut rest = text.chars();
    let mut starter: Option<char> = None;
    // Marks behind `starter` that are kept, and the class of the last of them.
    let (mut marks, mut kept, mut last) = (['\0'; MOST], 0, 0);
    for &c in letters.iter() {
        let class = canonical_combining_class(c);
        let composed = starter
            .filter(|_| kept == 0 || last < class)
            .and_then(|starter| compose(starter, c));
        if composed.is_some() {
            starter = composed;
        } else if class == 0 {
            if !is_next(&mut rest, starter, marks.get(..kept)) {
                return false;
            }
            (starter, kept, last) = (Some(c), 0, 0);
        } else {
            if let Some(slot) = marks.get_mut(kept) {
                *slot = c;
            }
            (kept, last) = (kept + 1, class);
        }
    }
    is_next(&mut rest, starter, marks.get(..kept)) && rest.next().is_none()
}

/// Whether a letter with its marks is what comes next in a text.
fn is_next(rest: &mut std::str::Chars<'_>, starter: Option<char>, marks: Option<&[char]>) -> bool {
    let all = starter.iter().chain(marks.unwrap_or_default());
    all.into_iter().all(|c| rest.next() == Some(*c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn letters_with_marks_are_composed_as_the_standard_has_it() {
        for good in [
            "é",
            "ệ",
            "x\u{301}",
            "가",
            "각",
            "\u{301}a",
            "ế",
            "\u{1f82}",
            "日本",
            "\u{928}\u{94d}",
        ] {
            assert_eq!(is_nfc(good), unicode_normalization::is_nfc(good), "{good}");
        }
        for bad in [
            "e\u{301}",
            "a\u{302}\u{323}",
            "\u{e2}\u{323}",
            "\u{212b}",
            "\u{1100}\u{1161}",
            "\u{ac00}\u{11a8}",
            "x\u{302}\u{323}",
            "\u{958}",
            "\u{37e}",
        ] {
            assert!(!is_nfc(bad), "{bad:?}");
        }
        let longest = "\u{1f82}".repeat(32);
        assert!(is_nfc(&longest));
        assert!(is_nfc(&"\u{390}".repeat(48)));
    }

    proptest! {
        #[test]
        fn the_library_says_the_same(text in "\\PC{0,24}|[aeo\u{300}-\u{345}\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}\u{1e00}-\u{1eff}\u{ac00}-\u{ac20}\u{928}-\u{94d}]{0,24}") {
            prop_assert_eq!(is_nfc(&text), unicode_normalization::is_nfc(&text), "{:?}", text);
            use unicode_normalization::UnicodeNormalization;
            let composed: String = text.nfc().collect();
            if composed.len() <= super::super::MAX_WIDE_BYTES {
                prop_assert!(is_nfc(&composed), "{:?}", composed);
            }
        }
    }
}
