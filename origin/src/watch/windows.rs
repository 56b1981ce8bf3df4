//! One value a key for one window of time: it begins with the key's first sight and ends a fixed while later, when the
//! value is handed back to be measured. All windows are equally long, so they end in the order in which they began.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The open windows.
#[derive(Debug)]
pub struct Windows<V> {
    most: usize,
    length: u64,
    order: VecDeque<(u64, Arc<str>)>,
    open: HashMap<Arc<str>, V>,
}

impl<V: Default> Windows<V> {
    /// At most so many windows of `length` seconds.
    pub fn new(most: usize, length: u64) -> Self {
        Self {
            most: most.max(1),
            length,
            order: VecDeque::new(),
            open: HashMap::new(),
        }
    }

    /// The value of this key; when there is no room for one more, the oldest window's ends early and comes back.
    pub fn at(&mut self, key: &Arc<str>, now: u64) -> (&mut V, Option<V>) {
        let mut early = None;
        if !self.open.contains_key(key) {
            if self.open.len() >= self.most {
                early = self.first();
            }
            self.order.push_back((now, Arc::clone(key)));
        }
        let value = self.open.entry(Arc::clone(key)).or_default();
        (value, early)
    }

    fn first(&mut self) -> Option<V> {
        let (_, key) = self.order.pop_front()?;
        self.open.remove(&key)
    }

    /// Closes the windows that have ended by `now`.
    pub fn end(&mut self, now: u64) -> Vec<V> {
        let mut ended = Vec::new();
        while self
            .order
            .front()
            .is_some_and(|(began, _)| began.saturating_add(self.length) <= now)
        {
            ended.extend(self.first());
        }
        ended
    }

    /// The windows that are open.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.open.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_once_and_the_next_begins_empty() {
        let mut windows = Windows::<u32>::new(10, 60);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        *windows.at(&a, 100).0 += 1;
        *windows.at(&b, 130).0 += 7;
        *windows.at(&a, 159).0 += 1;
        assert!(windows.end(159).is_empty());
        assert_eq!(windows.end(160), [2]);
        *windows.at(&a, 161).0 += 1;
        assert_eq!(windows.end(190), [7]);
        assert_eq!(windows.end(1_000), [1]);
        assert_eq!(windows.iter().count(), 0);
    }

    #[test]
    fn there_are_never_more_than_allowed() {
        let mut windows = Windows::<u32>::new(2, 60);
        let mut early = Vec::new();
        for n in 0..5u32 {
            let (value, ended) = windows.at(&format!("k{n}").into(), 1);
            *value = n;
            early.extend(ended);
        }
        assert_eq!(early, [0, 1, 2]);
        assert_eq!((windows.open.len(), windows.order.len()), (2, 2));
    }
}
