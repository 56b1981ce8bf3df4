//! Admission by a simulated clock: a machine whose steps take so long by their rows, and whether
//! `Retry-After` tells when a job is really taken.

use super::queue_tests::spec;
use super::*;
use crate::infer::{ImageSpec, InferError, Pixels};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A step takes so long, and so much longer for each row of 128 x 128 pixels.
const STEP_MILLIS: u64 = 100;
const ROW_MILLIS: u64 = 50;

struct Machine {
    millis: Arc<AtomicU64>,
    arrived: Mutex<Sender<()>>,
    gate: Mutex<Receiver<()>>,
}

struct Tick {
    facts: Facts<usize>,
}

impl Work for Machine {
    type Row = Tick;
    type Key = usize;

    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Tick>, InferError> {
        let area = spec.width * spec.height;
        let facts = Facts {
            key: area,
            slots: spec.branches(),
            area,
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
        self.millis.fetch_add(took, Ordering::SeqCst);
        rows.iter_mut().for_each(|row| row.facts.done += 1);
        rows.iter().map(|_| Ok(())).collect()
    }

    fn decode(&self, _: &Tick) -> Result<Pixels, InferError> {
        // The picture's end takes its time too.
        self.millis.fetch_add(STEP_MILLIS, Ordering::SeqCst);
        Ok(Pixels {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
            seed: 0,
        })
    }

    fn want_preview(&self, _: &mut Tick) {}

    fn preview(&self, _: &mut Tick) -> Option<Pixels> {
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
    millis: Arc<AtomicU64>,
    arrived: Receiver<()>,
    open: Sender<()>,
    held: Vec<JobHandle>,
}

impl Simulation {
    /// A busy machine with these jobs, `(user, pictures, steps)`, after so many steps.
    fn new(jobs: &[(&str, usize, usize)], steps: usize) -> Self {
        let millis = Arc::new(AtomicU64::new(0));
        let (arrived_in, arrived) = channel();
        let (open, gate) = channel();
        let machine = Machine {
            millis: Arc::clone(&millis),
            arrived: Mutex::new(arrived_in),
            gate: Mutex::new(gate),
        };
        let settings = Settings {
            depth: 64,
            max_batch: 8,
            longest_wait_seconds: 86_400,
            ..Settings::default()
        };
        let (start, clock) = (Instant::now(), Arc::clone(&millis));
        let time = move || start + Duration::from_millis(clock.load(Ordering::SeqCst));
        let observer = Box::new(|_| {});
        let queue = Queue::start_by(Arc::new(machine), settings, observer, Box::new(time)).unwrap();
        let mut simulation = Self {
            queue,
            millis,
            arrived,
            open,
            held: Vec::new(),
        };
        for (user, n, steps) in jobs {
            let job = simulation.ask(user, *n, *steps).unwrap();
            simulation.held.push(job);
        }
        simulation.wait();
        (0..steps).for_each(|_| simulation.step());
        simulation
    }

    fn ask(&self, user: &str, n: usize, steps: usize) -> Result<JobHandle, QueueError> {
        let job = JobSpec {
            image: wish(n, steps),
            deadline: None,
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
        self.millis.load(Ordering::SeqCst) as f64 / 1000.0
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
    for (jobs, user, n, after) in cases {
        let simulation = Simulation::new(&jobs, after);
        let delay = simulation.queue.delay(&wish(n, 50), user, 1);
        // A limit that lets it in once half of the present delay is over.
        let longest = (delay.as_secs_f64() / 2.0) as u64;
        simulation.queue.set_longest_wait(longest);
        let (told, truth) = simulation.told_and_true(user, n, 50, "queue_busy");
        assert!(truth >= 4.0, "{jobs:?}: only {truth} s to wait");
        assert!(
            (told - truth).abs() <= 0.25 * truth,
            "{jobs:?}, {user} asks: told {told} s, in truth {truth} s"
        );
    }
}

#[test]
fn a_full_queue_tells_when_a_place_is_free() {
    for after in [1, 7] {
        let mut full = Simulation::new(&[("a", 1, 20); 4], after);
        for _ in 0..64 {
            let job = full.ask("a", 1, 30).unwrap();
            full.held.push(job);
        }
        let (told, truth) = full.told_and_true("b", 1, 30, "queue_full");
        assert!(
            (told - truth).abs() <= 0.25 * truth,
            "told {told} s, in truth {truth} s"
        );
    }
}
