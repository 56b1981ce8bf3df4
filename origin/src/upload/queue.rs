//! Whose file is worked on next: memory and turns, shared fairly.
//!
//! There are two lanes with as many turns each. Small files have one of their own and some memory that large ones leave
//! alone, so they wait for each other only. Within a lane the next is the user who has had the least work done, in units
//! ([`super::Admitted::units`]), counted from when the user came; a user's own files keep their order. Who comes while
//! another floods is therefore next, and waits for one file under way at most. Nobody overtakes whoever is next but does
//! not fit yet: large files would never get their memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Memory of a small file at most, in MiB.
const SMALL_MIB: u64 = 48;
/// Work of a small file at most, in units.
const SMALL_UNITS: u32 = 4;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Memory in MiB.
    pub memory: u64,
    /// What of it large files may take together, in MiB.
    pub large: u64,
    /// Turns of each lane.
    pub turns: usize,
    /// Bytes of files that may wait; of one user a quarter.
    pub waiting: u64,
}

/// What one file wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Whose it is.
    pub user: &'a str,
    /// Memory in MiB, at most all there is.
    pub memory: u64,
    /// Work in units.
    pub units: u32,
    /// Bytes that wait with it.
    pub bytes: u64,
}

impl Wish<'_> {
    /// Whether it goes with the small ones.
    pub fn is_small(&self) -> bool {
        self.memory <= SMALL_MIB && self.units <= SMALL_UNITS
    }
}

/// More waits already than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The lanes. Cheap to clone: the clones share them.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    room: Room,
    small: Lane,
    large: Lane,
    users: HashMap<Box<str>, User>,
    /// Work that whoever was let in last had had by then: newcomers begin here.
    had: u64,
    waiting: u64,
    next: u64,
}

#[derive(Debug, Default)]
struct Lane {
    running: usize,
    /// Memory of those running, in MiB.
    taken: u64,
    /// In the order they came.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    user: Box<str>,
    memory: u64,
    units: u32,
    bytes: u64,
    call: oneshot::Sender<()>,
}

#[derive(Debug)]
struct User {
    had: u64,
    /// Files waiting or worked on.
    files: usize,
    waiting: u64,
}

/// A place among those who wait, and once they are called, memory and a turn. Dropping it gives all of it back.
#[derive(Debug)]
pub struct Turn {
    queue: Queue,
    place: u64,
    user: Box<str>,
    is_small: bool,
    memory: u64,
}

impl Queue {
    pub fn new(room: Room) -> Self {
        Self(Arc::new(Mutex::new(State {
            room,
            small: Lane::default(),
            large: Lane::default(),
            users: HashMap::new(),
            had: 0,
            waiting: 0,
            next: 0,
        })))
    }

    /// Resolves when the file may be worked on. Dropped before, it has never been there.
    ///
    /// # Errors
    /// [`Full`], at once.
    pub async fn enter(&self, wish: Wish<'_>) -> Result<Turn, Full> {
        let (turn, called) = self.stand(wish)?;
        // The sender is dropped only with its place, which `turn` holds.
        let _ = called.await;
        Ok(turn)
    }

    fn stand(&self, wish: Wish<'_>) -> Result<(Turn, oneshot::Receiver<()>), Full> {
        let (call, called) = oneshot::channel();
        let mut state = self.state();
        let place = state.next;
        state.next += 1;
        let had = state.had;
        let user = state.users.entry(wish.user.into()).or_insert(User {
            had,
            files: 0,
            waiting: 0,
        });
        user.files += 1;
        user.waiting += wish.bytes;
        let own = user.waiting;
        state.waiting += wish.bytes;
        state.lane(wish.is_small()).waiting.push(Waiting {
            place,
            user: wish.user.into(),
            memory: wish.memory,
            units: wish.units,
            bytes: wish.bytes,
            call,
        });
        state.call();
        let is_called = !state.waits(wish.is_small(), place);
        let is_full = state.waiting > state.room.waiting || own > state.room.waiting / 4;
        drop(state);
        let turn = Turn {
            queue: self.clone(),
            place,
            user: wish.user.into(),
            is_small: wish.is_small(),
            memory: wish.memory,
        };
        if is_full && !is_called {
            return Err(Full);
        }
        Ok((turn, called))
    }

    /// A panic while locked leaves numbers that are still numbers.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, is_small: bool) -> &mut Lane {
        if is_small {
            &mut self.small
        } else {
            &mut self.large
        }
    }

    fn waits(&mut self, is_small: bool, place: u64) -> bool {
        let mut waiting = self.lane(is_small).waiting.iter();
        waiting.any(|one| one.place == place)
    }

    /// Lets in whoever is next and fits, until nobody is.
    fn call(&mut self) {
        while self.call_one(true) || self.call_one(false) {}
    }

    fn call_one(&mut self, is_small: bool) -> bool {
        let Some(at) = self.next_of(is_small) else {
            return false;
        };
        let one = self.lane(is_small).waiting.remove(at);
        self.leave_waiting(&one);
        if let Some(user) = self.users.get_mut(&one.user) {
            self.had = self.had.max(user.had);
            user.had += u64::from(one.units);
        }
        let lane = self.lane(is_small);
        lane.running += 1;
        lane.taken += one.memory;
        // Who left meanwhile drops its turn.
        let _ = one.call.send(());
        true
    }

    /// Where the one who is next stands, if it fits now.
    fn next_of(&self, is_small: bool) -> Option<usize> {
        let lane = if is_small { &self.small } else { &self.large };
        if lane.running >= self.room.turns {
            return None;
        }
        let had = |one: &Waiting| self.users.get(&one.user).map_or(0, |user| user.had);
        let (at, one) = lane
            .waiting
            .iter()
            .enumerate()
            .min_by_key(|(_, one)| (had(one), one.place))?;
        let free = self
            .room
            .memory
            .saturating_sub(self.small.taken + self.large.taken);
        let fits = if is_small {
            // One who needs nearly everything would wait for ever if small ones kept coming.
            !self.wants_all()
        } else {
            lane.running == 0 || lane.taken + one.memory <= self.room.large
        };
        (fits && one.memory <= free).then_some(at)
    }

    /// Whether somebody waits alone for more than large files may take together.
    fn wants_all(&self) -> bool {
        let over = |one: &Waiting| one.memory > self.room.large;
        self.large.running == 0 && self.large.waiting.iter().any(over)
    }

    fn leave_waiting(&mut self, one: &Waiting) {
        self.waiting = self.waiting.saturating_sub(one.bytes);
        if let Some(user) = self.users.get_mut(&one.user) {
            user.waiting = user.waiting.saturating_sub(one.bytes);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        let lane = state.lane(self.is_small);
        match lane.waiting.iter().position(|one| one.place == self.place) {
            Some(at) => {
                let one = lane.waiting.remove(at);
                state.leave_waiting(&one);
            }
            None => {
                lane.running = lane.running.saturating_sub(1);
                lane.taken = lane.taken.saturating_sub(self.memory);
            }
        }
        if let Some(user) = state.users.get_mut(&self.user) {
            user.files = user.files.saturating_sub(1);
            if user.files == 0 {
                state.users.remove(&self.user);
            }
        }
        state.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: Room = Room {
        memory: 1_000,
        large: 900,
        turns: 1,
        waiting: 1_000,
    };

    fn wish(user: &str, memory: u64, units: u32) -> Wish<'_> {
        Wish {
            user,
            memory,
            units,
            bytes: 1,
        }
    }

    /// Those who stand in line, and who of them is called.
    struct Line(Queue, Vec<(String, Option<Turn>, oneshot::Receiver<()>)>);

    impl Line {
        fn new(room: Room) -> Self {
            Self(Queue::new(room), Vec::new())
        }

        fn stand(&mut self, wish: Wish<'_>) {
            let (turn, called) = self.0.stand(wish).unwrap();
            self.1.push((wish.user.into(), Some(turn), called));
        }

        /// Those who were called and not yet told, in the order they came.
        fn called(&mut self) -> Vec<String> {
            let told = self.1.iter_mut();
            told.filter_map(|(user, _, called)| called.try_recv().is_ok().then(|| user.clone()))
                .collect()
        }

        /// The first file of a user that is still here ends, or leaves.
        fn end(&mut self, user: &str) {
            let mut all = self.1.iter_mut();
            let one = all.find(|(name, turn, _)| name == user && turn.is_some());
            one.unwrap().1 = None;
        }
    }

    #[test]
    fn who_comes_while_another_floods_is_next() {
        let mut line = Line::new(ROOM);
        for _ in 0..10 {
            line.stand(wish("flood", 100, 64));
        }
        line.stand(wish("honest", 100, 64));
        line.stand(wish("honest", 100, 64));
        assert_eq!(line.called(), ["flood"]);
        line.end("flood");
        assert_eq!(line.called(), ["honest"]);
        // Both have had the same since then: whose file came first.
        line.end("honest");
        assert_eq!(line.called(), ["flood"]);
        line.end("flood");
        assert_eq!(line.called(), ["honest"]);
    }

    #[test]
    fn a_user_with_cheap_files_gets_more_of_them_done() {
        let mut line = Line::new(ROOM);
        for _ in 0..40 {
            line.stand(wish("dear", 100, 30));
            line.stand(wish("cheap", 100, 10));
        }
        let mut done = (0, 0);
        for _ in 0..40 {
            for user in line.called() {
                if user == "dear" {
                    done.0 += 1
                } else {
                    done.1 += 1
                }
                line.end(&user);
            }
        }
        assert!(done.1 >= 2 * done.0 && done.0 > 0, "{done:?}");
    }

    #[test]
    fn a_small_file_does_not_wait_for_large_ones() {
        let mut line = Line::new(ROOM);
        for _ in 0..3 {
            line.stand(wish("flood", 450, 64));
        }
        assert_eq!(line.called(), ["flood"]);
        line.stand(wish("honest", SMALL_MIB, SMALL_UNITS));
        assert_eq!(line.called(), ["honest"]);
        // Not even for memory: large ones leave some.
        let mut line = Line::new(Room { turns: 2, ..ROOM });
        line.stand(wish("flood", 450, 64));
        line.stand(wish("flood", 450, 64));
        line.stand(wish("honest", SMALL_MIB, SMALL_UNITS));
        assert_eq!(line.called().len(), 3);
        // But among each other they do.
        for _ in 0..3 {
            line.stand(wish("other", SMALL_MIB, 1));
        }
        assert_eq!(line.called().len(), 1);
    }

    #[test]
    fn a_file_that_needs_everything_gets_it_although_small_ones_keep_coming() {
        let mut line = Line::new(ROOM);
        line.stand(wish("small", 40, 1));
        line.stand(wish("giant", 1_000, 64));
        line.stand(wish("small", 40, 1));
        assert_eq!(line.called(), ["small"]);
        line.end("small");
        assert_eq!(line.called(), ["giant"]);
        line.end("giant");
        assert_eq!(line.called(), ["small"]);
    }

    #[test]
    fn nobody_overtakes_who_is_next_and_does_not_fit() {
        let mut line = Line::new(Room { turns: 9, ..ROOM });
        line.stand(wish("a", 500, 64));
        line.stand(wish("b", 500, 64));
        line.stand(wish("c", 300, 64));
        assert_eq!(line.called(), ["a"]);
        line.end("a");
        assert_eq!(line.called(), ["b", "c"]);
    }

    #[test]
    fn who_leaves_while_waiting_pays_nothing_and_holds_nothing() {
        let mut line = Line::new(ROOM);
        line.stand(wish("a", 900, 64));
        line.stand(wish("b", 900, 64));
        line.stand(wish("c", 900, 64));
        line.end("b");
        assert_eq!(line.called(), ["a"]);
        line.end("a");
        assert_eq!(line.called(), ["c"]);
        line.end("c");
        let state = line.0.state();
        assert!(state.users.is_empty());
        assert_eq!(
            (state.waiting, state.large.taken, state.large.running),
            (0, 0, 0)
        );
    }

    #[test]
    fn what_waits_is_bounded_and_a_user_has_a_quarter_of_it() {
        let line = Queue::new(ROOM);
        let heavy = |user, bytes| Wish {
            bytes,
            ..wish(user, 900, 64)
        };
        let _working = line.stand(heavy("a", 5_000)).unwrap();
        let mut waiting = Vec::new();
        assert!(line.stand(heavy("b", 251)).is_err());
        for user in ["b", "c", "d", "e"] {
            waiting.push(line.stand(heavy(user, 250)).unwrap());
        }
        assert!(line.stand(heavy("f", 1)).is_err());
        waiting.pop();
        assert!(line.stand(heavy("f", 1)).is_ok());
    }

    proptest! {
        /// Whatever comes, leaves and ends: no bound is passed, nobody is forgotten, and all of it comes back.
        #[test]
        fn the_room_holds_and_everybody_is_called(
            steps in prop::collection::vec((0u8..3, 0usize..4, 1u64..1_000, 1u32..70), 1..80),
        ) {
            let mut line = Line::new(Room { turns: 2, waiting: u64::MAX, ..ROOM });
            for (what, who, memory, units) in steps {
                let user = ["a", "b", "c", "d"][who];
                let here = line.1.iter().any(|(name, turn, _)| name == user && turn.is_some());
                if what > 0 || !here {
                    line.stand(wish(user, memory, units));
                } else {
                    line.end(user);
                }
                let state = line.0.state();
                let (small, large) = (&state.small, &state.large);
                prop_assert!(small.running <= 2 && large.running <= 2);
                prop_assert!(small.taken + large.taken <= 1_000);
                prop_assert!(large.running < 2 || large.taken <= 900);
            }
            while let Some(at) = line.1.iter_mut().position(|(_, turn, called)| {
                turn.is_some() && called.try_recv().is_ok()
            }) {
                line.1[at].1 = None;
            }
            // Those who were told before hold their turns still.
            line.1.clear();
            let state = line.0.state();
            prop_assert!(state.users.is_empty() && state.small.waiting.is_empty() && state.large.waiting.is_empty());
            prop_assert_eq!(state.small.taken + state.large.taken, 0);
        }
    }
}
