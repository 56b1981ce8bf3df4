//! The whole folder once, in the byte order of whole keys.

use std::cmp::Ordering;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use shared::object_key::ObjectKey;

use super::FolderStore;
use super::errno::store_error;
use super::list::info;
use super::tree::{Dir, PARTIAL};
use crate::storage::{LIST_MAX, Listing, StoreError};

/// Longest path that can be a key's; deeper folders are not entered.
const DEEPEST: usize = 512;

impl FolderStore {
    /// Hands page after page to `tell` until it wants no more.
    pub(in crate::storage) fn walk(
        &self,
        after: Option<&str>,
        tell: impl FnMut(Result<Listing, StoreError>) -> bool,
    ) {
        let mut walk = Walk {
            after: after.unwrap_or_default(),
            path: String::new(),
            page: Listing::default(),
            tell,
        };
        match walk.below(&self.root.dir) {
            // Nobody listens any more.
            Ok(false) => {}
            Ok(true) => {
                (walk.tell)(Ok(walk.page));
            }
            Err(error) => {
                (walk.tell)(Err(error));
            }
        }
    }
}

struct Walk<'a, T> {
    after: &'a str,
    path: String,
    page: Listing,
    tell: T,
}

impl<T: FnMut(Result<Listing, StoreError>) -> bool> Walk<'_, T> {
    fn below(&mut self, dir: &Dir) -> Result<bool, StoreError> {
        let names = Names::read(dir, self.path.is_empty())?;
        let depth = self.path.len();
        for (name, kind) in names.in_order() {
            self.path.push_str(name);
            let go_on = match kind {
                FileType::Directory => self.folder(dir, name)?,
                kind => self.file(dir, name, kind)?,
            };
            self.path.truncate(depth);
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn folder(&mut self, dir: &Dir, name: &str) -> Result<bool, StoreError> {
        self.path.push('/');
        let can_hold_keys = self.path.len() < DEEPEST
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !can_hold_keys {
            return self.foreign();
        }
        if self.path.as_str() <= self.after && !self.after.starts_with(self.path.as_str()) {
            return Ok(true);
        }
        match dir.child(name, false) {
            Ok(child) => self.below(&child),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(true),
            Err(errno) => Err(store_error(errno)),
        }
    }

    fn file(&mut self, dir: &Dir, name: &str, kind: FileType) -> Result<bool, StoreError> {
        let key = match ObjectKey::parse(&self.path) {
            Ok(key) if kind == FileType::RegularFile => key,
            _ => return self.foreign(),
        };
        if self.path.as_str() <= self.after {
            return Ok(true);
        }
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.page.objects.push(info(key, &stat)),
            // Deleted since the folder was read.
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(store_error(errno)),
        }
        Ok(self.turn_page())
    }

    fn foreign(&mut self) -> Result<bool, StoreError> {
        if self.path.as_str() > self.after {
            self.page.foreign.push(self.path.clone());
            return Ok(self.turn_page());
        }
        Ok(true)
    }

    fn turn_page(&mut self) -> bool {
        if self.page.objects.len() + self.page.foreign.len() < LIST_MAX {
            return true;
        }
        let mut page = std::mem::take(&mut self.page);
        page.next = Some(self.path.clone());
        (self.tell)(Ok(page))
    }
}

/// The names in one folder, packed: a folder may hold a million.
struct Names {
    text: String,
    spans: Vec<(u32, u16, FileType)>,
}

impl Names {
    fn read(dir: &Dir, is_root: bool) -> Result<Self, StoreError> {
        let mut names = Self {
            text: String::new(),
            spans: Vec::new(),
        };
        for entry in rustix::fs::Dir::read_from(dir).map_err(store_error)? {
            let entry = entry.map_err(store_error)?;
            let name = entry.file_name().to_string_lossy();
            if name == "." || name == ".." || (is_root && name == PARTIAL) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    match rustix::fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(_) => continue,
                    }
                }
                kind => kind,
            };
            let (Ok(start), Ok(length)) =
                (u32::try_from(names.text.len()), u16::try_from(name.len()))
            else {
                return Err(StoreError::Other("a folder with too many names".into()));
            };
            names.text.push_str(&name);
            names.spans.push((start, length, kind));
        }
        let text = &names.text;
        names
            .spans
            .sort_unstable_by(|a, b| as_keys(of(text, a), a.2, of(text, b), b.2));
        Ok(names)
    }

    fn in_order(&self) -> impl Iterator<Item = (&str, FileType)> {
        self.spans.iter().map(|span| (of(&self.text, span), span.2))
    }
}

fn of<'t>(text: &'t str, &(start, length, _): &(u32, u16, FileType)) -> &'t str {
    let start = start as usize;
    text.get(start..start + usize::from(length))
        .unwrap_or_default()
}

/// The order of the keys: below a folder they go on with a slash.
fn as_keys(a: &str, a_kind: FileType, b: &str, b_kind: FileType) -> Ordering {
    let slash = |kind| (kind == FileType::Directory).then_some(b'/');
    a.bytes()
        .chain(slash(a_kind))
        .cmp(b.bytes().chain(slash(b_kind)))
}
