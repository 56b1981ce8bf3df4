//! The name under which a browser saves a picture: the parameter `dl`, and `dn` for what lies outside its alphabet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use unicode_normalization::UnicodeNormalization;

use super::nfc::is_nfc;

/// Longest name that `dn` holds, in bytes of UTF-8: 128 characters of base64url.
pub const MAX_WIDE_BYTES: usize = 96;

/// Longest name that `dl` holds, without the dot and the extension.
const MAX_STEM: usize = 100;

/// Where `dn` is decoded to.
pub(super) type Buffer = [u8; MAX_WIDE_BYTES];

/// Whether `name` is a name for `dl` and an object with this extension: `[A-Za-z0-9_-]{1,100}`, a dot, the object's own
/// extension, and not a device name of Windows.
pub fn is_download_name(name: &str, extension: &str) -> bool {
    let Some((stem, own)) = name.split_once('.') else {
        return false;
    };
    // Without an extension of the object's own there is no safe name: `con.` would be `con` on Windows.
    own == extension
        && !own.is_empty()
        && !is_device(name)
        && (1..=MAX_STEM).contains(&stem.len())
        && stem
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// Whether `name` is a name for `dn` and an object with this extension: one that `dl` does not take, at most 96 bytes,
/// NFC, none of the characters that [`is_allowed`] refuses, no dot or space at its ends, no device name of Windows, and
/// the object's own extension after a dot.
pub fn is_wide_name(name: &str, extension: &str) -> bool {
    let stem = name
        .strip_suffix(extension)
        .and_then(|rest| rest.strip_suffix('.'));
    name.len() <= MAX_WIDE_BYTES
        && !extension.is_empty()
        && stem.is_some_and(|stem| !stem.is_empty())
        && !name.starts_with(['.', ' '])
        && name.chars().all(is_allowed)
        && !is_device(name)
        && !is_download_name(name, extension)
        && is_nfc(name)
}

/// No control character, no separator of lines or paths, nothing that Windows reserves, and nothing that turns the
/// direction of writing round, so that no name shows as another one.
fn is_allowed(c: char) -> bool {
    !(c.is_control()
        || matches!(
            c,
            '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        ))
}

/// Whether Windows takes a name for a device: what stands before its first dot decides, in any case, with spaces after
/// it or not.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    let is = |reserved: &&str| stem.eq_ignore_ascii_case(reserved);
    let numbered = stem
        .get(..3)
        .filter(|port| {
            ["com", "lpt"]
                .iter()
                .any(|it| port.eq_ignore_ascii_case(it))
        })
        .and_then(|_| stem.get(3..))
        .is_some_and(|number| {
            let mut digits = number.chars();
            let one = digits
                .next()
                .is_some_and(|c| matches!(c, '0'..='9' | '¹' | '²' | '³'));
            one && digits.next().is_none()
        });
    numbered
        || ["con", "prn", "aux", "nul", "conin$", "conout$"]
            .iter()
            .any(is)
}

/// What a value of `dn` says, into `buffer`: canonical base64url without padding, of UTF-8.
pub(super) fn decode<'a>(value: &str, buffer: &'a mut Buffer) -> Option<&'a str> {
    let bytes = URL_SAFE_NO_PAD.decode_slice(value, buffer).ok()?;
    std::str::from_utf8(buffer.get(..bytes)?).ok()
}

/// How `name` stands in `dn`.
pub(super) fn encode(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

/// The name nearest to `wanted`, whatever that is, that a link to an object with this extension can carry. An extension
/// of pictures gives way to the object's own; what no name may hold becomes `_`. `None` for an object without
/// extension, or with one that leaves no room for a name.
pub fn safe_name(wanted: &str, extension: &str) -> Option<String> {
    let room = MAX_WIDE_BYTES.checked_sub(extension.len() + 1)?;
    if extension.is_empty() || room == 0 {
        return None;
    }
    if is_download_name(wanted, extension) || is_wide_name(wanted, extension) {
        return Some(wanted.to_owned());
    }
    // Nobody reads more of a name; composing may shorten it, so some more is looked at than there is room for.
    let turns = |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c| if is_allowed(c) { c } else { '_' };
    let name: String = wanted
        .chars()
        .filter(|c| !turns(c))
        .map(plain)
        .take(16 * MAX_WIDE_BYTES)
        .nfc()
        .collect();
    let name = name.trim_matches(['.', ' ']);
    let stem = match name.rsplit_once('.') {
        Some((stem, own)) if is_picture(own) || own.eq_ignore_ascii_case(extension) => stem,
        _ => name,
    };
    let stem = stem.trim_end_matches(['.', ' ']);
    let stem = if stem.is_empty() { "picture" } else { stem };
    let named = |stem: &str| {
        let mark = if is_device(stem) { "_" } else { "" };
        format!("{mark}{stem}.{extension}")
    };
    let whole = named(stem);
    if is_download_name(&whole, extension) || whole.len() <= MAX_WIDE_BYTES {
        return Some(whole);
    }
    let cut = stem.get(..stem.floor_char_boundary(room - 1))?;
    let cut = cut.trim_end_matches(['.', ' ']);
    (!cut.is_empty()).then(|| named(cut))
}

fn is_picture(extension: &str) -> bool {
    ["png", "jpg", "jpeg", "webp", "gif", "avif"]
        .iter()
        .any(|it| extension.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whatever_is_asked_for_becomes_a_fitting_name() {
        for (wanted, name) in [
            ("größe.png", "größe.png"),
            ("gro\u{308}ße.png", "größe.png"),
            ("my picture.png", "my picture.png"),
            ("(1).png", "(1).png"),
            ("a.b.png", "a.b.png"),
            ("heart", "heart.png"),
            ("heart.jpg", "heart.png"),
            ("HEART.PNG", "HEART.png"),
            ("v1.2", "v1.2.png"),
            ("../x.png", "_x.png"),
            ("C:\\dir\\x.png", "C__dir_x.png"),
            ("con", "_con.png"),
            ("Com1.png", "_Com1.png"),
            ("com¹.txt", "_com¹.txt.png"),
            ("nul .x.png", "_nul .x.png"),
            ("", "picture.png"),
            (" . ", "picture.png"),
            ("a\r\nb\".png", "a__b_.png"),
            ("\u{202e}gnp.exe", "gnp.exe.png"),
            ("e\u{202e}\u{301}.png", "é.png"),
            ("日本.webp", "日本.png"),
            ("a .png", "a .png"),
            ("com¹png..png", "com¹png..png"),
            ("a ..jpg", "a.png"),
        ] {
            assert_eq!(
                safe_name(wanted, "png").as_deref(),
                Some(name),
                "{wanted:?}"
            );
        }
        assert_eq!(safe_name("a", ""), None);
        let long = safe_name(&"é".repeat(5_000), "png").unwrap();
        assert!((90..=MAX_WIDE_BYTES).contains(&long.len()), "{long}");
        assert_eq!(safe_name(&"a".repeat(100), "png").unwrap().len(), 104);
        assert_eq!(safe_name(&"x".repeat(1_000_000), "png").unwrap().len(), 95);
    }

    #[test]
    fn wide_names_hold_nothing_that_deceives() {
        for good in [
            "größe.png",
            "a.b.png",
            "(1).png",
            "a b.png",
            "a\u{200f}b.png",
            "console .png",
        ] {
            assert!(is_wide_name(good, "png"), "{good}");
        }
        for bad in [
            "a.png",
            ".ä.png",
            " ä.png",
            "ä.jpg",
            "ä",
            "ä.png ",
            "ä.png.",
            ".png",
            "con.ä.png",
            "CON .png",
            "com¹.png",
            "a/ä.png",
            "a\\ä.png",
            "a:ä.png",
            "ä\u{7f}.png",
            "ä\u{85}.png",
            "ä\u{202e}.png",
            "ä\u{2066}.png",
            "ä\u{2028}.png",
            "a\u{308}.png",
            "\u{212a}.png",
            "ä.PNG",
            "ä\n.png",
        ] {
            assert!(!is_wide_name(bad, "png"), "{bad:?}");
        }
        let longest = format!("{}.png", "ä".repeat(46));
        assert_eq!(longest.len(), 96);
        assert!(is_wide_name(&longest, "png"));
        assert!(!is_wide_name(&format!("a{longest}"), "png"));
    }

    proptest! {
        #[test]
        fn every_text_becomes_a_name_that_a_link_carries(wanted in "\\PC{0,60}|.{0,200}|[\\x00-\\x7f]{0,40}|(con|nul|com1|lpt³)[ .]{0,3}\\PC{0,3}", extension in "png|webp|jpg") {
            let name = safe_name(&wanted, &extension).unwrap();
            prop_assert!(is_download_name(&name, &extension) || is_wide_name(&name, &extension), "{name:?}");
            // A name that is one already stays as it is.
            if is_wide_name(&wanted, &extension) || is_download_name(&wanted, &extension) {
                prop_assert_eq!(name, wanted);
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(name in "\\PC{0,24}") {
            let mut buffer = [0; MAX_WIDE_BYTES];
            if name.len() <= MAX_WIDE_BYTES {
                prop_assert_eq!(decode(&encode(&name), &mut buffer), Some(name.as_str()));
            }
        }

        #[test]
        fn arbitrary_values_decode_in_one_spelling_or_not_at_all(value in "[A-Za-z0-9_-]{0,130}|.{0,20}") {
            let mut buffer = [0; MAX_WIDE_BYTES];
            if let Some(name) = decode(&value, &mut buffer) {
                prop_assert_eq!(encode(name), value);
            }
        }
    }
}
