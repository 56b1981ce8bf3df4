//! Who is served next: deficit round robin over users, in cost (Shreedhar and Varghese, 1995).
//!
//! Pure: no clock, no locks. Every denoiser call is filled by going round the users; a user's
//! turn is worth one row of the largest picture under way times the user's weight, what a turn
//! leaves over is kept for the next, a turn that a call cuts short (it is full, or each of the
//! user's rows is in it) goes on in the next one, and a user without work keeps nothing.
//! Newcomers go first.

use std::collections::VecDeque;

/// A user on the ring.
#[derive(Debug)]
struct User {
    name: String,
    weight: u64,
    deficit: u64,
    /// Number of the last turn; 0 before the first.
    last_turn: u64,
    /// The last turn was cut short.
    is_open: bool,
}

impl User {
    fn precedence(&self) -> (u8, u64) {
        let class = if self.last_turn == 0 {
            0
        } else if self.is_open {
            1
        } else {
            2
        };
        (class, self.last_turn)
    }
}

/// A row that could run now.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<K> {
    /// What rows must have in common to share a call.
    pub key: K,
    /// Work of one step.
    pub cost: u64,
    /// Denoiser rows it takes.
    pub slots: usize,
    /// Most denoiser rows a call of this key may have.
    pub limit: usize,
}

/// The ring of users with work.
#[derive(Debug, Default)]
pub struct Ring {
    users: VecDeque<User>,
    turns: u64,
}

impl Ring {
    /// Puts a user on the ring, or renews the weight of one who is there.
    pub fn join(&mut self, name: &str, weight: u32) {
        let weight = u64::from(weight.max(1));
        match self.users.iter_mut().find(|user| user.name == name) {
            Some(user) => user.weight = weight,
            None => self.users.push_back(User {
                name: name.to_owned(),
                weight,
                deficit: 0,
                last_turn: 0,
                is_open: false,
            }),
        }
    }

    /// Takes off everyone for whom `has_work` is false.
    pub fn retain(&mut self, has_work: impl Fn(&str) -> bool) {
        self.users.retain(|user| has_work(&user.name));
    }

    /// Names with weights, in ring order.
    pub fn users(&self) -> impl Iterator<Item = (&str, u64)> {
        self.users
            .iter()
            .map(|user| (user.name.as_str(), user.weight))
    }

    /// The weight of a user; 1 for one who is not on the ring.
    pub fn weight(&self, name: &str) -> u64 {
        self.users
            .iter()
            .find(|user| user.name == name)
            .map_or(1, |user| user.weight)
    }

    /// Fills one call. `rows` are the rows that could run, each with its user, oldest first;
    /// the positions of the chosen ones come back.
    pub fn pick<K: Copy + Eq>(&mut self, rows: &[(&str, Candidate<K>)]) -> Vec<usize> {
        let has_rows = |user: &User| rows.iter().any(|(name, _)| *name == user.name);
        // Whoever waited longest goes first and settles what kind of call this is.
        self.users
            .make_contiguous()
            .sort_by_key(|user| (!has_rows(user), user.precedence()));
        let lead = self.users.front().and_then(|user| {
            rows.iter()
                .find(|(name, _)| *name == user.name)
                .map(|(_, row)| (row.key, row.limit))
        });
        let Some((key, limit)) = lead else {
            return Vec::new();
        };
        let quantum = rows.iter().map(|(_, row)| row.cost).max().unwrap_or(1);
        let mut chosen: Vec<usize> = Vec::new();
        let mut free = limit;
        loop {
            let before = chosen.len();
            for user in &mut self.users {
                let mut fitting = rows
                    .iter()
                    .enumerate()
                    .filter(|(_, (name, row))| *name == user.name && row.key == key)
                    .map(|(position, (_, row))| (position, row))
                    .filter(|(position, _)| !chosen.contains(position))
                    .collect::<VecDeque<_>>();
                if fitting
                    .front()
                    .is_none_or(|(_, row)| !fits(row, free, chosen.is_empty()))
                {
                    continue;
                }
                if !user.is_open {
                    self.turns += 1;
                    user.last_turn = self.turns;
                    user.deficit += quantum * user.weight;
                }
                user.is_open = false;
                while let Some((position, row)) = fitting.pop_front() {
                    if row.cost > user.deficit {
                        user.is_open = false;
                        break;
                    }
                    user.is_open = true;
                    if !fits(row, free, chosen.is_empty()) {
                        break;
                    }
                    user.deficit -= row.cost;
                    user.is_open = row.cost <= user.deficit;
                    free = free.saturating_sub(row.slots);
                    chosen.push(position);
                }
            }
            if chosen.len() == before || free == 0 {
                return chosen;
            }
        }
    }
}

/// A pair that is larger than the limit still runs, alone.
fn fits<K>(row: &Candidate<K>, free: usize, is_first: bool) -> bool {
    is_first || row.slots <= free
}

/// Work a user has ahead, in the queue and running.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Work to do.
    pub backlog: u64,
    /// The user's weight.
    pub weight: u64,
}

/// Work that will be done before a new job of `cost` ends, apart from the job's own: all that its
/// user has ahead of it, and of each other user no more than a fair share meanwhile.
pub fn work_ahead(own: Share, others: impl IntoIterator<Item = Share>, cost: u64) -> u64 {
    let mine = u128::from(own.backlog + cost);
    let others = others.into_iter().map(|other| {
        let share = mine * u128::from(other.weight) / u128::from(own.weight.max(1));
        other.backlog.min(u64::try_from(share).unwrap_or(u64::MAX))
    });
    own.backlog + others.sum::<u64>()
}

/// How much work must be done before [`work_ahead`] of a job of `cost` is `allowed` at most, when
/// nobody else comes and everybody is served by weight. `own` is the job's user before the job.
///
/// Exact for shares that flow; calls are grains of it.
pub fn work_until(own: Share, others: &[Share], cost: u64, allowed: u64) -> u64 {
    let total: u64 = own.backlog + others.iter().map(|other| other.backlog).sum::<u64>();
    let ahead_after = |work: u64| {
        let level = level_after(own, others, work);
        let left = |share: &Share| Share {
            backlog: share
                .backlog
                .saturating_sub((level * share.weight as f64) as u64),
            ..*share
        };
        work_ahead(left(&own), others.iter().map(left), cost)
    };
    let (mut low, mut high) = (0, total);
    while low < high {
        let middle = low + (high - low) / 2;
        if ahead_after(middle) <= allowed {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Work done a unit of weight once `work` is done in all, those who run out dropping off.
fn level_after(own: Share, others: &[Share], work: u64) -> f64 {
    let mut shares: Vec<&Share> = others.iter().chain([&own]).collect();
    let height = |share: &Share| share.backlog as f64 / share.weight.max(1) as f64;
    shares.sort_by(|a, b| height(a).total_cmp(&height(b)));
    let mut weights: f64 = shares.iter().map(|share| share.weight.max(1) as f64).sum();
    let (mut level, mut left) = (0.0, work as f64);
    for share in shares {
        let rise = (height(share) - level) * weights;
        if rise >= left {
            break;
        }
        left -= rise;
        level = height(share);
        weights -= share.weight.max(1) as f64;
    }
    level + if weights > 0.0 { left / weights } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(cost: u64, limit: usize) -> Candidate<u8> {
        Candidate {
            key: 0,
            cost,
            slots: 2,
            limit,
        }
    }

    fn ring(users: &[(&str, u32)]) -> Ring {
        let mut ring = Ring::default();
        users
            .iter()
            .for_each(|(name, weight)| ring.join(name, *weight));
        ring
    }

    #[test]
    fn one_row_of_a_newcomer_runs_in_the_very_next_call_beside_a_flood() {
        let mut ring = ring(&[("flood", 1)]);
        let mut rows = vec![("flood", row(10, 8)); 50];
        assert_eq!(ring.pick(&rows), [0, 1, 2, 3]);
        ring.join("one", 1);
        rows.push(("one", row(10, 8)));
        for _ in 0..10 {
            assert!(ring.pick(&rows).contains(&50));
        }
    }

    #[test]
    fn with_more_users_than_room_each_gets_every_turn_that_is_due() {
        let names: Vec<String> = (0..7).map(|i| format!("u{i}")).collect();
        let mut ring = Ring::default();
        names.iter().for_each(|name| ring.join(name, 1));
        let rows: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), row(5, 4)))
            .collect();
        let mut served = [0; 7];
        for _ in 0..70 {
            ring.pick(&rows).iter().for_each(|i| served[*i] += 1);
        }
        assert_eq!(served, [20; 7]);
    }

    #[test]
    fn a_user_of_twice_the_weight_gets_twice_the_work() {
        let mut ring = ring(&[("a", 1), ("b", 2)]);
        let rows: Vec<_> = (0..20)
            .map(|i| (if i % 2 == 0 { "a" } else { "b" }, row(5, 12)))
            .collect();
        let mut served = [0; 2];
        for _ in 0..90 {
            ring.pick(&rows).iter().for_each(|i| served[i % 2] += 1);
        }
        assert_eq!(served[1], 2 * served[0], "{served:?}");
    }

    #[test]
    fn kinds_of_calls_take_turns() {
        let mut ring = ring(&[("a", 1), ("b", 1)]);
        let other = Candidate {
            key: 1,
            ..row(5, 8)
        };
        let rows = [("a", row(5, 8)), ("b", other)];
        let picks: Vec<_> = (0..6).map(|_| ring.pick(&rows)).collect();
        assert_eq!(
            picks.iter().filter(|pick| **pick == [0]).count(),
            3,
            "{picks:?}"
        );
        assert_eq!(
            picks.iter().filter(|pick| **pick == [1]).count(),
            3,
            "{picks:?}"
        );
    }

    #[test]
    fn a_pair_larger_than_the_limit_runs_alone() {
        let mut ring = ring(&[("a", 1)]);
        assert_eq!(ring.pick(&[("a", row(5, 1)), ("a", row(5, 1))]), [0]);
    }

    #[test]
    fn a_newcomer_waits_for_no_more_than_its_own_measure_of_a_flood() {
        let flood = Share {
            backlog: 1000,
            weight: 1,
        };
        let none = Share {
            backlog: 0,
            weight: 1,
        };
        assert_eq!(work_ahead(none, [flood], 10), 10);
        assert_eq!(
            work_ahead(
                Share {
                    backlog: 1000,
                    weight: 1
                },
                [none],
                10
            ),
            1000
        );
        assert_eq!(
            work_ahead(
                Share {
                    backlog: 0,
                    weight: 2
                },
                [flood],
                10
            ),
            5
        );
    }

    #[test]
    fn the_wait_ends_when_enough_of_everybodys_work_is_done() {
        let share = |backlog| Share { backlog, weight: 1 };
        // Alone: all but what is allowed.
        assert_eq!(work_until(share(100), &[], 10, 30), 70);
        // Beside one other of as much work: half of what is done is its own.
        assert_eq!(work_until(share(100), &[share(100)], 0, 100), 100);
        // A newcomer waits for no more than its own measure of each; nothing falls until they
        // have less left than that: 2 x (100 - 10) + 1 of each.
        assert_eq!(work_until(share(0), &[share(100), share(100)], 10, 20), 0);
        assert!(work_until(share(0), &[share(100), share(100)], 10, 19) >= 180);
        // All done is always enough.
        assert!(work_until(share(50), &[share(70), share(0)], 10, 0) <= 120);
    }

    proptest! {
        #[test]
        fn more_work_done_never_makes_the_wait_longer(
            backlogs in proptest::collection::vec((0u64..10_000, 1u64..5), 1..6),
            cost in 1u64..1000, allowed in 0u64..10_000,
        ) {
            let shares: Vec<Share> = backlogs
                .iter()
                .map(|(backlog, weight)| Share { backlog: *backlog, weight: *weight })
                .collect();
            let (own, others) = (shares[0], &shares[1..]);
            let total: u64 = shares.iter().map(|share| share.backlog).sum();
            let work = work_until(own, others, cost, allowed);
            prop_assert!(work <= total);
            let is_now = work_ahead(own, others.iter().copied(), cost) <= allowed;
            prop_assert_eq!(work == 0, is_now || total == 0);
            prop_assert!(work_until(own, others, cost, allowed + 100) <= work);
        }

        /// Over any mix of costs, users that always have work differ by three turns' worth of
        /// work at most, however long they go on.
        #[test]
        fn shares_stay_even_whatever_rows_cost(
            costs in proptest::collection::vec(1u64..50, 3),
            limit in 1usize..12,
        ) {
            let names = ["a", "b", "c"];
            let mut ring = ring(&[("a", 1), ("b", 1), ("c", 1)]);
            let rows: Vec<_> = (0..60)
                .map(|i| (names[i % 3], Candidate { key: 0, cost: costs[i % 3], slots: 1, limit }))
                .collect();
            let mut work = [0u64; 3];
            for _ in 0..200 {
                let picked = ring.pick(&rows);
                prop_assert!(!picked.is_empty() && picked.len() <= limit);
                picked.iter().for_each(|i| work[i % 3] += costs[i % 3]);
            }
            let most = *work.iter().max().unwrap();
            let least = *work.iter().min().unwrap();
            let quantum = *costs.iter().max().unwrap();
            prop_assert!(most - least <= quantum * 3, "{work:?}");
        }
    }
}
