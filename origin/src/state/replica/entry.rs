//! One entry of the log: an id, and what each operation wrote.

use crate::state::StateError;

/// Characters of an id.
const ID: usize = 32;

/// What was committed at once. Each group is one operation: on a replay it stands or falls as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// 32 hex digits, random: an entry is found again by it after an answer was lost.
    pub(super) id: String,
    /// SQL statements with their values, by operation.
    pub(super) groups: Vec<Vec<String>>,
}

impl Entry {
    /// A new entry, unless nothing was written.
    pub(super) fn of(groups: Vec<Vec<String>>) -> Option<Self> {
        let groups: Vec<_> = groups
            .into_iter()
            .filter(|group| !group.is_empty())
            .collect();
        (!groups.is_empty()).then(|| Self {
            id: new_id(),
            groups,
        })
    }

    /// The id, and JSON behind it.
    pub(super) fn to_text(&self) -> String {
        format!("{}{}", self.id, serde_json::json!(self.groups))
    }

    /// # Errors
    /// The log holds something else.
    pub(super) fn parse(text: &str) -> Result<Self, StateError> {
        let foreign = || StateError::Foreign("an entry of the log is not one of ours".into());
        let (id, json) = text.split_at_checked(ID).ok_or_else(foreign)?;
        if !id.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(foreign());
        }
        Ok(Self {
            id: id.into(),
            groups: serde_json::from_str(json).map_err(|_| foreign())?,
        })
    }
}

pub(super) fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(groups: Vec<Vec<String>>) {
            if let Some(entry) = Entry::of(groups) {
                prop_assert_eq!(Entry::parse(&entry.to_text()).unwrap(), entry);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = Entry::parse(&text);
        }
    }
}
