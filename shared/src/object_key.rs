//! Names of stored objects: `[A-Za-z0-9_-]`, `.` and `/` only, so that nothing ever needs percent-encoding.

/// Longest object key in bytes.
pub const MAX_BYTES: usize = 512;

/// A checked object key, for example `generated/u1/01890a5d-ac96-774b-bcce-b302099a8057.png`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Box<str>);

/// The text is not an object key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKey;

impl std::fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object key has 1 to 512 characters A-Z a-z 0-9 _ - . / and no empty, . or .. segment")
    }
}

impl std::error::Error for InvalidKey {}

/// Whether `text` is an object key; allocates nothing.
pub fn is_valid(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_BYTES {
        return false;
    }
    // Length of the segment so far, and whether it has dots only.
    let (mut length, mut dots_only) = (0usize, true);
    for &c in text.as_bytes() {
        match c {
            b'/' => {
                if length == 0 || (dots_only && length <= 2) {
                    return false;
                }
                (length, dots_only) = (0, true);
                continue;
            }
            b'.' => {}
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => dots_only = false,
            _ => return false,
        }
        length += 1;
    }
    length > 0 && !(dots_only && length <= 2)
}

/// The extension of the last segment: what follows its last dot, when both sides of the dot are there.
pub fn extension_of(key: &str) -> Option<&str> {
    let (stem, extension) = last_segment(key).rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

fn last_segment(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// The owner of a key, its second segment, when there is a third.
pub fn owner_of(key: &str) -> Option<&str> {
    let mut segments = key.split('/');
    let (_, owner, _) = (segments.next()?, segments.next()?, segments.next()?);
    Some(owner)
}

/// `temp/` holds previews, for which no link exists.
pub fn is_linkable(key: &str) -> bool {
    !key.starts_with("temp/")
}

impl ObjectKey {
    /// # Errors
    /// [`InvalidKey`] when `text` breaks a rule of the module's page.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidKey)
        }
    }

    /// The key without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user whose object it is (second segment).
    pub fn owner(&self) -> Option<&str> {
        owner_of(&self.0)
    }

    /// `png`, `webp`, `jpg`, … without the dot.
    pub fn extension(&self) -> Option<&str> {
        extension_of(&self.0)
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        last_segment(&self.0)
    }

    /// Whether links to it may exist at all.
    pub fn is_linkable(&self) -> bool {
        is_linkable(&self.0)
    }

    /// `kept/…` for `generated/…` and the other way round: keeping moves the object, links to either open the one
    /// that is there.
    pub fn counterpart(&self) -> Option<Self> {
        let (prefix, rest) = self.0.split_once('/')?;
        let other = match prefix {
            "generated" => "kept",
            "kept" => "generated",
            _ => return None,
        };
        Self::parse(&format!("{other}/{rest}")).ok()
    }

    /// The media type we serve it with; set by us from the extension, never taken from the object.
    pub fn content_type(&self) -> &'static str {
        match self.extension() {
            Some("png") => "image/png",
            Some("webp") => "image/webp",
            Some("jpg") => "image/jpeg",
            _ => "application/octet-stream",
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_with_odd_segments_or_characters_are_refused() {
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "../a", "a/..", "a b",
            "a%2Fb", "a\\b", "ä", "a\n", "a?b", "a+b", "a~b",
        ] {
            assert_eq!(ObjectKey::parse(bad), Err(InvalidKey), "{bad:?}");
        }
        for good in [
            "a",
            "a.png",
            "...",
            ".a",
            "a/...b/c",
            "-/_",
            "generated/u/x.png",
        ] {
            assert!(ObjectKey::parse(good).is_ok(), "{good}");
        }
        assert!(ObjectKey::parse(&"a".repeat(512)).is_ok());
        assert!(ObjectKey::parse(&"a".repeat(513)).is_err());
    }

    #[test]
    fn parts_are_found() {
        let key = ObjectKey::parse("generated/u1/x.y.png").unwrap();
        assert_eq!(key.owner(), Some("u1"));
        assert_eq!(key.extension(), Some("png"));
        assert_eq!(key.file_name(), "x.y.png");
        assert_eq!(key.counterpart().unwrap().as_str(), "kept/u1/x.y.png");
        assert_eq!(key.counterpart().unwrap().counterpart().unwrap(), key);
        assert_eq!(
            ObjectKey::parse("uploads/u1/x.png").unwrap().counterpart(),
            None
        );
        assert_eq!(ObjectKey::parse("a/b").unwrap().owner(), None);
        assert!(!ObjectKey::parse("temp/j.png").unwrap().is_linkable());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_accepted_keys_obey_the_rules(text in "[a./%-]{0,12}|.{0,40}") {
            if let Ok(key) = ObjectKey::parse(&text) {
                prop_assert!(key.as_str().split('/').all(|s| !s.is_empty() && s != "." && s != ".."));
                prop_assert!(key.as_str().bytes().all(|c| c.is_ascii_alphanumeric() || b"_-./".contains(&c)));
                let _ = (key.owner(), key.extension(), key.counterpart(), key.content_type());
            }
        }
    }
}
