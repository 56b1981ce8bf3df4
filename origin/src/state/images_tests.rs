//! Tests of [`super`]: pictures and the bytes they count.

use super::*;

impl State {
    /// Rows whose objects may or may not be there.
    async fn pending_images(&self) -> Result<Vec<ImageRow>, StateError> {
        self.transact(|tx| {
            let sql = format!("SELECT {COLUMNS} FROM images WHERE stored = {PENDING}");
            let mut statement = tx.prepare(&sql)?;
            let rows = statement.query_map([], read)?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }
}

fn row(n: u32, bytes: u64) -> ImageRow {
    ImageRow {
        id: format!("{n:04}"),
        user_id: "u".into(),
        key: ObjectKey::parse(&format!("generated/u/{n:04}.png")).unwrap(),
        width: 8,
        height: 8,
        format: "png".into(),
        bytes,
        seed: u64::MAX - 1,
        model: "m".into(),
        created: 5,
        expires: Some(9),
        job_id: None,
    }
}

fn state() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("a/s.sqlite")).unwrap();
    (folder, state)
}

#[tokio::test]
async fn a_picture_is_listed_from_its_commit_to_its_removal() {
    let (_folder, state) = state();
    state.reserve_images(vec![row(1, 10)], 100).await.unwrap();
    assert_eq!(state.images("u", None, 10).await.unwrap().0, []);
    assert_eq!(state.pending_images().await.unwrap(), [row(1, 10)]);
    state.commit_images(vec!["0001".into()]).await.unwrap();
    assert_eq!(state.image("u", "0001").await.unwrap(), Some(row(1, 10)));
    assert_eq!(state.image("v", "0001").await.unwrap(), None);
    assert_eq!(state.remove_image("v", "0001").await.unwrap(), None);
    assert_eq!(state.user("u").await.unwrap().stored_bytes, 10);
    assert!(state.remove_image("u", "0001").await.unwrap().is_some());
    assert_eq!(state.remove_image("u", "0001").await.unwrap(), None);
    assert_eq!(state.user("u").await.unwrap().stored_bytes, 0);
}

#[tokio::test]
async fn five_hundred_writers_never_pass_the_quota_by_a_byte() {
    let (_folder, state) = state();
    let tasks: Vec<_> = (0..500)
        .map(|n| {
            let state = state.clone();
            tokio::spawn(async move { state.reserve_images(vec![row(n, 7)], 1000).await })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => granted += 1,
            Err(error) => assert!(
                matches!(error, StateError::OverQuota { limit: 1000, .. }),
                "{error}"
            ),
        }
    }
    assert_eq!(granted, 142);
    assert_eq!(state.user("u").await.unwrap().stored_bytes, 994);
}

#[tokio::test]
async fn several_pictures_are_charged_together_or_not_at_all() {
    let (_folder, state) = state();
    assert!(
        state
            .reserve_images(vec![row(1, 60), row(2, 60)], 100)
            .await
            .is_err()
    );
    assert_eq!(state.user("u").await.unwrap().stored_bytes, 0);
    assert_eq!(state.pending_images().await.unwrap(), []);
}

#[tokio::test]
async fn a_picture_that_is_being_deleted_moves_no_more() {
    let (_folder, state) = state();
    state.reserve_images(vec![row(1, 1)], 100).await.unwrap();
    state.commit_images(vec!["0001".into()]).await.unwrap();
    let to = row(1, 1).key.counterpart().unwrap();
    assert!(state.move_image("0001", &to, None).await.unwrap());
    state.unlist_image("u", "0001").await.unwrap();
    assert!(!state.move_image("0001", &to, None).await.unwrap());
}

#[tokio::test]
async fn pages_hold_every_picture_once_newest_first() {
    let (_folder, state) = state();
    for n in 0..7 {
        state.reserve_images(vec![row(n, 1)], 100).await.unwrap();
        state.commit_images(vec![format!("{n:04}")]).await.unwrap();
    }
    let (first, more) = state.images("u", None, 4).await.unwrap();
    assert!(more);
    let (second, more) = state.images("u", Some(&first[3].id), 4).await.unwrap();
    assert!(!more);
    let ids: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|row| row.id.clone())
        .collect();
    assert_eq!(
        ids,
        ["0006", "0005", "0004", "0003", "0002", "0001", "0000"]
    );
}

#[tokio::test]
async fn files_that_cannot_work_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.sqlite");
    std::fs::write(
        &file,
        b"this is no database, it is a text of some length........................................",
    )
    .unwrap();
    let error = State::open(&file).unwrap_err();
    assert_eq!(error.code(), "state_damaged");
    assert!(error.to_string().contains("x.sqlite"), "{error}");
    let newer = folder.path().join("new.sqlite");
    drop(State::open(&newer).unwrap());
    rusqlite::Connection::open(&newer)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert_eq!(State::open(&newer).unwrap_err().code(), "state_too_new");
}

#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d/s.sqlite");
    drop(State::open(&file).unwrap());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        file.parent()
            .unwrap()
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
}
