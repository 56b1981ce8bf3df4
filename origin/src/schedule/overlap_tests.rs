//! The stages beside the steps: what is away with one holds nobody up, and ends as it should.

use super::clockwork::{Bench, small, spec};
use super::*;
use std::sync::atomic::Ordering;
use tokio::time::timeout;

/// Long enough for anything that comes at all.
const SURELY: Duration = Duration::from_secs(120);

/// One guided picture a call.
fn one() -> Settings {
    Settings {
        max_batch: 2,
        ..Settings::default()
    }
}

async fn ended(job: JobHandle) -> Result<Done, JobError> {
    timeout(SURELY, job.outcome()).await.expect("it never ends")
}

fn ended_already(job: &JobHandle) -> bool {
    *job.progress().borrow() == Progress::Over
}

#[tokio::test]
async fn while_a_picture_is_decoded_others_begin_and_step_to_the_end() {
    let bench = Bench::overlapping(one());
    let first = bench.submit("slow picture", "a", 1);
    assert_eq!(bench.call(), [("slow picture".to_owned(), 0)]);
    bench.inside.pictures.reached_by(1);
    // It holds no room in the call any more, though a call has room for one.
    let second = bench.submit("second", "b", 3);
    for step in 0..3 {
        assert_eq!(bench.call(), [("second".to_owned(), step)]);
    }
    assert!(!ended_already(&first) && bench.queue.stats().running == 2);
    bench.inside.pictures.open();
    for job in [first, second] {
        assert_eq!(ended(job).await.unwrap().images.len(), 1);
    }
    assert!(bench.queue.is_blank());
}

#[tokio::test]
async fn while_a_prompt_is_encoded_others_step_on() {
    let bench = Bench::overlapping(small());
    let first = bench.submit("first", "a", 5);
    assert_eq!(bench.call(), [("first".to_owned(), 0)]);
    let slow = bench.submit("slow text", "b", 2);
    // The call that stands there may have been filled before.
    assert_eq!(bench.call(), [("first".to_owned(), 1)]);
    bench.inside.texts.reached_by(1);
    for step in 2..5 {
        assert_eq!(bench.call(), [("first".to_owned(), step)]);
    }
    assert!(ended(first).await.is_ok());
    bench.inside.texts.open();
    for step in 0..2 {
        assert_eq!(bench.call(), [("slow text".to_owned(), step)]);
    }
    assert!(ended(slow).await.is_ok());
}

#[tokio::test]
async fn pictures_of_one_job_are_decoded_while_its_others_step() {
    let bench = Bench::overlapping(one());
    let mut image = spec("slow picture", 1);
    image.n = 3;
    let deadline = None;
    let job = bench.queue.submit(JobSpec { image, deadline }, "a", 1);
    for _ in 0..3 {
        bench.call();
    }
    bench.inside.pictures.open();
    let seeds = ended(job.unwrap()).await.unwrap().images;
    assert_eq!(seeds.iter().map(|i| i.seed).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn a_job_cancelled_or_late_while_it_is_away_ends_at_once_and_frees_its_place() {
    for prompt in ["slow text", "slow picture"] {
        for late in [false, true] {
            let bench = Bench::overlapping(one());
            let latch = match prompt {
                "slow text" => &bench.inside.texts,
                _ => &bench.inside.pictures,
            };
            (0..9).for_each(|_| bench.open.send(()).unwrap());
            let job = JobSpec {
                image: spec(prompt, 2),
                deadline: None,
            };
            let job = bench.queue.submit(job, "a", 1).unwrap();
            latch.reached_by(1);
            // Another waits behind it in the same stage, and is late by the machine's own clock.
            let deadline = late.then(|| std::time::Instant::now() + Duration::from_millis(20));
            let image = spec(prompt, 2);
            let behind = bench.queue.submit(JobSpec { image, deadline }, "b", 1);
            let behind = behind.unwrap();
            if !late {
                behind.canceller().cancel();
            }
            job.canceller().cancel();
            // The latch is still closed.
            assert_eq!(ended(job).await.unwrap_err().code(), "cancelled");
            let code = if late { "deadline" } else { "cancelled" };
            assert_eq!(ended(behind).await.unwrap_err().code(), code);
            assert_eq!(bench.queue.stats().running, 0);
            assert!(bench.queue.is_blank());
            latch.open();
            assert!(ended(bench.submit("after", "c", 2)).await.is_ok());
            assert_eq!(bench.inside.live(), 0);
        }
    }
}

#[tokio::test]
async fn a_defect_in_a_stage_is_one_jobs_error_whether_stages_overlap_or_not() {
    for overlaps in [false, true] {
        for prompt in ["bad text", "bad picture", "panic", "nan"] {
            let bench = Bench::free(small(), overlaps);
            let bad = bench.submit(prompt, "a", 4);
            let good = bench.submit("good", "b", 4);
            let code = if prompt == "nan" {
                "not_finite"
            } else {
                "engine_failed"
            };
            assert_eq!(ended(bad).await.unwrap_err().code(), code, "{prompt}");
            assert!(ended(good).await.is_ok());
            assert!(ended(bench.submit("after", "a", 2)).await.is_ok());
            assert!(bench.queue.is_blank());
        }
    }
}

#[tokio::test]
async fn a_stop_waits_for_what_is_away_and_hands_back_what_is_queued() {
    let bench = Bench::overlapping(one());
    bench.open.send(()).unwrap();
    let away = bench.submit("slow picture", "a", 1);
    bench.inside.pictures.reached_by(1);
    let text = bench.submit("slow text", "a", 1);
    bench.inside.texts.reached_by(1);
    let queued = bench.submit("queued", "a", 1);
    let stopping = bench.queue.clone();
    let stop = tokio::spawn(async move { stopping.stop(Duration::from_secs(600)).await });
    assert_eq!(ended(queued).await.unwrap_err().code(), "stopped");
    assert!(!ended_already(&away) && !ended_already(&text) && !stop.is_finished());
    bench.inside.pictures.open();
    assert!(ended(away).await.is_ok());
    bench.inside.texts.open();
    bench.open.send(()).unwrap();
    assert!(ended(text).await.is_ok());
    timeout(SURELY, stop)
        .await
        .expect("it never stops")
        .unwrap();
    assert_eq!(bench.inside.live(), 0);
}

#[tokio::test]
async fn a_stop_gives_up_what_is_away_when_its_grace_is_over() {
    for prompt in ["slow text", "slow picture"] {
        let bench = Bench::overlapping(one());
        bench.open.send(()).unwrap();
        let away = bench.submit(prompt, "a", 1);
        match prompt {
            "slow text" => bench.inside.texts.reached_by(1),
            _ => bench.inside.pictures.reached_by(1),
        }
        let stopping = bench.queue.clone();
        let stop = tokio::spawn(async move { stopping.stop(Duration::from_millis(20)).await });
        // Told at once; the thread itself ends with the call it is in.
        assert_eq!(ended(away).await.unwrap_err().code(), "stopped");
        bench.inside.texts.open();
        bench.inside.pictures.open();
        timeout(SURELY, stop)
            .await
            .expect("it never stops")
            .unwrap();
        assert_eq!(bench.inside.live(), 0);
    }
}

#[tokio::test]
async fn a_slow_decoder_holds_new_jobs_back_before_rows_pile_up() {
    let bench = Bench::free(small(), true);
    let jobs: Vec<_> = (0..40)
        .map(|_| bench.submit("slow picture", "a", 2))
        .collect();
    // Two rows fill a call, and as many again may be with the decoder when another begins.
    while bench.inside.live() < 3 {
        tokio::task::yield_now().await;
    }
    bench.inside.pictures.open();
    for job in jobs {
        assert!(ended(job).await.is_ok());
    }
    assert!(bench.inside.most() <= 4, "{} rows", bench.inside.most());
}

#[tokio::test]
async fn one_preview_of_a_job_waits_at_most_and_none_before_a_picture() {
    let bench = Bench::overlapping(small());
    let slow = bench.submit("slow picture", "a", 1);
    bench.call();
    bench.inside.pictures.reached_by(1);
    let job = bench.submit("watched", "b", 100);
    let mut previews = job.previews();
    // Previews are due at steps 20 and 40; the first waits, so nobody asks for the second.
    (0..45).for_each(|_| drop(bench.call()));
    let late = bench.submit("late", "c", 1);
    let mut rows = bench.call().len();
    let pause = || tokio::time::sleep(Duration::from_millis(5));
    while !bench.begun().contains(&"late".to_owned()) {
        pause().await;
    }
    while rows < 2 {
        rows = bench.call().len();
        pause().await;
    }
    bench.arrive();
    assert_eq!(bench.inside.drawn.load(Ordering::SeqCst), 0);
    bench.inside.pictures.open();
    while bench.inside.drawn.load(Ordering::SeqCst) == 0 {
        pause().await;
    }
    let mut next = async || {
        while !previews.has_changed().unwrap() {
            bench.call();
            pause().await;
        }
        previews
            .borrow_and_update()
            .as_ref()
            .map(|shown| shown.seed)
    };
    assert_eq!(next().await, Some(19));
    let made = bench.inside.made.lock().unwrap().clone();
    assert_eq!(made, ["slow picture", "late", "preview 19"]);
    let second = next().await.unwrap();
    assert!(second == 59 || second == 79, "{second}");
    assert!(ended(slow).await.is_ok() && ended(late).await.is_ok());
}

/// Prompts of those who wait are encoded while others step: when a place is free they are in the
/// very next call, without the text encoder between.
#[tokio::test]
async fn a_job_whose_prompt_was_encoded_ahead_is_in_the_call_right_after() {
    let bench = Bench::overlapping(small());
    bench.inside.texts.open();
    let long = bench.submit("long", "a", 50);
    bench.arrive();
    let first = bench.submit("first", "a", 2);
    let ahead = bench.submit("ahead", "a", 1);
    // The first is in a call as soon as its own prompt is encoded.
    while bench.call().len() < 2 {}
    for _ in 0..12_000 {
        if !bench.inside.prepared.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = bench.call();
    assert_eq!(last[1], ("first".to_owned(), 1));
    let next = bench.call();
    assert_eq!(next.get(1), Some(&("ahead".to_owned(), 0)), "{next:?}");
    // Pictures come back between calls.
    (0..50).for_each(|_| bench.open.send(()).unwrap());
    for job in [first, ahead, long] {
        assert_eq!(ended(job).await.unwrap().images.len(), 1);
    }
}

/// What nobody wants any more is not prepared, and one that is being prepared ends at once.
#[tokio::test]
async fn a_job_that_is_cancelled_while_it_is_prepared_ends_at_once() {
    let bench = Bench::overlapping(one());
    let first = bench.submit("first", "a", 2);
    bench.arrive();
    let slow = bench.submit("ahead slow", "a", 1);
    let never = bench.submit("ahead never", "a", 1);
    assert_eq!(bench.call(), [("first".to_owned(), 0)]);
    bench.inside.texts.reached_by(1);
    let canceller = slow.canceller();
    canceller.cancel();
    never.canceller().cancel();
    assert_eq!(bench.call(), [("first".to_owned(), 1)]);
    assert!(ended(first).await.is_ok());
    assert!(matches!(ended(slow).await, Err(JobError::Cancelled)));
    assert!(matches!(ended(never).await, Err(JobError::Cancelled)));
    bench.inside.texts.open();
    let last = bench.submit("last", "b", 1);
    assert_eq!(bench.call(), [("last".to_owned(), 0)]);
    assert!(ended(last).await.is_ok());
    assert_eq!(*bench.inside.prepared.lock().unwrap(), ["ahead slow"]);
}
