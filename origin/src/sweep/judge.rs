//! What an object and its row mean together. Pure, so that every case can be tried.

use shared::object_key::ObjectKey;

use crate::generate::KEEP_RESULTS_SECONDS;

/// How long previews are kept, in seconds.
const TEMP_SECONDS: u64 = 24 * 3600;

/// What kind of object a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A result, an upload or a kept picture: it has a row.
    Picture,
    /// A preview: it has none.
    Preview,
    /// A name that no part of this program writes.
    Unknown,
}

/// Tells by the layout of keys.
pub fn kind(key: &ObjectKey) -> Kind {
    let mut segments = key.as_str().split('/');
    let parts = (
        segments.next(),
        segments.next(),
        segments.next(),
        segments.next(),
    );
    match parts {
        (Some("generated" | "kept" | "uploads"), Some(_), Some(name), None) if is_ours(name) => {
            Kind::Picture
        }
        (Some("temp"), Some(name), None, None) if name.ends_with(".png") => Kind::Preview,
        _ => Kind::Unknown,
    }
}

/// `{uuid of version 7}.{png|webp|jpg}`.
fn is_ours(name: &str) -> bool {
    let Some((id, "png" | "webp" | "jpg")) = name.split_once('.') else {
        return false;
    };
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    id.len() == 36
        && id.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            14 => c == '7',
            _ => hex(c),
        })
}

/// Seconds that an object of this prefix lives by the layout of the contract; none for what is kept.
pub fn lifetime(key: &ObjectKey) -> Option<u64> {
    match key.as_str().split('/').next() {
        Some("generated" | "uploads") => Some(KEEP_RESULTS_SECONDS),
        Some("temp") => Some(TEMP_SECONDS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Kind {
        kind(&ObjectKey::parse(text).unwrap())
    }

    #[test]
    fn only_names_of_our_own_making_are_known() {
        let id = "01a206a6-04f2-7cb5-b4b6-a963562ea420";
        for key in [
            format!("generated/u/{id}.png"),
            format!("kept/u/{id}.jpg"),
            format!("uploads/u/{id}.webp"),
        ] {
            assert_eq!(of(&key), Kind::Picture, "{key}");
        }
        assert_eq!(of("temp/job1.png"), Kind::Preview);
        for key in [
            format!("generated/{id}.png"),
            format!("generated/u/v/{id}.png"),
            format!("backup/u/{id}.png"),
            format!("generated/u/{id}.gif"),
            format!("generated/u/{}.png", id.replace("-7", "-4")),
            format!("generated/u/{}.png", id.to_uppercase()),
            "generated/u/readme.png".into(),
            "temp/u/a.png".into(),
            "temp/a.txt".into(),
            "notes.txt".into(),
        ] {
            if let Ok(parsed) = ObjectKey::parse(&key) {
                assert_eq!(kind(&parsed), Kind::Unknown, "{key}");
            }
        }
    }
}
