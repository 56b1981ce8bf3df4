//! The keys under which prompts are hashed: one that hashes, and for a day after a change the one before it, so that a
//! repeated prompt is still seen as one. Then the old key is gone for good, and with it every way to test a guess
//! against older log lines.
//!
//! The file is shared by every process that names it: `kid key unix-seconds` a line, the newest first.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::hex::hex;
use shared::keyring::is_kid;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::startup::write_private;

/// A key hashes for a week: no longer, and unless it leaked no shorter, since repeats are counted within one key.
pub const WEEK: u64 = 7 * 24 * 3600;
/// How long the key before is kept.
pub const OVERLAP: u64 = 24 * 3600;

/// One key.
#[derive(Clone)]
struct Key {
    kid: String,
    key: Zeroizing<[u8; 32]>,
    since: u64,
}

impl Key {
    fn fresh(now: u64) -> Self {
        Self {
            kid: format!("p-{}", hex(&rand::random::<[u8; 4]>())),
            key: Zeroizing::new(rand::random()),
            since: now,
        }
    }

    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        let (kid, key, since) = (parts.next()?, parts.next()?, parts.next()?);
        let key = Zeroizing::new(STANDARD.decode(key).ok()?);
        let key = Zeroizing::new(<[u8; 32]>::try_from(key.as_slice()).ok()?);
        let since = since.parse().ok()?;
        (is_kid(kid) && parts.next().is_none()).then(|| Self {
            kid: kid.into(),
            key,
            since,
        })
    }

    /// Over the NFKC, trimmed, case-folded prompt.
    fn hash(&self, prompt: &str) -> String {
        let normal: String = prompt.nfkc().collect();
        let folded: String = normal.trim().chars().flat_map(fold).collect();
        // HMAC takes keys of any length.
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(self.key.as_slice()) else {
            return String::new();
        };
        mac.update(folded.as_bytes());
        let mac = hex(&mac.finalize().into_bytes());
        format!("hmac-sha256:{}:{mac}", self.kid)
    }
}

/// What Unicode's full case folding makes of a character: by way of the capitals, since one small letter may stand for
/// two (`ß`) or be one of two (`ς`). Only the dotless i has a capital that is another letter's.
fn fold(letter: char) -> impl Iterator<Item = char> {
    let capital = letter.to_lowercase().flat_map(char::to_uppercase);
    let dotless = (letter == 'ı').then_some(letter);
    let folded = capital.flat_map(char::to_lowercase);
    dotless
        .into_iter()
        .chain(folded.filter(move |_| dotless.is_none()))
}

/// The key that hashes, and the one before it.
#[derive(Clone)]
pub struct PromptKeys {
    current: Key,
    before: Option<Key>,
}

impl std::fmt::Debug for PromptKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PromptKeys(REDACTED)")
    }
}

impl PromptKeys {
    /// A first key.
    pub fn fresh(now: u64) -> Self {
        Self {
            current: Key::fresh(now),
            before: None,
        }
    }

    /// A new key; the one until now stays for [`OVERLAP`].
    pub fn next(&self, now: u64) -> Self {
        Self {
            current: Key::fresh(now),
            before: Some(self.current.clone()),
        }
    }

    /// The id of the key that hashes.
    pub fn kid(&self) -> &str {
        &self.current.kid
    }

    /// When the key that hashes was made, Unix seconds.
    pub fn since(&self) -> u64 {
        self.current.since
    }

    /// Whether the key has hashed for a week.
    pub fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.current.since) >= WEEK
    }

    fn is_overlap_over(&self, now: u64) -> bool {
        self.before.is_some() && now.saturating_sub(self.current.since) >= OVERLAP
    }

    /// `hmac-sha256:{kid}:{mac}`.
    pub fn hash(&self, prompt: &str) -> String {
        self.current.hash(prompt)
    }

    /// The hash under the key before, while that is kept.
    pub fn hash_before(&self, prompt: &str, now: u64) -> Option<String> {
        let before = self.before.as_ref().filter(|_| !self.is_overlap_over(now));
        before.map(|key| key.hash(prompt))
    }

    /// Reads the file's text; `None` for anything but one or two whole lines of different ids.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let current = Key::read(lines.next()?)?;
        let before = match lines.next() {
            Some(line) => Some(Key::read(line)?),
            None => None,
        };
        let same = before.as_ref().is_some_and(|key| key.kid == current.kid);
        (lines.next().is_none() && !same).then_some(Self { current, before })
    }

    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for key in std::iter::once(&self.current).chain(&self.before) {
            let encoded = Zeroizing::new(STANDARD.encode(key.key.as_slice()));
            let _ = writeln!(text, "{} {} {}", key.kid, *encoded, key.since);
        }
        text
    }

    /// Whether its key was made after the other's; of two made in the same second all choose the same.
    pub(super) fn is_later_than(&self, other: &Self) -> bool {
        (self.since(), self.kid()) > (other.since(), other.kid())
    }

    /// As they are to be at `now`: changed after a week, and without the one before once its time is over.
    pub(super) fn at(&self, now: u64) -> Self {
        if self.is_due(now) {
            return self.next(now);
        }
        Self {
            before: self.before.clone().filter(|_| !self.is_overlap_over(now)),
            current: self.current.clone(),
        }
    }

    /// Has the file follow keys that others agreed on, unless it has later ones.
    ///
    /// # Errors
    /// As [`PromptKeys::keep`].
    pub(super) fn follow(&self, file: &Path) -> std::io::Result<Self> {
        Self::change(file, |known| {
            let stays = known.is_some_and(|known| {
                known.is_later_than(self) || *known.to_text() == *self.to_text()
            });
            Ok((!stays).then(|| self.clone()))
        })
    }

    /// The keys of the file as they are to be at `now`: made where there are none, changed after a week, and without the
    /// one before once its time is over. Of many processes one changes it, the others find it changed.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn keep(file: &Path, now: u64) -> std::io::Result<Self> {
        Self::change(file, |keys| match keys {
            None => Ok(Some(Self::fresh(now))),
            Some(keys) if keys.is_due(now) => Ok(Some(keys.next(now))),
            Some(keys) if keys.is_overlap_over(now) => Ok(Some(Self {
                before: None,
                ..keys.clone()
            })),
            Some(_) => Ok(None),
        })
    }

    /// Changes the key now. Before its week is over only `at_once`, for a key that leaked: then the one before is gone
    /// too.
    ///
    /// # Errors
    /// As [`PromptKeys::keep`], and a key that is younger than a week.
    pub fn rotate(file: &Path, at_once: bool, now: u64) -> std::io::Result<Self> {
        Self::change(file, |keys| match keys {
            Some(keys) if !at_once && keys.is_due(now) => Ok(Some(keys.next(now))),
            Some(keys) if !at_once => {
                let day = now.saturating_sub(keys.since()) / 86_400;
                Err(std::io::Error::other(format!(
                    "{} is {day} days old and is changed by the service when it is 7; --at-once changes it now, for a key that leaked",
                    keys.kid()
                )))
            }
            _ => Ok(Some(Self::fresh(now))),
        })
    }

    fn change(
        file: &Path,
        wanted: impl FnOnce(Option<&Self>) -> std::io::Result<Option<Self>>,
    ) -> std::io::Result<Self> {
        // A file of its own, since the one with the keys is replaced.
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(file.with_extension("lock"))?;
        lock.lock()?;
        let known = match std::fs::read_to_string(file) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let broken = || {
                    std::io::Error::other(format!("{} holds no prompt-hash keys", file.display()))
                };
                Some(Self::parse(&text).ok_or_else(broken)?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match wanted(known.as_ref())? {
            Some(keys) => {
                write_private(file, &keys.to_text())?;
                Ok(keys)
            }
            None => known.ok_or_else(|| std::io::Error::other("no prompt-hash keys")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: u64 = 1_000_000;

    #[test]
    fn a_key_is_changed_after_a_week_and_the_one_before_is_gone_after_a_day_more() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompt-keys");
        let first = PromptKeys::keep(&file, T).unwrap();
        let before = first.hash("a red apple");
        let week = PromptKeys::keep(&file, T + WEEK - 1).unwrap();
        assert_eq!(week.hash(" A RED apple "), before);
        let second = PromptKeys::keep(&file, T + WEEK).unwrap();
        assert_ne!(second.hash("a red apple"), before);
        let now = T + WEEK + OVERLAP;
        assert_eq!(second.hash_before("a red apple", now - 1), Some(before));
        assert_eq!(
            second.hash_before("a red apple", now),
            None,
            "even where nobody looked at the file"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
        PromptKeys::keep(&file, now).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    }

    #[test]
    fn the_file_is_private_and_shared_by_all_who_name_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompt-keys");
        let kids: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| PromptKeys::keep(&file, T).unwrap().kid().to_owned()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            format!("{:?}", PromptKeys::fresh(1)),
            "PromptKeys(REDACTED)"
        );
    }

    #[test]
    fn a_key_is_not_changed_before_its_week_unless_it_leaked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompt-keys");
        let first = PromptKeys::keep(&file, T).unwrap();
        let told = PromptKeys::rotate(&file, false, T + 3 * 86_400).unwrap_err();
        assert!(told.to_string().contains("is 3 days old"), "{told}");
        let leaked = PromptKeys::rotate(&file, true, T + 3 * 86_400).unwrap();
        assert_ne!(leaked.kid(), first.kid());
        assert_eq!(
            leaked.hash_before("x", T + 3 * 86_400),
            None,
            "what leaked hashes nothing more"
        );
        let next = PromptKeys::rotate(&file, false, T + 3 * 86_400 + WEEK).unwrap();
        assert!(next.hash_before("x", T + 3 * 86_400 + WEEK).is_some());
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompt-keys");
        for text in ["", "x", "p-1 AAAA 1\n", "not keys at all\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(PromptKeys::keep(&file, T).is_err(), "{text:?}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_nothing_panics(text in "\\PC{0,80}", changes in 0u64..3) {
            let _ = PromptKeys::parse(&text);
            let mut keys = PromptKeys::fresh(T);
            for change in 0..changes {
                keys = keys.next(T + change);
            }
            let again = PromptKeys::parse(&keys.to_text()).unwrap();
            prop_assert_eq!(again.hash(&text), keys.hash(&text));
            prop_assert_eq!(again.hash_before(&text, T), keys.hash_before(&text, T));
        }
    }
}
