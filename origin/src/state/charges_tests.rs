//! Tests of [`super`]: a charge is settled with its job, once, by whoever ends it.

use super::*;
use crate::state::jobs::{JobEnd, JobRow};

const DONE: JobEnd = JobEnd::Done {
    queue_ms: 1,
    run_ms: 2,
};

fn job(id: &str) -> JobRow {
    JobRow {
        id: id.into(),
        user_id: "u".into(),
        created: 5,
        request: Some("{}".into()),
        handed_over: true,
        starts: 1,
        key: None,
        milliunits: 1_000,
        charge: JobCharge {
            admitted: 70,
            weight: 4,
            ran: 0,
            spend: Some(format!("s{id}")),
            admission: Some("an address".into()),
        },
        running: false,
        end: None,
    }
}

async fn admitted(state: &State, ids: &[&str]) {
    for id in ids {
        let spend = format!("s{id}");
        state.reserve_spend(&spend, "u", 70, 1_000).await.unwrap();
        state.open_job(job(id)).await.unwrap();
    }
}

async fn spent(state: &State) -> Vec<u64> {
    let spends = state.recover_spends(0).await.unwrap();
    spends.iter().map(|spend| spend.milliunits).collect()
}

#[tokio::test]
async fn what_open_jobs_reserved_outlives_the_process_and_what_no_job_has_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite");
    let state = State::open(&file).unwrap();
    admitted(&state, &["1", "2"]).await;
    state.reserve_spend("lost", "u", 71, 9_000).await.unwrap();
    state.job_ran("1", 300).await.unwrap();
    state.job_ran("1", 200).await.unwrap();
    drop(state);
    let state = State::open(&file).unwrap();
    assert_eq!(spent(&state).await, [1_000, 1_000]);
    assert_eq!(state.places_in_use().await.unwrap(), ["u", "u"]);
    let left = state.adopt_jobs().await.unwrap();
    let charges = left.iter().map(|job| &job.row.charge);
    let told: Vec<_> = charges.map(|it| (it.weight, it.admitted, it.ran)).collect();
    assert_eq!(told, [(4, 70, 300), (4, 70, 0)]);
}

#[tokio::test]
async fn the_end_of_a_job_settles_its_charge_with_it_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("s.sqlite")).unwrap();
    admitted(&state, &["1", "2", "3", "4"]).await;
    assert!(state.end_job("1", DONE, Some(1_000), 9).await.unwrap());
    let cancelled = |id: &'static str, kept| state.end_job(id, JobEnd::Cancelled, kept, 9);
    assert!(cancelled("2", Some(300)).await.unwrap());
    assert!(cancelled("3", None).await.unwrap());
    // Whoever comes second changes nothing.
    for id in ["1", "2", "3"] {
        assert!(!cancelled(id, Some(7)).await.unwrap());
        assert!(!cancelled(id, None).await.unwrap());
    }
    assert_eq!(spent(&state).await, [1_000, 300, 1_000]);
    let costs = ["1", "2", "3", "4"].map(|id| state.job("u", id));
    let jobs = futures_util::future::join_all(costs).await;
    let jobs = jobs.into_iter().map(|job| job.unwrap().unwrap());
    let told: Vec<_> = jobs
        .map(|job| (job.milliunits, job.charge.admission.is_some()))
        .collect();
    // The address that stands in an admission goes with the request.
    assert_eq!(
        told,
        [(1_000, false), (300, false), (0, false), (1_000, true)]
    );
    assert_eq!(state.places_in_use().await.unwrap(), ["u"]);
}

#[tokio::test]
async fn another_process_settles_what_it_took_over_and_the_one_before_it_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite");
    let (one, other) = (State::open(&file).unwrap(), State::open(&file).unwrap());
    admitted(&one, &["1"]).await;
    assert_eq!(other.adopt_jobs().await.unwrap().len(), 1);
    assert!(!one.end_job("1", DONE, None, 9).await.unwrap());
    assert!(other.end_job("1", DONE, Some(1_000), 9).await.unwrap());
    assert_eq!(spent(&other).await, [1_000]);
}

#[tokio::test]
async fn a_job_that_the_queue_refused_leaves_no_charge() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("s.sqlite")).unwrap();
    admitted(&state, &["1"]).await;
    state.forget_job("1").await.unwrap();
    assert_eq!(spent(&state).await, [0u64; 0]);
}
