//! Several engines side by side.

use super::clockwork::{Bench, small, spec};
use super::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn wish(prompt: &str, steps: usize) -> JobSpec {
    JobSpec {
        image: spec(prompt, steps),
        deadline: None,
    }
}

/// Two engines that stand still before each call.
fn two() -> ([Bench; 2], impl Fn(&str, &str, usize) -> Option<JobHandle>) {
    let benches = [Bench::new(small()), Bench::new(small())];
    let cards = Cards::start(benches.each_ref().map(Bench::work), |work| {
        let bench = benches
            .iter()
            .find(|bench| Arc::ptr_eq(&bench.work(), &work));
        Ok(bench.unwrap().queue.clone())
    })
    .unwrap();
    let submit = move |prompt: &str, user: &str, steps: usize| {
        let wish = wish(prompt, steps);
        let queue = cards.best(&wish.image, user, 1)?;
        queue.submit(wish, user, 1).ok()
    };
    (benches, submit)
}

fn load(benches: &[Bench; 2]) -> [usize; 2] {
    benches.each_ref().map(|bench| {
        let stats = bench.queue.stats();
        stats.queued + stats.running
    })
}

#[test]
fn jobs_go_where_they_end_first() {
    let (benches, submit) = two();
    let _jobs: Vec<_> = (0..6).map(|_| submit("x", "flood", 10).unwrap()).collect();
    assert_eq!(load(&benches), [3, 3], "one user's jobs are spread");
    // One engine has less to do from now on.
    let _long = submit("long", "flood", 40).unwrap();
    let before = load(&benches);
    let idle = usize::from(before[0] > before[1]);
    let _more = submit("x", "flood", 10).unwrap();
    assert_eq!(load(&benches)[idle], before[idle] + 1);
}

#[test]
fn a_job_whose_model_only_one_engine_has_goes_there() {
    let (benches, submit) = two();
    benches[0].inside.has_no_model.store(true, Ordering::SeqCst);
    let _jobs: Vec<_> = (0..4).map(|_| submit("x", "a", 5).unwrap()).collect();
    assert_eq!(load(&benches), [0, 4]);
    benches[1].inside.has_no_model.store(true, Ordering::SeqCst);
    assert!(submit("x", "a", 5).is_none(), "no engine has it");
}

/// Memory that one lacks and the other has.
#[test]
fn a_picture_too_large_for_one_engine_goes_to_the_other() {
    let (benches, submit) = two();
    benches[0].inside.is_full.store(true, Ordering::SeqCst);
    let _large: Vec<_> = (0..3).map(|_| submit("x", "a", 5).unwrap()).collect();
    assert_eq!(load(&benches), [0, 3]);
    benches[1].inside.is_full.store(true, Ordering::SeqCst);
    assert!(submit("x", "a", 5).is_none(), "refused, as on one engine");
}
