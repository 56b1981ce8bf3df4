//! Many jobs at once, of every kind, cancelled at any moment: each ends once, and nothing is left.

use super::clockwork::{Bench, small, spec};
use super::*;
use proptest::prelude::*;
use std::time::Instant;

/// A job: what it asks for, and how it ends if nobody cancels it.
#[derive(Debug, Clone)]
struct Try {
    prompt: &'static str,
    user: usize,
    n: usize,
    steps: usize,
    /// Cancelled after so many others were submitted.
    cancel: Option<usize>,
    late: bool,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let prompts = [
        "good",
        "good",
        "good",
        "unknown",
        "bad text",
        "bad picture",
        "nan",
        "panic",
    ];
    let one = (
        proptest::sample::select(prompts.to_vec()),
        0usize..5,
        1usize..4,
        1usize..6,
        proptest::option::of(0usize..8),
        proptest::bool::weighted(0.1),
    );
    let one = one.prop_map(|(prompt, user, n, steps, cancel, late)| Try {
        prompt,
        user,
        n,
        steps,
        cancel,
        late,
    });
    proptest::collection::vec(one, 1..60)
}

async fn all_end(tries: Vec<Try>, overlaps: bool, stop: bool) {
    let bench = Bench::free(small(), overlaps);
    let mut jobs = Vec::new();
    let mut cancels = Vec::new();
    for (i, wish) in tries.iter().enumerate() {
        let mut image = spec(wish.prompt, wish.steps);
        image.n = wish.n;
        let deadline = wish.late.then(Instant::now);
        let user = format!("user-{}", wish.user);
        let job = bench.queue.submit(JobSpec { image, deadline }, &user, 1);
        let job = match job {
            // Once something was measured, what is late already is not taken.
            Err(QueueError::OverDeadline { .. }) if wish.late => continue,
            job => job.unwrap(),
        };
        if let Some(after) = wish.cancel {
            cancels.push((i + after, job.canceller()));
        }
        let previews = (i % 2 == 0).then(|| job.previews());
        jobs.push((wish, job, previews));
        cancels.retain(|(at, canceller)| {
            let due = *at <= i;
            if due {
                canceller.cancel();
            }
            !due
        });
    }
    for (_, canceller) in cancels {
        std::thread::sleep(Duration::from_micros(300));
        canceller.cancel();
    }
    if stop {
        bench.queue.stop(Duration::from_secs(600)).await;
    }
    for (wish, job, _previews) in jobs {
        let progress = job.progress();
        let outcome = tokio::time::timeout(Duration::from_secs(120), job.outcome());
        let outcome = outcome.await.expect("it never ends");
        assert_eq!(*progress.borrow(), Progress::Over);
        let failing = match wish.prompt {
            "good" => None,
            "unknown" => Some("unknown_model"),
            "nan" if wish.steps > 2 => Some("not_finite"),
            "nan" => None,
            "panic" if wish.steps <= 2 => None,
            _ => Some("engine_failed"),
        };
        match outcome {
            Ok(done) => {
                assert_eq!((failing, done.images.len()), (None, wish.n), "{wish:?}");
                let seeds = done.images.iter().map(|image| image.seed);
                assert!(seeds.eq(1..=wish.n as u64));
            }
            Err(error) => match error.code() {
                "cancelled" => assert!(wish.cancel.is_some(), "{wish:?}"),
                "deadline" => assert!(wish.late, "{wish:?}"),
                "stopped" => assert!(stop, "{wish:?}"),
                code => assert_eq!(Some(code), failing, "{wish:?}"),
            },
        }
    }
    let stats = bench.queue.stats();
    let left = (stats.queued, stats.running, stats.backlog_milliunits);
    assert_eq!(left, (0, 0, 0));
    assert!(bench.queue.is_blank());
    bench.queue.stop(Duration::ZERO).await;
    assert_eq!(bench.inside.live(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_job_ends_once_as_it_should_and_nothing_is_left(
        tries in tries(), overlaps in any::<bool>(), stop in proptest::bool::weighted(0.2),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(all_end(tries, overlaps, stop));
    }
}
