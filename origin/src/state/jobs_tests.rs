//! Tests of [`super`]: jobs as they are written down.

use super::*;

fn job(id: &str, key: Option<&str>) -> JobRow {
    JobRow {
        id: id.into(),
        user_id: "u".into(),
        created: 5,
        request: Some("a purple secret".into()),
        handed_over: false,
        starts: 1,
        key: key.map(|name| RequestKey {
            name: name.into(),
            body_mac: "m".into(),
        }),
        milliunits: 1500,
        charge: JobCharge::default(),
        running: false,
        end: None,
    }
}

impl State {
    /// Jobs without an end, oldest first.
    async fn open_jobs(&self) -> Result<Vec<JobRow>, StateError> {
        self.transact(|tx| {
            let sql = format!("SELECT {COLUMNS} FROM jobs WHERE status = 'open' ORDER BY id");
            let mut statement = tx.prepare(&sql)?;
            let rows = statement.query_map([], read)?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }
}

fn state() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("s.sqlite")).unwrap();
    (folder, state)
}

#[tokio::test]
async fn a_job_is_open_until_it_ends_and_ends_once() {
    let (_folder, state) = state();
    state.open_job(job("1", None)).await.unwrap();
    assert_eq!(state.open_jobs().await.unwrap(), [job("1", None)]);
    assert_eq!(state.job("v", "1").await.unwrap(), None);
    state
        .end_job("1", JobEnd::Cancelled, Some(700), 9)
        .await
        .unwrap();
    let done = JobEnd::Done {
        queue_ms: 1,
        run_ms: 2,
    };
    state.end_job("1", done, Some(700), 10).await.unwrap();
    let found = state.job("u", "1").await.unwrap().unwrap();
    assert_eq!(found.end, Some(JobEnd::Cancelled));
    assert_eq!(found.request, None);
    assert_eq!(state.open_jobs().await.unwrap(), []);
}

#[tokio::test]
async fn a_failure_of_ours_frees_the_key_and_another_keeps_it() {
    let (_folder, state) = state();
    for (id, retry) in [("1", true), ("2", false)] {
        state.open_job(job(id, Some("k"))).await.unwrap();
        let code = "x".to_owned();
        let end = JobEnd::Failed { code, retry };
        state.end_job(id, end.clone(), Some(700), 9).await.unwrap();
        let found = state.job("u", id).await.unwrap().unwrap();
        assert_eq!(found.end, Some(end));
        let by_key = state.job_by_key("u", "k").await.unwrap();
        assert_eq!(by_key.is_none(), retry);
    }
    assert!(state.open_job(job("3", Some("k"))).await.is_err());
}

#[tokio::test]
async fn old_jobs_are_forgotten_and_open_ones_never() {
    let (_folder, state) = state();
    state.open_job(job("1", Some("k"))).await.unwrap();
    state.open_job(job("2", None)).await.unwrap();
    state
        .end_job("1", JobEnd::Cancelled, Some(700), 9)
        .await
        .unwrap();
    assert_eq!(state.forget_old_jobs(5).await.unwrap(), 0);
    assert_eq!(state.forget_old_jobs(6).await.unwrap(), 1);
    assert_eq!(state.job_by_key("u", "k").await.unwrap(), None);
    assert_eq!(state.open_jobs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_ended_jobs_prompt_is_nowhere_in_the_file() {
    let (folder, state) = state();
    state.open_job(job("1", None)).await.unwrap();
    state
        .end_job("1", JobEnd::Cancelled, Some(700), 9)
        .await
        .unwrap();
    state
        .transact(|tx| Ok(tx.query_row("SELECT 1", [], |_| Ok(()))?))
        .await
        .unwrap();
    drop(state);
    // The connection closes with its thread, which folds the journal into the file.
    let file = folder.path().join("s.sqlite");
    let journal = folder.path().join("s.sqlite-wal");
    while journal.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let bytes = std::fs::read(file).unwrap();
    assert!(!bytes.windows(13).any(|piece| piece == b"purple secret"));
}
