//! The stages before and after the denoiser: rows laid out, pictures decoded, previews drawn.
//!
//! Where the work says that they may overlap, each has a thread of its own with a desk for its
//! orders; else an order is carried out on the spot. Either way its report is fetched by the
//! engine's thread, which waits for none of them. A report is put down first, then measured, then
//! the engine's thread is woken. Orders of jobs that are over come back unworked, so that what is
//! away is bounded by what [`Stages::has_room`] lets begin.

use super::Observation;
use super::handle::Life;
use super::queue::Shared;
use super::work::Work;
use crate::infer::{ImageSpec, InferError, Pixels};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

/// What a stage is to do.
pub enum Wanted<W: Work> {
    /// The rows of a request.
    Rows(ImageSpec),
    /// What can be done of them before its turn.
    Ahead(ImageSpec),
    /// The picture of a row, and its place in the job.
    Picture(usize, W::Row),
    /// A preview.
    Preview(W::Draft),
}

/// An order for one job.
pub struct Order<W: Work> {
    /// The job's number.
    pub job: u64,
    /// Whether somebody still wants it.
    pub life: Arc<Life>,
    /// Denoiser rows that the job gave up with it.
    pub slots: usize,
    pub wanted: Wanted<W>,
}

/// What became of an order.
pub enum Made<W: Work> {
    Rows(Result<Vec<W::Row>, InferError>),
    Picture(usize, Result<Pixels, InferError>),
    Preview(Option<Pixels>),
}

/// What comes back, one for each order but those ahead.
pub struct Report<W: Work> {
    pub job: u64,
    pub slots: usize,
    /// How long the stage worked on it.
    pub took: Duration,
    pub made: Made<W>,
}

/// Where orders wait for a stage's thread.
pub struct Desk<W: Work>(Mutex<Waiting<W>>, Condvar);

struct Waiting<W: Work> {
    orders: VecDeque<Order<W>>,
    /// Previews, and what is ahead of its turn: only when nothing else is to be done.
    later: VecDeque<Order<W>>,
    closed: bool,
}

impl<W: Work> Default for Desk<W> {
    fn default() -> Self {
        let waiting = Waiting {
            orders: VecDeque::new(),
            later: VecDeque::new(),
            closed: false,
        };
        Self(Mutex::new(waiting), Condvar::new())
    }
}

impl<W: Work> Desk<W> {
    /// The lock is never held across foreign code.
    fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, order: Order<W>) {
        let mut waiting = self.lock();
        match order.wanted {
            Wanted::Preview(_) | Wanted::Ahead(_) => waiting.later.push_back(order),
            _ => waiting.orders.push_back(order),
        }
        drop(waiting);
        self.1.notify_one();
    }

    /// Waits for the next order; `None` once the desk is closed.
    fn take(&self) -> Option<Order<W>> {
        let idle = |waiting: &mut Waiting<W>| {
            !waiting.closed && waiting.orders.is_empty() && waiting.later.is_empty()
        };
        let waiting = self.1.wait_while(self.lock(), idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        match waiting.closed {
            true => None,
            false => {
                let first = waiting.orders.pop_front();
                first.or_else(|| waiting.later.pop_front())
            }
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.1.notify_all();
    }
}

/// The desks of both stages.
pub struct Desks<W: Work> {
    before: Desk<W>,
    after: Desk<W>,
}

impl<W: Work> Default for Desks<W> {
    fn default() -> Self {
        Self {
            before: Desk::default(),
            after: Desk::default(),
        }
    }
}

/// The engine thread's end of the stages. Dropping it ends their threads.
pub struct Stages<'a, W: Work> {
    work: &'a W,
    shared: &'a Shared,
    desks: &'a Desks<W>,
    has_threads: bool,
    send: Sender<Report<W>>,
    reports: Receiver<Report<W>>,
    /// Orders for rows that have not come back.
    before: usize,
    /// Denoiser rows that have not come back as pictures.
    after: usize,
}

impl<'a, W: Work> Stages<'a, W> {
    /// Starts the threads if the stages may overlap. Where the system gives none the stages take
    /// turns with the steps.
    pub fn start<'scope>(
        work: &'a W,
        shared: &'a Shared,
        desks: &'a Desks<W>,
        scope: &'scope Scope<'scope, 'a>,
    ) -> Self {
        let (send, reports) = channel();
        let stages = [
            ("engine-text", &desks.before),
            ("engine-decode", &desks.after),
        ];
        let mut has_threads = work.overlaps();
        for (name, desk) in stages.into_iter().filter(|_| work.overlaps()) {
            let send = send.clone();
            let thread = move || {
                while let Some(order) = desk.take() {
                    carry_out(work, shared, order, &send);
                    shared.wake();
                }
            };
            let started = Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, thread);
            if let Err(error) = started {
                tracing::warn!(%error, "no thread for a stage of the engine: its stages take turns");
                has_threads = false;
            }
        }
        Self {
            work,
            shared,
            desks,
            has_threads,
            send,
            reports,
            before: 0,
            after: 0,
        }
    }

    /// Whether another job may begin: no more wait for the text encoder, and for the decoder,
    /// than a call has rows. With it the rows under way are bounded by twice a call's.
    pub fn has_room(&self, a_call: usize) -> bool {
        self.before < a_call && self.after <= a_call
    }

    /// Whether orders are carried out beside the steps.
    pub fn overlap(&self) -> bool {
        self.has_threads
    }

    /// Gives an order; its report comes later, or is there at once.
    pub fn give(&mut self, order: Order<W>) {
        let ready = matches!(&order.wanted, Wanted::Rows(spec) if self.work.is_ready(spec));
        let desk = match &order.wanted {
            Wanted::Rows(_) => {
                self.before += 1;
                &self.desks.before
            }
            Wanted::Picture(..) => {
                self.after += order.slots;
                &self.desks.after
            }
            Wanted::Preview(_) => &self.desks.after,
            Wanted::Ahead(_) => &self.desks.before,
        };
        // What is ready shall be in the very next call.
        match self.has_threads && !ready {
            true => desk.put(order),
            false => carry_out(self.work, self.shared, order, &self.send),
        }
    }

    /// The next report, if one is there.
    pub fn fetch(&mut self) -> Option<Report<W>> {
        let report = self.reports.try_recv().ok()?;
        match &report.made {
            Made::Rows(_) => self.before -= 1,
            Made::Picture(..) => self.after -= report.slots,
            Made::Preview(_) => {}
        }
        Some(report)
    }
}

impl<W: Work> Drop for Stages<'_, W> {
    fn drop(&mut self) {
        self.desks.before.close();
        self.desks.after.close();
    }
}

fn carry_out<W: Work>(work: &W, shared: &Shared, order: Order<W>, send: &Sender<Report<W>>) {
    let over = order.life.is_over();
    let start = shared.now();
    let (stage, made) = match order.wanted {
        Wanted::Ahead(spec) => {
            if !over && guarded(|| work.prepare(&spec)).is_ok() {
                let took = shared.now() - start;
                shared.observe(Observation::Stage {
                    stage: "text",
                    took,
                });
            }
            return;
        }
        Wanted::Rows(spec) => {
            let rows = unless(over, || work.rows(&spec));
            (Some("text"), Made::Rows(rows))
        }
        Wanted::Picture(place, row) => {
            let picture = unless(over, || work.decode(&row));
            (Some("decode"), Made::Picture(place, picture))
        }
        Wanted::Preview(draft) => {
            // A preview that fails is a preview less, nothing else.
            let preview = unless(over, || Ok(work.draw(&draft)));
            (None, Made::Preview(preview.ok().flatten()))
        }
    };
    let took = shared.now() - start;
    let report = Report {
        job: order.job,
        slots: order.slots,
        took,
        made,
    };
    // The engine's thread fetches to the end.
    drop(send.send(report));
    if let Some(stage) = stage.filter(|_| !over) {
        shared.observe(Observation::Stage { stage, took });
    }
}

fn unless<T>(over: bool, work: impl FnOnce() -> Result<T, InferError>) -> Result<T, InferError> {
    match over {
        true => Err(InferError::Cancelled),
        false => guarded(work).unwrap_or(Err(InferError::Panicked)),
    }
}

/// Runs `work`; a panic is caught and told apart from an error.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| ())
}
