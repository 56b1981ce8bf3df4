//! Generations by user and hour, for the last 24 hours, of so many users as fit: the one who was quiet longest goes.

use std::collections::HashMap;
use std::sync::Arc;

use super::series::Series;

const HOURS: usize = 24;
const HOUR: u64 = 3600;

#[derive(Clone, Debug)]
struct Row {
    counts: Series<u32>,
    last: u64,
}

/// The table.
#[derive(Debug)]
pub struct Hours {
    most: usize,
    users: HashMap<Arc<str>, Row>,
}

impl Hours {
    /// Of at most so many users.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            users: HashMap::new(),
        }
    }

    /// Counts generations of a user at `now`.
    pub fn note(&mut self, user: &Arc<str>, pictures: u32, now: u64) {
        if self.users.len() >= self.most && !self.users.contains_key(user) {
            let quiet = self.users.iter().min_by_key(|(_, row)| row.last);
            if let Some(quiet) = quiet.map(|(user, _)| Arc::clone(user)) {
                self.users.remove(&quiet);
            }
        }
        let row = self.users.entry(Arc::clone(user)).or_insert_with(|| Row {
            counts: Series::new(HOURS, HOUR),
            last: now,
        });
        row.last = now;
        if let Some(count) = row.counts.at(now) {
            *count = count.saturating_add(pictures);
        }
    }

    /// The busiest users of the last 24 hours with their counts, the oldest hour first.
    pub fn top(&mut self, now: u64, most: usize) -> Vec<(Arc<str>, Vec<u32>)> {
        let mut all: Vec<_> = self
            .users
            .iter_mut()
            .map(|(user, row)| (Arc::clone(user), row.counts.read(now)))
            .collect();
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        all.retain(|(_, counts)| sum(counts) > 0);
        all.sort_by_key(|(_, counts)| std::cmp::Reverse(sum(counts)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_only_so_many_are_known() {
        let mut hours = Hours::new(3);
        let user = |name: &str| Arc::<str>::from(name);
        hours.note(&user("gone"), 9, 0);
        hours.note(&user("a"), 1, 10 * HOUR);
        hours.note(&user("b"), 2, 11 * HOUR);
        hours.note(&user("b"), 2, 12 * HOUR);
        hours.note(&user("c"), 1, 12 * HOUR);
        assert_eq!(hours.users.len(), 3);
        let top = hours.top(12 * HOUR, 2);
        assert_eq!(&*top[0].0, "b");
        assert_eq!(top[0].1[22..], [2, 2]);
        assert_eq!(hours.top(40 * HOUR, 9).len(), 0);
    }
}
