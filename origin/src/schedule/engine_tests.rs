//! The queue over the real engine and the tiny pipeline.

use super::*;
use crate::infer::{Device, Engine};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn engine() -> Arc<Engine> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/engine/model");
    let settings = crate::infer::Settings {
        models: vec![model],
        device: Device::Cpu,
        ..crate::infer::Settings::default()
    };
    Arc::new(Engine::load(&settings).expect("run `scripts/test` once"))
}

#[tokio::test]
async fn pictures_made_through_the_queue_by_many_users_are_those_made_alone() {
    let engine = engine();
    let queue = Queue::start(Arc::clone(&engine), Settings::default(), Box::new(|_| {})).unwrap();
    let specs: Vec<_> = (0..12usize)
        .map(|i| {
            let mut spec = engine.models()[0].spec(["a red apple", "the heart"][i % 2], i as u64);
            spec.steps = 3 + i % 4;
            spec.guidance_scale = [1.0, 5.0, 7.5][i % 3];
            spec
        })
        .collect();
    let jobs: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            let job = JobSpec {
                image: spec.clone(),
                deadline: None,
            };
            queue.submit(job, &format!("user-{}", i % 5), 1).unwrap()
        })
        .collect();
    for (job, spec) in jobs.into_iter().zip(&specs) {
        let together = job.outcome().await.unwrap().images;
        let alone = engine
            .generate(spec, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!(together, alone, "{spec:?}");
    }
    let stats = queue.stats();
    assert_eq!(
        (stats.queued, stats.running, stats.backlog_milliunits),
        (0, 0, 0)
    );
    assert!(stats.milliunits_per_second > 0.0);
    queue.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_job_longer_than_the_longest_wait_allows_behind_others_is_told_when_to_come_back() {
    let engine = engine();
    let settings = Settings {
        longest_wait_seconds: 0,
        ..Settings::default()
    };
    let queue = Queue::start(Arc::clone(&engine), settings, Box::new(|_| {})).unwrap();
    let mut long = engine.models()[0].spec("a red apple", 1);
    long.steps = 100;
    long.n = 4;
    let job = |image: &crate::infer::ImageSpec| JobSpec {
        image: image.clone(),
        deadline: None,
    };
    let first = queue.submit(job(&long), "a", 1).unwrap();
    // The rate is measured on the engine's thread before it takes the first job.
    let mut progress = first.progress();
    progress
        .wait_for(|now| matches!(now, Progress::Running { .. }))
        .await
        .unwrap();
    let error = queue.submit(job(&long), "a", 1).unwrap_err();
    assert_eq!(error.code(), "queue_busy");
    assert!(error.retry_after_seconds() >= 1);
    drop(first);
}

#[tokio::test]
async fn a_watched_job_shows_small_pictures_on_the_way_and_ends_the_same() {
    let engine = engine();
    let queue = Queue::start(Arc::clone(&engine), Settings::default(), Box::new(|_| {})).unwrap();
    let image = engine.models()[0].spec("a red apple", 3);
    let job = queue
        .submit(
            JobSpec {
                image: image.clone(),
                deadline: None,
            },
            "a",
            1,
        )
        .unwrap();
    let previews = job.previews();
    let done = job.outcome().await.unwrap();
    let preview = previews.borrow().clone().expect("a preview");
    assert_eq!(
        (preview.width, preview.height),
        (image.width / 2, image.height / 2)
    );
    let alone = engine
        .generate(&image, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(done.images, alone);
}
