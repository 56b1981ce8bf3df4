//! The engine's thread: joins new rows, takes a step, hands finished rows on, and again.
//!
//! A job's way: it begins (`begin`), its rows are laid out by the stage before the steps, come
//! back (`take_in`), step (`step`), go to the stage after them one by one (`hand_on`), come back
//! as pictures, and the job is over. Prompts of those that wait are encoded meanwhile (`look_ahead`),
//! so that a place in the call is never empty for a prompt. What is away with a stage is waited for only when no row is
//! here to step; a job that ends meanwhile ends at once, and what comes back for it is dropped.

use super::Observation;
use super::error::JobError;
use super::handle::Progress;
use super::queue::Shared;
use super::running::{Picture, Running};
use super::stages::{Desks, Made, Order, Report, Stages, Wanted, guarded};
use super::state::Pending;
use super::step::{Busy, step};
use super::work::Work;
use std::sync::Arc;
use std::time::Duration;

/// How long an idle thread sleeps at most before it looks again by itself. It is woken by all that
/// happens and wakes for deadlines, so this is for defects; the tests do without it.
const IDLE: Duration = match cfg!(test) {
    true => Duration::from_secs(3600),
    false => Duration::from_millis(500),
};

/// Jobs whose prompts are encoded ahead of their turn at most: no more than a model keeps.
const MOST_AHEAD: usize = 16;

/// Runs until the queue is stopped and everything has ended.
pub fn run<W: Work>(work: &W, shared: &Shared) {
    rehearse(work, shared);
    let desks = Desks::default();
    std::thread::scope(|scope| {
        let worker = Worker {
            work,
            shared,
            stages: Stages::start(work, shared, &desks, scope),
            running: Vec::new(),
            busy: Busy::default(),
        };
        worker.run();
    });
}

/// Takes one small step before the first job, so that the rate is known from the start.
fn rehearse<W: Work>(work: &W, shared: &Shared) {
    let wanted = shared.lock().settings.warm_up;
    let Some(spec) = work.rehearsal().filter(|_| wanted) else {
        return;
    };
    let Ok(Ok(mut rows)) = guarded(|| work.rows(&spec)) else {
        return;
    };
    // The first call allocates and would count for too little.
    for counts in [false, true] {
        let mut refs: Vec<&mut W::Row> = rows.iter_mut().collect();
        let cost: u64 = refs.iter().map(|row| W::facts(row).step_cost()).sum();
        let start = shared.now();
        let stepped = guarded(|| work.step(&mut refs, usize::MAX));
        if counts && stepped.is_ok() {
            shared.lock().rate.observe(cost, shared.now() - start);
        }
    }
}

struct Worker<'a, W: Work> {
    work: &'a W,
    shared: &'a Shared,
    stages: Stages<'a, W>,
    /// Oldest first.
    running: Vec<Running<W>>,
    busy: Busy,
}

impl<W: Work> Worker<'_, W> {
    fn run(mut self) {
        loop {
            let mut moved = self.take_in();
            self.drop_dead();
            self.begin();
            self.look_ahead();
            moved |= self.take_in();
            moved |= step(self.work, self.shared, &mut self.running, &mut self.busy);
            self.end_failed();
            moved |= self.hand_on();
            if self.running.is_empty() {
                self.busy.end(self.shared);
            }
            if moved {
                continue;
            }
            let state = self.shared.lock();
            if state.stopping && self.running.is_empty() && state.queued() == 0 {
                return;
            }
            let queued = state.next_deadline();
            drop(state);
            let running = self.running.iter().filter_map(|job| job.ticket.deadline);
            let next = running.chain(queued).min();
            let until = next.map(|next| next.saturating_duration_since(self.shared.now()));
            self.shared.rest(until.unwrap_or(IDLE).min(IDLE));
        }
    }

    /// Lets go of jobs that are cancelled, late, or left over when the service stops.
    fn drop_dead(&mut self) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let dead = state.take_dead(now);
        let give_up = state.give_up.is_some_and(|at| at <= now);
        let mut gone = Vec::new();
        for i in (0..self.running.len()).rev() {
            let ticket = self.running.get(i).map(|job| &job.ticket);
            let over = ticket.and_then(|ticket| ticket.over(now));
            if let Some(error) = over.or(give_up.then_some(JobError::Stopped)) {
                let mut job = self.running.remove(i);
                job.leave(&mut state);
                // What is away for it need not be made.
                job.ticket.life.close();
                gone.push((job.ticket, error));
            }
        }
        if dead.is_empty() && gone.is_empty() {
            return;
        }
        state.tidy();
        state.publish_positions();
        drop(state);
        let dead = dead.into_iter().map(|(job, error)| (job.ticket, error));
        for (ticket, error) in dead.chain(gone) {
            ticket.finish(Err(error));
        }
    }

    /// Begins queued jobs while there is room for their rows.
    fn begin(&mut self) {
        loop {
            let mut state = self.shared.lock();
            let settings = state.settings.clone();
            if !self.stages.has_room(settings.max_batch) {
                return;
            }
            let slots = |spec: &crate::infer::ImageSpec| {
                let by_memory = self.work.most_slots(spec).max(1);
                settings.slots(spec.width * spec.height).min(by_memory)
            };
            let Some(job) = state.take_next(slots) else {
                return;
            };
            let Pending {
                spec, cost, ticket, ..
            } = job;
            let now = self.shared.now();
            // The request's own figures stand for the job until its rows are laid out.
            let estimate = (spec.n * spec.branches(), cost, spec.cost_milliunits());
            let job = Running::begin(&mut state, ticket, now, estimate);
            state.publish_positions();
            drop(state);
            self.busy.begin(now);
            let waited = now - job.ticket.admitted;
            self.shared.observe(Observation::Waited(waited));
            let order = Order {
                job: job.ticket.id,
                life: Arc::clone(&job.ticket.life),
                slots: 0,
                wanted: Wanted::Rows(spec),
            };
            self.running.push(job);
            self.stages.give(order);
        }
    }

    /// Has the prompts of those that begin next encoded while others step: as many jobs as a call
    /// has rows.
    fn look_ahead(&mut self) {
        if !self.stages.overlap() {
            return;
        }
        let mut state = self.shared.lock();
        let count = state.settings.max_batch.min(MOST_AHEAD);
        let next = state.take_ahead(count);
        drop(state);
        for (job, life, spec) in next {
            self.stages.give(Order {
                job,
                life,
                slots: 0,
                wanted: Wanted::Ahead(spec),
            });
        }
    }

    /// Takes in what the stages have made, and ends jobs that are complete by it; whether there
    /// was anything.
    fn take_in(&mut self) -> bool {
        let mut any = false;
        while let Some(report) = self.stages.fetch() {
            any = true;
            let mut jobs = self.running.iter_mut().enumerate();
            // A job that is over by now left what was away for it behind.
            let Some((i, job)) = jobs.find(|(_, job)| job.ticket.id == report.job) else {
                continue;
            };
            put_down(self.shared, job, report);
            if job.is_over() {
                self.finish(i);
            }
        }
        any
    }

    /// Ends jobs of which a row failed; their other rows are for nothing now.
    fn end_failed(&mut self) {
        for i in (0..self.running.len()).rev() {
            if self.running.get(i).is_some_and(Running::is_over) {
                self.finish(i);
            }
        }
    }

    fn finish(&mut self, i: usize) {
        let mut job = self.running.remove(i);
        let mut state = self.shared.lock();
        job.leave(&mut state);
        state.tidy();
        state.publish_positions();
        drop(state);
        job.finish(self.shared.now());
    }

    /// Sends rows that have taken all their steps to be decoded, then previews to be drawn, one a
    /// job at most; whether there was anything.
    fn hand_on(&mut self) -> bool {
        let mut orders = Vec::new();
        let mut previews = Vec::new();
        for job in &mut self.running {
            let order = |slots, wanted| Order {
                job: job.ticket.id,
                life: Arc::clone(&job.ticket.life),
                slots,
                wanted,
            };
            let mut left = false;
            for (place, picture) in job.pictures.iter_mut().flatten().enumerate() {
                let Some(facts) = picture.row().map(W::facts) else {
                    continue;
                };
                if facts.done < facts.calls {
                    continue;
                }
                if let Picture::Here(row) = std::mem::replace(picture, Picture::Away) {
                    orders.push(order(facts.slots, Wanted::Picture(place, row)));
                    left = true;
                }
            }
            let watched = job.is_watched() && !job.preview_away;
            let first = job.pictures.iter_mut().flatten().next();
            let row = first.and_then(Picture::row_mut).filter(|_| watched);
            let draft = row.and_then(|row| guarded(|| self.work.draft(row)).ok().flatten());
            if let Some(draft) = draft {
                previews.push(order(0, Wanted::Preview(draft)));
                job.preview_away = true;
            }
            if left {
                // A call has room for others now.
                job.settle(&mut self.shared.lock());
            }
        }
        let any = !orders.is_empty() || !previews.is_empty();
        for order in orders.into_iter().chain(previews) {
            self.stages.give(order);
        }
        any
    }
}

/// Puts what came back into its job.
fn put_down<W: Work>(shared: &Shared, job: &mut Running<W>, report: Report<W>) {
    match report.made {
        Made::Rows(Ok(rows)) => {
            let steps = rows.iter().map(|row| W::facts(row).calls).max();
            job.text = report.took;
            job.pictures = Some(rows.into_iter().map(Picture::Here).collect());
            job.settle(&mut shared.lock());
            job.ticket.progress.send_replace(Progress::Running {
                step: 0,
                steps: steps.unwrap_or(0),
            });
        }
        Made::Picture(place, Ok(pixels)) => {
            job.decode += report.took;
            let mut pictures = job.pictures.iter_mut().flatten();
            if let Some(picture) = pictures.nth(place) {
                *picture = Picture::Made(pixels);
            }
        }
        Made::Rows(Err(error)) | Made::Picture(_, Err(error)) => {
            job.failure.get_or_insert(error);
        }
        Made::Preview(preview) => {
            job.preview_away = false;
            if let Some(preview) = preview {
                job.ticket.previews.send_replace(Some(Arc::new(preview)));
            }
        }
    }
}
