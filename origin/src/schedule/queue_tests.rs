//! The queue over an engine that needs no model: rows count their steps, and the test lets
//! each call through one by one, so that no assertion depends on time.

use super::*;
use crate::infer::{ImageSpec, InferError, Pixels};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Answers to each call, by prompt: `nan` fails its row at step 2, `panic` panics there.
struct Clockwork {
    gate: Mutex<Receiver<()>>,
    calls: Mutex<Sender<Vec<(String, usize)>>>,
}

struct Tick {
    prompt: String,
    seed: u64,
    area: usize,
    slots: usize,
    done: usize,
    calls: usize,
    preview: Option<usize>,
}

impl Work for Clockwork {
    type Row = Tick;
    type Key = usize;

    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Tick>, InferError> {
        if spec.prompt == "unknown" {
            return Err(InferError::UnknownModel("x".into()));
        }
        Ok((0..spec.n as u64)
            .map(|i| Tick {
                prompt: spec.prompt.clone(),
                seed: spec.seed + i,
                area: spec.width * spec.height,
                slots: spec.branches(),
                done: 0,
                calls: spec.steps,
                preview: None,
            })
            .collect())
    }

    fn step(&self, rows: &mut [&mut Tick], _: usize) -> Vec<Result<(), InferError>> {
        self.gate
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .recv()
            .unwrap();
        let names = rows
            .iter()
            .map(|row| (row.prompt.clone(), row.done))
            .collect();
        drop(
            self.calls
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .send(names),
        );
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
        match row.prompt.as_str() {
            "bad picture" => panic!("a defect in the decoder"),
            _ => Ok(Pixels {
                width: 1,
                height: 1,
                rgb: vec![0; 3],
                seed: row.seed,
            }),
        }
    }

    fn want_preview(&self, row: &mut Tick) {
        row.preview = Some(row.done);
    }

    fn preview(&self, row: &mut Tick) -> Option<Pixels> {
        let step = row.preview.take()? as u64;
        Some(Pixels {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
            seed: step,
        })
    }

    fn facts(row: &Tick) -> Facts<usize> {
        Facts {
            key: row.area,
            slots: row.slots,
            area: row.area,
            done: row.done,
            calls: row.calls,
        }
    }

    fn rehearsal(&self) -> Option<ImageSpec> {
        None
    }
}

struct Bench {
    queue: Queue,
    open: Sender<()>,
    calls: Receiver<Vec<(String, usize)>>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let (open, gate) = channel();
        let (sender, calls) = channel();
        let work = Clockwork {
            gate: Mutex::new(gate),
            calls: Mutex::new(sender),
        };
        let queue = Queue::start(Arc::new(work), settings, Box::new(|_| {})).unwrap();
        Self { queue, open, calls }
    }

    fn submit(&self, prompt: &str, user: &str, steps: usize) -> JobHandle {
        self.try_submit(prompt, user, steps).unwrap()
    }

    fn try_submit(&self, prompt: &str, user: &str, steps: usize) -> Result<JobHandle, QueueError> {
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
    fn call(&self) -> Vec<(String, usize)> {
        self.open.send(()).unwrap();
        self.calls.recv().unwrap()
    }
}

fn spec(prompt: &str, steps: usize) -> ImageSpec {
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

fn small() -> Settings {
    Settings {
        max_batch: 4,
        ..Settings::default()
    }
}

fn names(call: &[(String, usize)]) -> Vec<&str> {
    call.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn rows_at_different_steps_share_calls_and_leave_when_done() {
    let bench = Bench::new(small());
    let first = bench.submit("first", "a", 3);
    assert_eq!(bench.call(), [("first".into(), 0)]);
    let second = bench.submit("second", "b", 2);
    let mut joined = bench.call();
    // The second may have arrived while the first call was being set up.
    while joined.len() < 2 {
        joined = bench.call();
    }
    assert_eq!(names(&joined), ["first", "second"]);
    for _ in 0..4 {
        bench.open.send(()).unwrap();
    }
    assert_eq!(first.outcome().await.unwrap().images.len(), 1);
    let done = second.outcome().await.unwrap();
    assert_eq!(done.cost_milliunits, 250);
}

#[tokio::test]
async fn a_flood_of_two_hundred_jobs_delays_anothers_job_by_one_call_at_most() {
    let bench = Bench::new(small());
    let _flood: Vec<_> = (0..200).map(|_| bench.submit("flood", "a", 20)).collect();
    for _ in 0..3 {
        assert_eq!(bench.call().len(), 2);
    }
    let one = bench.submit("one", "b", 5);
    // A call may have been filled already when the job came; from then on it is in every one.
    let already = usize::from(names(&bench.call()).contains(&"one"));
    for step in already..5 {
        assert!(
            bench.call().contains(&("one".to_owned(), step)),
            "step {step}"
        );
    }
    assert!(one.outcome().await.is_ok());
}

#[tokio::test]
async fn a_poisoned_row_fails_its_job_and_its_neighbours_finish() {
    for (prompt, code) in [
        ("nan", "not_finite"),
        ("panic", "engine_failed"),
        ("bad picture", "engine_failed"),
    ] {
        let bench = Bench::new(small());
        (0..60).for_each(|_| bench.open.send(()).unwrap());
        let bad = bench.submit(prompt, "a", 4);
        let good = bench.submit("good", "b", 4);
        assert_eq!(bad.outcome().await.unwrap_err().code(), code);
        assert_eq!(good.outcome().await.unwrap().images.len(), 1);
        let after = bench.submit("after", "a", 2);
        assert!(
            after.outcome().await.is_ok(),
            "the engine lives after {prompt}"
        );
    }
}

#[tokio::test]
async fn a_dropped_handle_frees_the_engine_at_the_next_step() {
    let bench = Bench::new(small());
    let gone = bench.submit("gone", "a", 50);
    let stays = bench.submit("stays", "b", 8);
    bench.call();
    drop(gone);
    // The call under way may still have it.
    bench.call();
    for _ in 0..4 {
        assert_eq!(names(&bench.call()), ["stays"]);
    }
    (0..8).for_each(|_| bench.open.send(()).unwrap());
    assert!(stays.outcome().await.is_ok());
    assert_eq!(bench.queue.stats().running, 0);
    assert_eq!(bench.queue.stats().backlog_milliunits, 0);
}

#[tokio::test]
async fn cancelling_and_deadlines_end_queued_jobs_too() {
    let bench = Bench::new(Settings {
        max_batch: 2,
        ..Settings::default()
    });
    let _busy = bench.submit("busy", "a", 1000);
    bench.call();
    let queued = bench.submit("queued", "a", 5);
    let late = bench
        .queue
        .submit(
            JobSpec {
                image: spec("late", 5),
                deadline: Some(std::time::Instant::now()),
            },
            "a",
            1,
        )
        .unwrap();
    queued.canceller().cancel();
    (0..3).for_each(|_| drop(bench.call()));
    assert_eq!(queued.outcome().await.unwrap_err().code(), "cancelled");
    assert_eq!(late.outcome().await.unwrap_err().code(), "deadline");
}

#[tokio::test]
async fn positions_are_the_order_in_which_jobs_start() {
    let bench = Bench::new(Settings {
        max_batch: 2,
        ..Settings::default()
    });
    let running = bench.submit("running", "a", 3);
    bench.call();
    let jobs: Vec<_> = ["a1", "a2", "a3"]
        .map(|name| bench.submit(name, "a", 3))
        .into();
    let position = |job: &JobHandle| match *job.progress().borrow() {
        Progress::Queued { position } => Some(position),
        _ => None,
    };
    assert_eq!(
        jobs.iter().map(position).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
    let mut order: Vec<String> = Vec::new();
    for _ in 0..11 {
        for (name, _) in bench.call() {
            if order.last() != Some(&name) {
                order.push(name);
            }
        }
    }
    assert_eq!(order, ["running", "a1", "a2", "a3"]);
    assert!(running.outcome().await.is_ok());
    for job in jobs {
        assert!(job.outcome().await.is_ok());
    }
}

#[tokio::test]
async fn progress_counts_steps_and_ends() {
    let bench = Bench::new(small());
    let job = bench.submit("job", "a", 2);
    let mut progress = job.progress();
    bench.call();
    let step_one = Progress::Running { step: 1, steps: 2 };
    progress.wait_for(|now| *now == step_one).await.unwrap();
    bench.call();
    progress
        .wait_for(|now| *now == Progress::Over)
        .await
        .unwrap();
    assert!(job.outcome().await.is_ok());
}

#[tokio::test]
async fn previews_are_made_about_five_times_and_only_for_who_watches() {
    let bench = Bench::new(small());
    let job = bench.submit("watched", "a", 20);
    let mut previews = job.previews();
    let unwatched = bench.submit("unwatched", "b", 20);
    let mut seen = Vec::new();
    for _ in 0..45 {
        bench.open.send(()).unwrap();
    }
    let watched = async {
        while previews.changed().await.is_ok() {
            seen.extend(
                previews
                    .borrow_and_update()
                    .as_ref()
                    .map(|preview| preview.seed),
            );
        }
    };
    let (done, ()) = tokio::join!(job.outcome(), watched);
    assert!(done.is_ok() && unwatched.outcome().await.is_ok());
    // A slow reader may miss some, but the step before the last fifth is the last one.
    assert!(
        seen.len() <= 4 && seen.iter().all(|step| (step + 1) % 4 == 0),
        "{seen:?}"
    );
    assert_eq!(seen.last(), Some(&15));
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again() {
    let settings = Settings {
        depth: 64,
        max_batch: 2,
        ..Settings::default()
    };
    let bench = Bench::new(settings);
    let first = bench.submit("first", "a", 1);
    bench.call();
    assert!(first.outcome().await.is_ok());
    let running = bench.submit("x", "a", 2);
    let is_running = |now: &Progress| matches!(now, Progress::Running { .. });
    running.progress().wait_for(is_running).await.unwrap();
    let mut held: Vec<_> = (0..64).map(|_| bench.submit("x", "a", 2)).collect();
    let error = bench.try_submit("x", "a", 2).unwrap_err();
    assert_eq!(error.code(), "queue_full");
    assert!(error.retry_after_seconds() >= 1);
    drop(held.pop());
    (0..2).for_each(|_| drop(bench.call()));
    assert!(running.outcome().await.is_ok());
    assert!(bench.try_submit("x", "a", 2).is_ok());
}

#[tokio::test]
async fn an_error_of_the_engine_reaches_only_its_job() {
    let bench = Bench::new(small());
    (0..9).for_each(|_| bench.open.send(()).unwrap());
    assert_eq!(
        bench
            .submit("unknown", "a", 3)
            .outcome()
            .await
            .unwrap_err()
            .code(),
        "unknown_model"
    );
    assert!(bench.submit("known", "a", 3).outcome().await.is_ok());
    assert_eq!(bench.queue.stats().running, 0);
}

#[tokio::test]
async fn stopping_hands_queued_jobs_back_and_lets_running_ones_finish() {
    let bench = Bench::new(Settings {
        max_batch: 2,
        ..Settings::default()
    });
    let running = bench.submit("running", "a", 4);
    bench.call();
    let queued = bench.submit("queued", "a", 4);
    (0..10).for_each(|_| bench.open.send(()).unwrap());
    let stop = bench.queue.stop(Duration::from_secs(600));
    let (running, queued, ()) = tokio::join!(running.outcome(), queued.outcome(), stop);
    assert!(running.is_ok());
    // It may have begun in the moment before the stop.
    assert!(queued.is_ok() || queued.unwrap_err().code() == "stopped");
    assert_eq!(
        bench.try_submit("x", "a", 1).unwrap_err().code(),
        "stopping"
    );
}

#[tokio::test]
async fn four_pictures_of_one_job_come_in_order_of_their_seeds() {
    let bench = Bench::new(small());
    (0..40).for_each(|_| bench.open.send(()).unwrap());
    let mut image = spec("four", 3);
    image.n = 4;
    let job = bench
        .queue
        .submit(
            JobSpec {
                image,
                deadline: None,
            },
            "a",
            1,
        )
        .unwrap();
    let seeds: Vec<_> = job
        .outcome()
        .await
        .unwrap()
        .images
        .iter()
        .map(|image| image.seed)
        .collect();
    assert_eq!(seeds, [1, 2, 3, 4]);
}
