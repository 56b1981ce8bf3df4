//! An engine for tests that needs no model: rows count their steps, and the test lets each call
//! through one by one, so that no assertion depends on time.

use super::*;
use crate::infer::{ImageSpec, InferError, Pixels};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How long a test waits for what must come; nothing is asserted about how soon it does.
const SURELY: Duration = Duration::from_secs(120);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where slow work stands until the test opens it.
#[derive(Default)]
pub struct Latch {
    /// Whether it is open, and how many have come so far.
    state: Mutex<(bool, usize)>,
    moved: Condvar,
}

impl Latch {
    fn pass(&self) {
        let mut state = locked(&self.state);
        state.1 += 1;
        self.moved.notify_all();
        drop(self.moved.wait_while(state, |(open, _)| !*open));
    }

    /// Waits until so many have come.
    pub fn reached_by(&self, count: usize) {
        let few = |state: &mut (bool, usize)| state.1 < count;
        let wait = self
            .moved
            .wait_timeout_while(locked(&self.state), SURELY, few);
        assert!(!wait.unwrap().1.timed_out(), "nobody comes");
    }

    pub fn open(&self) {
        locked(&self.state).0 = true;
        self.moved.notify_all();
    }
}

/// What the test sees of the engine's inside.
#[derive(Default)]
pub struct Inside {
    /// Stops prompts that say `slow text`.
    pub texts: Latch,
    /// Stops pictures whose prompts say `slow picture`.
    pub pictures: Latch,
    /// Previews drawn.
    pub drawn: AtomicUsize,
    /// What the stage after the steps made, in order: prompts of pictures, and previews.
    pub made: Mutex<Vec<String>>,
    /// Prompts that were prepared ahead: those that say `ahead`.
    pub prepared: Mutex<Vec<String>>,
    /// Whether the engine lacks the model.
    pub has_no_model: AtomicBool,
    /// Whether its memory holds no picture.
    pub is_full: AtomicBool,
    /// Rows that exist, and the most that ever did.
    live: AtomicUsize,
    most: AtomicUsize,
}

impl Inside {
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Answers to each call, by prompt: `nan` fails its row at step 2, `panic` panics there.
pub struct Clockwork {
    overlaps: bool,
    inside: Arc<Inside>,
    begun: Mutex<Sender<String>>,
    arrived: Mutex<Sender<()>>,
    /// Nothing holds the calls up where there is none.
    gate: Option<Mutex<Receiver<()>>>,
    calls: Mutex<Sender<Vec<(String, usize)>>>,
}

pub struct Tick {
    prompt: String,
    seed: u64,
    area: usize,
    slots: usize,
    done: usize,
    calls: usize,
    preview: Option<usize>,
    inside: Arc<Inside>,
}

impl Drop for Tick {
    fn drop(&mut self) {
        self.inside.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The device's memory holds two rows of what is `heavy`, and nothing of what is for `never`.
fn most_slots(prompt: &str) -> usize {
    if prompt.contains("heavy") {
        2
    } else {
        usize::MAX
    }
}

fn dot(seed: u64) -> Pixels {
    Pixels {
        width: 1,
        height: 1,
        rgb: vec![0; 3],
        seed,
    }
}

impl Clockwork {
    /// Takes a moment where no gate does, so that what others do meets work of every kind.
    fn dawdle(&self) {
        if self.gate.is_none() {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl Work for Clockwork {
    type Row = Tick;
    type Key = usize;
    type Draft = u64;

    fn overlaps(&self) -> bool {
        self.overlaps
    }

    fn has_model(&self, _: &ImageSpec) -> bool {
        !self.inside.has_no_model.load(Ordering::SeqCst)
    }

    fn prepare(&self, spec: &ImageSpec) {
        if spec.prompt.contains("ahead") {
            self.inside.texts.pass();
            locked(&self.inside.prepared).push(spec.prompt.clone());
        }
    }

    fn is_ready(&self, spec: &ImageSpec) -> bool {
        locked(&self.inside.prepared).contains(&spec.prompt)
    }

    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Tick>, InferError> {
        match spec.prompt.as_str() {
            "unknown" => return Err(InferError::UnknownModel("x".into())),
            "bad text" => panic!("a defect in the text encoder"),
            _ => drop(locked(&self.begun).send(spec.prompt.clone())),
        }
        if spec.prompt.contains("slow text") {
            self.inside.texts.pass();
        }
        self.dawdle();
        let row = |i| {
            let live = self.inside.live.fetch_add(1, Ordering::SeqCst) + 1;
            self.inside.most.fetch_max(live, Ordering::SeqCst);
            Tick {
                prompt: spec.prompt.clone(),
                seed: spec.seed_of(i),
                area: spec.width * spec.height,
                slots: spec.branches(),
                done: 0,
                calls: spec.steps,
                preview: None,
                inside: Arc::clone(&self.inside),
            }
        };
        Ok((0..spec.n as u64).map(row).collect())
    }

    fn most_slots(&self, spec: &ImageSpec) -> usize {
        most_slots(&spec.prompt)
    }

    fn shortage(&self, spec: &ImageSpec) -> u64 {
        u64::from(spec.prompt == "never" || self.inside.is_full.load(Ordering::SeqCst))
    }

    fn step(&self, rows: &mut [&mut Tick], _: usize) -> Vec<Result<(), InferError>> {
        let _ = locked(&self.arrived).send(());
        self.dawdle();
        if let Some(gate) = &self.gate {
            locked(gate).recv().unwrap();
        }
        let names = rows.iter().map(|row| (row.prompt.clone(), row.done));
        drop(locked(&self.calls).send(names.collect()));
        let outcomes = rows.iter_mut().map(|row| {
            match row.prompt.as_str() {
                "nan" if row.done == 2 => return Err(InferError::NotFinite { stage: "unet" }),
                "panic" if row.done == 2 => panic!("a defect in the engine"),
                _ => {}
            }
            row.done += 1;
            Ok(())
        });
        outcomes.collect()
    }

    fn decode(&self, row: &Tick) -> Result<Pixels, InferError> {
        if row.prompt.contains("slow picture") {
            self.inside.pictures.pass();
        }
        self.dawdle();
        locked(&self.inside.made).push(row.prompt.clone());
        match row.prompt.as_str() {
            "bad picture" => panic!("a defect in the decoder"),
            _ => Ok(dot(row.seed)),
        }
    }

    fn want_preview(&self, row: &mut Tick) {
        row.preview = Some(row.done);
    }

    fn draft(&self, row: &mut Tick) -> Option<u64> {
        row.preview.take().map(|step| step as u64)
    }

    fn draw(&self, step: &u64) -> Option<Pixels> {
        self.inside.drawn.fetch_add(1, Ordering::SeqCst);
        locked(&self.inside.made).push(format!("preview {step}"));
        Some(dot(*step))
    }

    fn facts(row: &Tick) -> Facts<usize> {
        Facts {
            key: row.area,
            slots: row.slots,
            area: row.area,
            most_slots: most_slots(&row.prompt),
            done: row.done,
            calls: row.calls,
        }
    }

    fn rehearsal(&self) -> Option<ImageSpec> {
        None
    }
}

pub struct Bench {
    pub queue: Queue,
    work: Arc<Clockwork>,
    pub inside: Arc<Inside>,
    pub open: Sender<()>,
    pub calls: Receiver<Vec<(String, usize)>>,
    begun: Receiver<String>,
    arrived: Receiver<()>,
    /// Calls the engine has come to, and calls let through.
    seen: Cell<usize>,
    done: Cell<usize>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.inside.texts.open();
        self.inside.pictures.open();
    }
}

impl Bench {
    /// An engine whose stages take turns.
    pub fn new(settings: Settings) -> Self {
        Self::made(settings, false, true)
    }

    /// An engine whose stages overlap.
    pub fn overlapping(settings: Settings) -> Self {
        Self::made(settings, true, true)
    }

    /// An engine that nothing holds up.
    pub fn free(settings: Settings, overlaps: bool) -> Self {
        Self::made(settings, overlaps, false)
    }

    fn made(settings: Settings, overlaps: bool, gated: bool) -> Self {
        let (open, gate) = channel();
        let (sender, calls) = channel();
        let (begun_in, begun) = channel();
        let (arrived_in, arrived) = channel();
        let inside = Arc::new(Inside::default());
        let work = Clockwork {
            overlaps,
            inside: Arc::clone(&inside),
            begun: Mutex::new(begun_in),
            arrived: Mutex::new(arrived_in),
            gate: gated.then_some(Mutex::new(gate)),
            calls: Mutex::new(sender),
        };
        let work = Arc::new(work);
        let queue = Queue::start(Arc::clone(&work), settings, Box::new(|_| {})).unwrap();
        Self {
            queue,
            work,
            inside,
            open,
            calls,
            begun,
            arrived,
            seen: Cell::new(0),
            done: Cell::new(0),
        }
    }

    /// The engine behind the queue.
    pub fn work(&self) -> Arc<Clockwork> {
        Arc::clone(&self.work)
    }

    pub fn submit(&self, prompt: &str, user: &str, steps: usize) -> JobHandle {
        self.try_submit(prompt, user, steps).unwrap()
    }

    pub fn try_submit(
        &self,
        prompt: &str,
        user: &str,
        steps: usize,
    ) -> Result<JobHandle, QueueError> {
        self.queue.submit(
            JobSpec {
                image: spec(prompt, steps),
                deadline: None,
            },
            user,
            1,
        )
    }

    /// Lets one call through and says which rows were in it, with the steps they had taken.
    pub fn call(&self) -> Vec<(String, usize)> {
        self.open.send(()).unwrap();
        self.done.set(self.done.get() + 1);
        self.calls.recv_timeout(SURELY).expect("nothing steps")
    }

    /// Waits until the engine stands before the next call, with everything before it settled.
    pub fn arrive(&self) {
        while self.seen.get() <= self.done.get() {
            self.arrived.recv_timeout(SURELY).expect("nothing steps");
            self.seen.set(self.seen.get() + 1);
        }
    }

    /// Jobs that began since this was asked last, in order.
    pub fn begun(&self) -> Vec<String> {
        self.begun.try_iter().collect()
    }
}

pub fn spec(prompt: &str, steps: usize) -> ImageSpec {
    ImageSpec {
        model: String::new(),
        prompt: prompt.into(),
        negative_prompt: String::new(),
        width: 128,
        height: 128,
        steps,
        guidance_scale: 7.5,
        seed: 1,
        n: 1,
        init: None,
    }
}

pub fn small() -> Settings {
    Settings {
        max_batch: 4,
        ..Settings::default()
    }
}
