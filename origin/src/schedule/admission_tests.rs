//! Admission by a simulated clock: a machine whose steps take so long by their rows, and whether
//! `Retry-After` tells when a job is really taken.

use super::clockwork::spec;
use super::*;
use crate::infer::{ImageSpec, InferError, Pixels};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// A step takes so long, and so much longer for each row of 128 x 128 pixels; so does a picture.
const STEP_MILLIS: u64 = 100;
const ROW_MILLIS: u64 = 50;
const PICTURE_MILLIS: u64 = 100;

/// The machine's time: only steps move it where the stages run beside them.
#[derive(Default)]
struct Clock {
    /// When the decoder will have made each picture that it was given, in order.
    pictures: Vec<u64>,
    /// Pictures it has begun; pictures and prompts that the engine has been told of.
    begun: usize,
    decoded: usize,
    prompts: usize,
    /// Jobs that began.
    jobs: usize,
    /// Whether all jobs of the beginning are there: the first step has the rows of all.
    is_ready: bool,
    /// Nobody looks any more.
    is_over: bool,
}

#[derive(Default)]
struct Time {
    millis: AtomicU64,
    clock: Mutex<Clock>,
    moved: Condvar,
}

impl Time {
    fn now(&self) -> u64 {
        self.millis.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Clock)) {
        change(&mut self.clock.lock().unwrap());
        self.moved.notify_all();
    }

    fn wait_while(&self, condition: impl Fn(&Clock) -> bool) {
        let clock = self.clock.lock().unwrap();
        drop(
            self.moved
                .wait_while(clock, |clock| !clock.is_over && condition(clock)),
        );
    }

    fn observe(&self, what: Observation) {
        self.change(|clock| match what {
            Observation::Waited(_) => clock.jobs += 1,
            Observation::Stage { stage: "text", .. } => clock.prompts += 1,
            Observation::Stage {
                stage: "decode", ..
            } => clock.decoded += 1,
            _ => {}
        });
    }
}

struct Machine {
    overlaps: bool,
    time: Arc<Time>,
    arrived: Mutex<Sender<()>>,
    gate: Mutex<Receiver<()>>,
}

struct Tick {
    facts: Facts<usize>,
}

impl Work for Machine {
    type Row = Tick;
    type Key = usize;
    type Draft = ();

    fn overlaps(&self) -> bool {
        self.overlaps
    }

    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Tick>, InferError> {
        self.time.wait_while(|clock| !clock.is_ready);
        let area = spec.width * spec.height;
        let facts = Facts {
            key: area,
            slots: spec.branches(),
            area,
            most_slots: usize::MAX,
            done: 0,
            calls: spec.steps,
        };
        Ok((0..spec.n).map(|_| Tick { facts }).collect())
    }

    fn step(&self, rows: &mut [&mut Tick], _: usize) -> Vec<Result<(), InferError>> {
        let _ = self.arrived.lock().unwrap().send(());
        // The test is over when nobody opens the gate any more.
        let _ = self.gate.lock().unwrap().recv();
        let slots: usize = rows.iter().map(|row| row.facts.slots).sum();
        let took = STEP_MILLIS + ROW_MILLIS * slots as u64;
        self.time.millis.fetch_add(took, Ordering::SeqCst);
        rows.iter_mut().for_each(|row| row.facts.done += 1);
        if self.overlaps {
            // What the other threads have done by now, the engine finds before its next step.
            let now = self.time.now();
            self.time.change(|_| {});
            self.time.wait_while(|clock| {
                let due = clock.pictures.iter().filter(|end| **end <= now).count();
                clock.decoded < due || clock.prompts < clock.jobs
            });
            let ready = rows.iter().filter(|row| row.facts.done == row.facts.calls);
            self.time.change(|clock| {
                for _ in ready {
                    let free = clock.pictures.last().copied().unwrap_or(0);
                    clock.pictures.push(free.max(now) + PICTURE_MILLIS);
                }
            });
        }
        rows.iter().map(|_| Ok(())).collect()
    }

    fn decode(&self, _: &Tick) -> Result<Pixels, InferError> {
        // The picture's end takes its time too.
        match self.overlaps {
            false => {
                self.time.millis.fetch_add(PICTURE_MILLIS, Ordering::SeqCst);
            }
            true => {
                let mut mine = 0;
                self.time.change(|clock| {
                    mine = clock.begun;
                    clock.begun += 1;
                });
                self.time.wait_while(|clock| {
                    clock
                        .pictures
                        .get(mine)
                        .is_none_or(|end| *end > self.time.now())
                });
            }
        }
        Ok(Pixels {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
            seed: 0,
        })
    }

    fn want_preview(&self, _: &mut Tick) {}

    fn draft(&self, _: &mut Tick) -> Option<()> {
        None
    }

    fn draw(&self, (): &()) -> Option<Pixels> {
        None
    }

    fn facts(row: &Tick) -> Facts<usize> {
        row.facts
    }

    fn rehearsal(&self) -> Option<ImageSpec> {
        None
    }
}

struct Simulation {
    queue: Queue,
    time: Arc<Time>,
    arrived: Receiver<()>,
    open: Sender<()>,
    held: Vec<JobHandle>,
    start: Instant,
    /// Seconds in which the jobs that are asked for must be done.
    deadline: Option<u64>,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.time.change(|clock| clock.is_over = true);
    }
}

impl Simulation {
    /// A busy machine with these jobs, `(user, pictures, steps)`, after so many steps.
    fn new(overlaps: bool, jobs: &[(&str, usize, usize)], steps: usize) -> Self {
        let time = Arc::new(Time::default());
        let (arrived_in, arrived) = channel();
        let (open, gate) = channel();
        let machine = Machine {
            overlaps,
            time: Arc::clone(&time),
            arrived: Mutex::new(arrived_in),
            gate: Mutex::new(gate),
        };
        let settings = Settings {
            depth: 64,
            max_batch: 8,
            longest_wait_seconds: 86_400,
            ..Settings::default()
        };
        let (start, clock, seen) = (Instant::now(), Arc::clone(&time), Arc::clone(&time));
        let now = move || start + Duration::from_millis(clock.now());
        let observer = Box::new(move |what| seen.observe(what));
        let queue = Queue::start_by(Arc::new(machine), settings, observer, Box::new(now)).unwrap();
        let mut simulation = Self {
            queue,
            time,
            arrived,
            open,
            held: Vec::new(),
            start,
            deadline: None,
        };
        for (user, n, steps) in jobs {
            let job = simulation.ask(user, *n, *steps).unwrap();
            simulation.held.push(job);
        }
        simulation.time.change(|clock| clock.is_ready = true);
        simulation.wait();
        // Rows that come one by one from another thread are all there, and measured, by then.
        let joining = if overlaps { 4 } else { 0 };
        (0..joining + steps).for_each(|_| simulation.step());
        simulation
    }

    fn ask(&self, user: &str, n: usize, steps: usize) -> Result<JobHandle, QueueError> {
        let left = self.deadline.map(Duration::from_secs);
        let job = JobSpec {
            image: wish(n, steps),
            deadline: left.map(|left| self.start + Duration::from_millis(self.time.now()) + left),
        };
        self.queue.submit(job, user, 1)
    }

    /// Until the engine stands before its next step, with everything before it written down.
    fn wait(&self) {
        let arrived = self.arrived.recv_timeout(Duration::from_secs(60));
        arrived.expect("nothing is left to do");
    }

    fn step(&self) {
        self.open.send(()).unwrap();
        self.wait();
    }

    fn seconds(&self) -> f64 {
        self.time.now() as f64 / 1000.0
    }

    /// What `Retry-After` told, and how long it took until the same job was taken.
    fn told_and_true(&self, user: &str, n: usize, steps: usize, code: &str) -> (f64, f64) {
        let begun = self.seconds();
        let error = self.ask(user, n, steps).unwrap_err();
        assert_eq!(error.code(), code);
        let told = error.retry_after_seconds() as f64;
        while self.ask(user, n, steps).is_err() {
            self.step();
        }
        (told, self.seconds() - begun)
    }
}

fn wish(n: usize, steps: usize) -> ImageSpec {
    let mut image = spec("x", steps);
    image.n = n;
    image
}

#[test]
fn retry_after_is_within_a_quarter_of_the_truth_whoever_asks() {
    // The jobs of a machine, who asks for how many pictures, and after how many steps.
    type Case = (
        Vec<(&'static str, usize, usize)>,
        &'static str,
        usize,
        usize,
    );
    let cases: [Case; 6] = [
        // One user's own work.
        (vec![("a", 4, 100)], "a", 4, 8),
        (vec![("a", 4, 40), ("a", 4, 25), ("a", 1, 50)], "a", 1, 20),
        // Behind another's, which counts no more than a fair share.
        (vec![("b", 4, 100), ("a", 4, 30)], "a", 2, 10),
        // A newcomer with much work among three who have much.
        (vec![("b", 4, 40), ("c", 4, 45), ("d", 4, 50)], "a", 4, 12),
        // One with less work than the others.
        (vec![("a", 4, 50), ("b", 2, 20), ("c", 1, 90)], "a", 4, 30),
        // A full call of many small jobs.
        (vec![("a", 1, 40); 10], "a", 2, 25),
    ];
    let both = cases.iter().flat_map(|case| [(false, case), (true, case)]);
    for (overlaps, (jobs, user, n, after)) in both {
        let simulation = Simulation::new(overlaps, jobs, *after);
        let delay = simulation.queue.delay(&wish(*n, 50), user, 1);
        // A limit that lets it in once half of the present delay is over.
        let longest = (delay.as_secs_f64() / 2.0) as u64;
        simulation.queue.set_longest_wait(longest);
        let (told, truth) = simulation.told_and_true(user, *n, 50, "queue_busy");
        assert!(truth >= 4.0, "{jobs:?}: only {truth} s to wait");
        assert!(
            (told - truth).abs() <= 0.25 * truth,
            "{jobs:?}, {user} asks: told {told} s, in truth {truth} s (stages overlap: {overlaps})"
        );
    }
}

#[test]
fn a_full_queue_tells_when_a_place_is_free() {
    for (overlaps, after) in [(false, 1), (false, 7), (true, 1), (true, 7)] {
        let mut full = Simulation::new(overlaps, &[("a", 1, 20); 4], after);
        for _ in 0..64 {
            let job = full.ask("a", 1, 30).unwrap();
            full.held.push(job);
        }
        let (told, truth) = full.told_and_true("b", 1, 30, "queue_full");
        assert!(
            (told - truth).abs() <= 0.25 * truth,
            "told {told} s, in truth {truth} s (stages overlap: {overlaps})"
        );
    }
}

#[test]
fn the_rate_counts_time_in_which_stages_overlap_once() {
    let rate = |overlaps| {
        let mut busy = Simulation::new(overlaps, &[("b", 1, 300)], 0);
        for _ in 0..200 {
            let job = busy.ask("a", 1, 2).unwrap();
            busy.held.push(job);
            busy.step();
        }
        busy.queue.stats().milliunits_per_second
    };
    // At each step one picture of two is finished. Decoding it takes 100 ms, which count where
    // stages take turns, and pass beside the steps' 400 where they overlap.
    let (turns, beside) = (rate(false), rate(true));
    assert!(
        beside > 1.1 * turns,
        "{turns} in turns, {beside} side by side"
    );
}

#[test]
fn a_job_that_cannot_end_before_its_deadline_is_refused_for_good_or_told_when_it_can() {
    for overlaps in [false, true] {
        let mut busy = Simulation::new(overlaps, &[("a", 4, 60), ("a", 4, 60)], 20);
        let alone = busy.queue.time_to_end(&wish(4, 30), "b", 1);
        let delay = busy.queue.delay(&wish(4, 30), "a", 1);
        let needed = busy.queue.time_to_end(&wish(4, 30), "a", 1) - delay;
        // By itself it would be late: no wait helps.
        busy.deadline = Some(needed.as_secs() - 1);
        let never = busy.ask("a", 4, 30).unwrap_err();
        assert_eq!(never.code(), "over_deadline");
        // A newcomer waits for its own measure of the others alone.
        busy.deadline = Some(alone.as_secs() + 1);
        drop(busy.ask("b", 4, 30).unwrap());
        busy.step();
        // Behind half of what is ahead it would be in time.
        busy.deadline = Some(needed.as_secs() + delay.as_secs() / 2);
        let (told, truth) = busy.told_and_true("a", 4, 30, "queue_busy");
        assert!(truth >= 4.0, "only {truth} s to wait");
        assert!(
            (told - truth).abs() <= 0.25 * truth,
            "told {told} s, in truth {truth} s (stages overlap: {overlaps})"
        );
    }
}
