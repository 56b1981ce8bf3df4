//! How often one prompt comes again: by one user, and by several. Counted by the prompt's keyed hash over the last
//! 30 to 60 minutes, in bounded memory; what leaves here is two numbers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::repeats_shared;
use crate::state::server::Server;

/// Seconds of a window; two of them count.
pub(super) const WINDOW: u64 = 1800;
/// Pairs of prompt and user remembered in a window: under 1 MiB.
pub(super) const PAIRS: usize = 20_000;
/// From so many users on a prompt is everybody's.
pub(super) const MANY: usize = 3;

/// Repeats of the most repeated prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// Of one prompt by one user.
    pub by_one_user: u64,
    /// Of one prompt by three users or more, together.
    pub by_many_users: u64,
}

type Pairs = HashMap<(u64, u64), u64>;

#[derive(Debug, Default)]
struct Windows {
    number: u64,
    current: Pairs,
    last: Pairs,
}

/// Counts prompts.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Names prompts and users by 64 bits that nobody outside can aim at.
    names: RandomState,
    windows: Mutex<Windows>,
    /// Where all origins count together.
    server: OnceLock<Server>,
}

impl Windows {
    fn turn(&mut self, now: u64) {
        let number = now / WINDOW;
        if number == self.number {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.last = if number == self.number + 1 {
            current
        } else {
            Pairs::new()
        };
        self.number = number;
    }
}

impl Repeats {
    /// Counts with all origins of this server from now on.
    pub(crate) fn share(&self, server: Server) {
        let _ = self.server.set(server);
    }

    /// A generation of the prompt with this hash, for `user`, at `now` in seconds.
    pub fn note(&self, prompt_hash: &str, user: &str, now: u64) {
        if let Some(server) = self.server.get().cloned() {
            let (prompt_hash, user) = (prompt_hash.to_owned(), user.to_owned());
            // Nobody waits for it; while the server is away this origin counts alone.
            tokio::spawn(async move {
                repeats_shared::note(&server, &prompt_hash, &user, now)
                    .await
                    .ok()
            });
        }
        let pair = (self.names.hash_one(prompt_hash), self.names.hash_one(user));
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(now);
        let current = &mut windows.current;
        if current.len() >= PAIRS && !current.contains_key(&pair) {
            // What came once makes room: a flood of different prompts cannot hide the one that comes again.
            current.retain(|_, count| *count > 1);
            if current.len() >= PAIRS {
                return;
            }
        }
        *current.entry(pair).or_default() += 1;
    }

    /// The most repeated prompts at `now` in seconds, at all origins that count together.
    pub async fn most_anywhere(&self, now: u64) -> Most {
        let here = self.most(now);
        let Some(server) = self.server.get() else {
            return here;
        };
        let all = repeats_shared::most(server, now).await.unwrap_or_default();
        Most {
            by_one_user: here.by_one_user.max(all.by_one_user),
            by_many_users: here.by_many_users.max(all.by_many_users),
        }
    }

    /// The most repeated prompts at `now` in seconds, here.
    pub fn most(&self, now: u64) -> Most {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(now);
        let mut pairs = windows.current.clone();
        for (pair, count) in &windows.last {
            *pairs.entry(*pair).or_default() += count;
        }
        drop(windows);
        let mut prompts: HashMap<u64, (usize, u64)> = HashMap::new();
        for ((prompt, _), count) in &pairs {
            let of = prompts.entry(*prompt).or_default();
            of.0 += 1;
            of.1 += count;
        }
        Most {
            by_one_user: pairs.values().copied().max().unwrap_or(0),
            by_many_users: prompts
                .values()
                .filter(|(users, _)| *users >= MANY)
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_counted_by_one_user_and_by_many_until_the_hour_is_over() {
        let repeats = Repeats::default();
        for _ in 0..5 {
            repeats.note("a", "one", 100);
        }
        repeats.note("b", "two", 100);
        let one = Most {
            by_one_user: 5,
            by_many_users: 0,
        };
        assert_eq!(repeats.most(100), one);
        repeats.note("a", "two", WINDOW + 1);
        repeats.note("a", "three", WINDOW + 1);
        let both = Most {
            by_one_user: 5,
            by_many_users: 7,
        };
        assert_eq!(repeats.most(WINDOW + 1), both);
        let later = Most {
            by_one_user: 1,
            by_many_users: 0,
        };
        assert_eq!(repeats.most(2 * WINDOW), later);
        assert_eq!(repeats.most(9 * WINDOW), Most::default());
    }

    #[test]
    fn a_flood_of_different_prompts_neither_grows_memory_nor_hides_a_repeat() {
        let repeats = Repeats::default();
        for n in 0..3 * PAIRS {
            if n % 1000 == 0 {
                repeats.note("again", "one", 5);
            }
            repeats.note(&n.to_string(), "one", 5);
        }
        assert_eq!(repeats.most(5).by_one_user, 60);
        assert!(repeats.windows.lock().unwrap().current.len() <= PAIRS);
    }
}
