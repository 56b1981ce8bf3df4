//! Every difference between store and ledger, made by hand and swept.

use bytes::Bytes;
use shared::object_key::ObjectKey;
use tempfile::TempDir;

use super::*;
use crate::state::images::ImageRow;
use crate::storage::StorageSettings;

const DAY: u64 = 24 * 3600;

struct Home {
    folder: TempDir,
    store: Store,
    state: State,
    next: std::cell::Cell<u32>,
}

async fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let settings = StorageSettings {
        folder: folder.path().join("objects"),
        ..StorageSettings::default()
    };
    Home {
        store: Store::open(&settings).await.unwrap(),
        state: State::open(&folder.path().join("s.sqlite")).unwrap(),
        next: std::cell::Cell::new(0),
        folder,
    }
}

/// A key of our layout.
fn key(prefix: &str, n: u32) -> ObjectKey {
    ObjectKey::parse(&format!("{prefix}/u/01a206a6-04f2-7cb5-b4b6-{n:012x}.png")).unwrap()
}

impl Home {
    fn fresh(&self) -> u32 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    async fn object(&self, key: &ObjectKey, bytes: usize) {
        let bytes = Bytes::from(vec![7; bytes]);
        self.store.put(key, bytes).await.unwrap();
    }

    /// A row of ten bytes that lives so many days from now; none for ever.
    async fn row(&self, key: &ObjectKey, days: Option<u64>) -> ImageRow {
        let now = Clock::System.seconds();
        let row = ImageRow {
            id: format!("id{}", self.fresh()),
            user_id: "u".into(),
            key: key.clone(),
            width: 1,
            height: 1,
            format: "png".into(),
            bytes: 10,
            seed: 0,
            model: String::new(),
            job_id: None,
            created: now,
            expires: days.map(|days| now + days * DAY),
        };
        let rows = vec![row.clone()];
        self.state.reserve_images(rows, 1 << 30).await.unwrap();
        row
    }

    async fn listed(&self, key: &ObjectKey, days: Option<u64>) -> ImageRow {
        let row = self.row(key, days).await;
        self.state
            .commit_images(vec![row.id.clone()])
            .await
            .unwrap();
        row
    }

    async fn whole(&self, prefix: &str, days: Option<u64>) -> ObjectKey {
        let key = key(prefix, self.fresh());
        self.object(&key, 10).await;
        self.listed(&key, days).await;
        key
    }

    fn sweep(&self, days: u64) -> Sweep {
        Sweep {
            store: self.store.clone(),
            state: self.state.clone(),
            clock: Clock::manual(Clock::System.seconds() + days * DAY),
            settings: SweepSettings::default(),
            dry_run: false,
            cursor_file: Some(self.folder.path().join("cursor")),
        }
    }

    async fn has(&self, key: &ObjectKey) -> bool {
        self.store.head(key).await.is_ok()
    }

    async fn stored_bytes(&self) -> u64 {
        self.state.user("u").await.unwrap().stored_bytes
    }
}

fn quiet(report: &Report) -> Report {
    Report {
        objects: report.objects,
        bytes: report.bytes,
        rows: report.rows,
        ..Report::default()
    }
}

#[tokio::test]
async fn what_is_in_its_place_stays() {
    let home = home().await;
    for prefix in ["generated", "uploads", "kept"] {
        home.whole(prefix, (prefix != "kept").then_some(30)).await;
    }
    let report = home.sweep(29).run(|_| ()).await.unwrap();
    assert_eq!((report.objects, report.rows), (3, 3));
    assert_eq!(report, quiet(&report));
    assert_eq!(home.stored_bytes().await, 30);
}

#[tokio::test]
async fn what_has_expired_goes_with_its_row_and_its_bytes() {
    let home = home().await;
    let (old, kept) = (
        home.whole("generated", Some(30)).await,
        home.whole("kept", None).await,
    );
    let upload = home.whole("uploads", Some(30)).await;
    let preview = ObjectKey::parse("temp/job.png").unwrap();
    home.object(&preview, 4).await;
    let report = home.sweep(31).run(|_| ()).await.unwrap();
    assert_eq!((report.expired, report.freed), (3, 24));
    assert!(!home.has(&old).await && !home.has(&upload).await && !home.has(&preview).await);
    assert!(home.has(&kept).await);
    assert_eq!(home.stored_bytes().await, 10);
    let again = home.sweep(31).run(|_| ()).await.unwrap();
    assert_eq!(again, quiet(&again));
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_changes_nothing() {
    let home = home().await;
    let old = home.whole("generated", Some(30)).await;
    home.listed(&key("generated", home.fresh()), Some(60)).await;
    home.object(&key("kept", home.fresh()), 5).await;
    let dry = Sweep {
        dry_run: true,
        settings: SweepSettings {
            remove_orphans: true,
            ..SweepSettings::default()
        },
        ..home.sweep(31)
    };
    let first = dry.run(|_| ()).await.unwrap();
    assert_eq!((first.expired, first.missing, first.orphans), (1, 1, 1));
    assert_eq!(dry.run(|_| ()).await.unwrap(), first);
    assert!(home.has(&old).await);
    assert_eq!(home.stored_bytes().await, 20);
}

#[tokio::test]
async fn orphans_are_told_and_go_only_where_that_is_wanted_and_never_young() {
    let home = home().await;
    let orphan = key("kept", home.fresh());
    home.object(&orphan, 5).await;
    let report = home.sweep(0).run(|_| ()).await.unwrap();
    assert_eq!((report.orphans, report.in_flight), (0, 1), "it is young");
    let report = home.sweep(400).run(|_| ()).await.unwrap();
    assert_eq!((report.orphans, report.orphans_removed), (1, 0));
    assert!(home.has(&orphan).await);
    let bold = Sweep {
        settings: SweepSettings {
            remove_orphans: true,
            ..SweepSettings::default()
        },
        ..home.sweep(2)
    };
    let report = bold.run(|_| ()).await.unwrap();
    assert_eq!((report.orphans_removed, report.freed), (1, 5));
    assert!(!home.has(&orphan).await);
}

#[tokio::test]
async fn an_orphan_of_a_passing_kind_goes_at_the_end_of_its_life() {
    let home = home().await;
    let orphan = key("generated", home.fresh());
    home.object(&orphan, 5).await;
    assert_eq!(home.sweep(29).run(|_| ()).await.unwrap().orphans, 1);
    assert_eq!(home.sweep(30).run(|_| ()).await.unwrap().expired, 1);
    assert!(!home.has(&orphan).await);
}

#[tokio::test]
async fn what_has_no_name_of_ours_is_left_alone() {
    let home = home().await;
    let names = [
        "generated/u/holiday.png",
        "backup/a.tar",
        "generated/u/a b.png",
        "notes~",
    ];
    for name in names {
        let path = home.folder.path().join("objects").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "mine").unwrap();
    }
    let bold = Sweep {
        settings: SweepSettings {
            remove_orphans: true,
            ..SweepSettings::default()
        },
        ..home.sweep(4000)
    };
    let report = bold.run(|_| ()).await.unwrap();
    assert_eq!((report.foreign, report.orphans, report.freed), (4, 0, 0));
    for name in names {
        assert!(
            home.folder.path().join("objects").join(name).exists(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_a_crash_left_between_two_steps_is_settled() {
    let home = home().await;
    // Reserved, and the object whole, cut short, or never written.
    let (whole, short, never) = (
        key("generated", 101),
        key("generated", 102),
        key("uploads", 103),
    );
    home.object(&whole, 10).await;
    home.object(&short, 3).await;
    let row = home.row(&whole, Some(60)).await;
    home.row(&short, Some(60)).await;
    home.row(&never, Some(60)).await;
    // A deletion that was begun.
    let going = key("generated", 104);
    home.object(&going, 10).await;
    let going_row = home.listed(&going, Some(60)).await;
    home.state.unlist_images(vec![going_row.id]).await.unwrap();
    // A move whose row did not follow, and one whose first copy stayed.
    let moved = key("kept", 105);
    home.object(&moved, 10).await;
    let moved_row = home.listed(&key("generated", 105), Some(60)).await;
    let doubled = key("kept", 106);
    home.object(&doubled, 10).await;
    home.object(&key("generated", 106), 10).await;
    home.listed(&doubled, None).await;

    let young = home.sweep(0).run(|_| ()).await.unwrap();
    assert_eq!(
        (young.settled, young.in_flight),
        (2, 5),
        "only a deletion and a move are sure"
    );
    let report = home.sweep(2).run(|_| ()).await.unwrap();
    assert_eq!(report.settled, 4);
    assert!(home.state.image("u", &row.id).await.unwrap().is_some());
    assert!(!home.has(&short).await && !home.has(&going).await);
    assert!(home.has(&moved).await && home.has(&doubled).await);
    assert!(!home.has(&key("generated", 106)).await);
    let followed = home.state.image("u", &moved_row.id).await.unwrap().unwrap();
    assert_eq!((followed.key, followed.expires), (moved, None));
    assert_eq!(home.stored_bytes().await, 30);
    let again = home.sweep(2).run(|_| ()).await.unwrap();
    assert_eq!(again, quiet(&again));
}

#[tokio::test]
async fn rows_without_objects_and_wrong_sizes_are_corrected() {
    let home = home().await;
    home.listed(&key("generated", home.fresh()), Some(60)).await;
    let resized = key("kept", home.fresh());
    home.object(&resized, 25).await;
    home.listed(&resized, None).await;
    assert_eq!(home.stored_bytes().await, 20);
    let report = home.sweep(0).run(|_| ()).await.unwrap();
    assert_eq!((report.missing, report.resized), (1, 1));
    assert_eq!(report.usage_corrected, 1);
    assert_eq!(home.stored_bytes().await, 25);
}

#[tokio::test]
async fn half_written_objects_go_when_they_are_old() {
    let home = home().await;
    let left = home.folder.path().join("objects/~partial/1-1");
    std::fs::write(&left, "half").unwrap();
    let report = home.sweep(0).run(|_| ()).await.unwrap();
    assert_eq!((report.half_written, report.in_flight), (0, 1));
    let report = home.sweep(2).run(|_| ()).await.unwrap();
    assert_eq!((report.half_written, report.freed), (1, 4));
    assert!(!left.exists());
}

#[tokio::test]
async fn an_interrupted_sweep_goes_on_where_it_was() {
    let home = home().await;
    let mut keys = Vec::new();
    for _ in 0..2500 {
        keys.push(key("generated", home.fresh()));
    }
    // Not through the store, which would sync each.
    let folder = home.folder.path().join("objects");
    std::fs::create_dir_all(folder.join("generated/u")).unwrap();
    for key in &keys {
        std::fs::write(folder.join(key.as_str()), "x").unwrap();
    }
    let sweep = home.sweep(31);
    // Dropped in the middle of the second page, as when the process is stopped.
    let mut pages = 0;
    {
        let run = sweep.run(|_| {
            pages += 1;
            assert!(pages < 2, "stopped");
        });
        let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(run));
        assert!(caught.await.is_err());
    }
    let report = sweep.run(|_| ()).await.unwrap();
    assert_eq!(report.resumed.as_deref(), Some(keys[999].as_str()));
    assert_eq!(
        report.objects, 500,
        "the second page was worked on, and is seen no more"
    );
    for key in &keys {
        assert!(!home.has(key).await);
    }
    let report = sweep.run(|_| ()).await.unwrap();
    assert_eq!((report.resumed, report.objects), (None, 0));
}

#[tokio::test]
async fn a_note_of_long_ago_or_of_nonsense_is_forgotten() {
    let home = home().await;
    home.whole("generated", Some(30)).await;
    for note in [
        "nonsense".to_owned(),
        r#"{"after":"zzz","noted":5}"#.to_owned(),
    ] {
        std::fs::write(home.folder.path().join("cursor"), note).unwrap();
        let report = home.sweep(1).run(|_| ()).await.unwrap();
        assert_eq!((report.objects, report.resumed), (1, None));
    }
}

#[tokio::test]
async fn while_the_shared_state_is_away_nothing_is_removed() {
    let mut server = crate::test_redis::Server::start();
    let mut home = home().await;
    home.state = State::of(&crate::state::StateSettings {
        file: home.folder.path().join("shared.sqlite"),
        ..crate::state::StateSettings::at(server.url())
    })
    .unwrap();
    let expired = home.whole("generated", Some(1)).await;
    server.kill();
    let swept = home.sweep(3).run(|_| ()).await;
    assert!(swept.unwrap_err().to_string().contains("state.url"));
    assert!(home.has(&expired).await);
    server.again();
    // It is noticed within a second.
    let swept = async || home.sweep(3).run(|_| ()).await.is_ok();
    while !swept().await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!home.has(&expired).await);
}
