//! The queue over the clockwork engine, a call at a time; what is told of jobs that overlap with
//! their stages is in `overlap_tests`.

use super::clockwork::{Bench, small, spec};
use super::*;
use crate::infer::ImageSpec;

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
    // The first call may have been filled when only one had come.
    bench.call();
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
    // Before anything was measured: later it would not be taken.
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
    bench.call();
    let queued = bench.submit("queued", "a", 5);
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
async fn positions_are_true_for_many_users_with_jobs_of_many_sizes() {
    let bench = Bench::new(small());
    let mut jobs = Vec::new();
    for i in 0..24usize {
        let name = format!("job-{i}");
        let user = ["a", "a", "b", "a", "c", "b"][i % 6];
        let mut image = spec(&name, 1 + (i * 7) % 5);
        image.n = 1 + i % 2;
        let wanted = JobSpec {
            image,
            deadline: None,
        };
        let job = bench.queue.submit(wanted, user, 1 + (i as u32 % 2));
        jobs.push((name, job.unwrap()));
        if i % 8 == 5 {
            bench.call();
        }
    }
    // All that began before this is told apart from what waits.
    bench.arrive();
    bench.begun();
    let position = |job: &JobHandle| match *job.progress().borrow() {
        Progress::Queued { position } => Some(position),
        _ => None,
    };
    let waiting = jobs.iter();
    let mut told: Vec<(usize, &str)> = waiting
        .filter_map(|(name, job)| Some((position(job)?, name.as_str())))
        .collect();
    told.sort_unstable();
    assert!(told.len() > 10, "{told:?}");
    assert!(told.iter().enumerate().all(|(i, (place, _))| i == *place));
    let told: Vec<&str> = told.into_iter().map(|(_, name)| name).collect();
    let mut order: Vec<String> = Vec::new();
    while order.len() < told.len() {
        bench.call();
        bench.arrive();
        order.extend(bench.begun());
    }
    assert_eq!(order, told);
    for _ in 0..400 {
        let _ = bench.open.send(());
    }
}

#[tokio::test]
async fn those_behind_a_cancelled_job_move_up() {
    let bench = Bench::new(Settings {
        max_batch: 2,
        ..Settings::default()
    });
    let _running = bench.submit("running", "a", 50);
    bench.call();
    let mut flood: Vec<_> = (0..40).map(|_| bench.submit("flood", "a", 50)).collect();
    let last = bench.submit("last", "a", 5);
    let _other: Vec<_> = (0..3).map(|_| bench.submit("other", "b", 50)).collect();
    flood.clear();
    (0..2).for_each(|_| drop(bench.call()));
    bench.arrive();
    // The other user's first one runs beside; behind it, the last of the flood goes by what is ahead of it now.
    assert_eq!(*last.progress().borrow(), Progress::Queued { position: 0 });
}

#[test]
fn rows_join_a_call_only_as_far_as_the_devices_memory_goes() {
    let bench = Bench::new(small());
    let _light = (bench.submit("a", "a", 3), bench.submit("b", "b", 3));
    bench.arrive();
    // The first went in before the other came.
    assert!(!bench.call().is_empty());
    bench.arrive();
    assert_eq!(bench.call().len(), 2);
    let bench = Bench::new(small());
    let _heavy = (
        bench.submit("heavy a", "a", 3),
        bench.submit("heavy b", "b", 3),
    );
    for _ in 0..6 {
        bench.arrive();
        assert_eq!(bench.call().len(), 1);
    }
    let error = bench.try_submit("never", "a", 1).unwrap_err();
    assert_eq!(error.code(), "too_large");
    assert!(error.to_string().contains("infer.memory_mib"), "{error}");
}

#[tokio::test]
async fn a_picture_that_can_never_fit_is_refused_and_one_that_just_fits_runs() {
    let settings = Settings {
        batch_pixels: 2 * 128 * 128,
        ..Settings::default()
    };
    let bench = Bench::new(settings);
    let ask = |change: &dyn Fn(&mut ImageSpec)| {
        let mut image = spec("x", 2);
        change(&mut image);
        let job = JobSpec {
            image,
            deadline: None,
        };
        bench.queue.submit(job, "a", 1)
    };
    let error = ask(&|image| image.width = 129).unwrap_err();
    assert_eq!(error.code(), "too_large");
    assert!(error.to_string().contains("queue.batch_pixels"), "{error}");
    // The same picture without guidance takes half of it.
    let plain = ask(&|image| (image.width, image.guidance_scale) = (256, 1.0));
    let four = ask(&|image| image.n = 4);
    for _ in 0..12 {
        bench.open.send(()).unwrap();
    }
    assert!(plain.unwrap().outcome().await.is_ok());
    assert_eq!(four.unwrap().outcome().await.unwrap().images.len(), 4);
    // Never more than one guided row, or one plain row of twice its size, in a call.
    let calls: Vec<_> = bench.calls.try_iter().collect();
    assert_eq!(calls.len(), 10);
    assert!(calls.iter().all(|call| call.len() == 1), "{calls:?}");
}

#[tokio::test]
async fn pictures_that_are_still_to_be_encoded_and_stored_stop_no_ones_step() {
    let bench = Bench::new(small());
    let first = bench.submit("first", "a", 1);
    let second = bench.submit("second", "b", 6);
    while *first.progress().borrow() != Progress::Over {
        bench.call();
    }
    // The first job's pictures lie there, encoded by nobody: the second's steps go on to the end.
    for _ in 0..8 {
        let _ = bench.open.send(());
    }
    assert!(second.outcome().await.is_ok());
    assert_eq!(first.outcome().await.unwrap().images.len(), 1);
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
