//! The folder: the suite, and what only a folder can get wrong.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use origin::storage::{StorageSettings, Store};
use tempfile::TempDir;

use crate::suite::{self, key, noise, read};

pub struct Fixture {
    pub store: Store,
    folder: TempDir,
}

async fn open() -> Fixture {
    let folder = TempDir::new().unwrap();
    let store = open_at(&folder.path().join("objects")).await.unwrap();
    Fixture { store, folder }
}

async fn open_at(path: &Path) -> Result<Store, origin::storage::StoreError> {
    Store::open(&StorageSettings {
        folder: path.into(),
        ..StorageSettings::default()
    })
    .await
}

impl Fixture {
    fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join("objects").join(rest)
    }
}

suite::conforms!(open);

#[tokio::test]
async fn a_link_in_the_folder_is_never_followed() {
    let fixture = open().await;
    let (store, outside) = (&fixture.store, fixture.folder.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.png"), "secret").unwrap();
    store
        .put(&key("generated/u/real.png"), noise(3, 1))
        .await
        .unwrap();
    symlink(&outside, fixture.path("generated/evil")).unwrap();
    symlink(outside.join("a.png"), fixture.path("generated/u/evil.png")).unwrap();

    for text in ["generated/evil/a.png", "generated/u/evil.png"] {
        let key = key(text);
        assert_eq!(
            store.get(&key, None).await.unwrap_err().code(),
            "not_found",
            "{text}"
        );
        assert_eq!(
            store.head(&key).await.unwrap_err().code(),
            "not_found",
            "{text}"
        );
        let moved = store.rename(&key, &super::suite::key("kept/u/x.png")).await;
        assert_eq!(moved.unwrap_err().code(), "not_found", "{text}");
        store.delete(&key).await.unwrap();
    }
    assert!(
        store
            .put(&key("generated/evil/b.png"), noise(3, 1))
            .await
            .is_err()
    );
    assert!(!outside.join("b.png").exists());
    // Writing over a link replaces the link itself.
    store
        .put(&key("generated/u/evil.png"), noise(3, 2))
        .await
        .unwrap();
    assert_eq!(fs::read(outside.join("a.png")).unwrap(), b"secret");
    let listing = store.list("", None, 100).await.unwrap();
    assert_eq!(listing.foreign, ["generated/evil"]);
    assert_eq!(listing.objects.len(), 2);
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let fixture = open().await;
    fixture
        .store
        .put(&key("generated/u/a.png"), noise(3, 1))
        .await
        .unwrap();
    for (path, mode) in [
        ("", 0o700),
        ("generated", 0o700),
        ("generated/u", 0o700),
        ("generated/u/a.png", 0o600),
    ] {
        let found = fs::metadata(fixture.path(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(found, mode, "{path}");
    }
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_not_listed() {
    let fixture = open().await;
    let leftover = fixture
        .path("~partial")
        .join(format!("{}-0", std::process::id()));
    fs::write(&leftover, "half").unwrap();
    fixture
        .store
        .put(&key("generated/u/a.png"), noise(3, 1))
        .await
        .unwrap();
    let listing = fixture.store.list("", None, 100).await.unwrap();
    assert_eq!((listing.objects.len(), listing.foreign.len()), (1, 0));
    assert_eq!(
        fs::read_dir(fixture.path("~partial")).unwrap().count(),
        1,
        "ours went away"
    );
}

#[tokio::test]
async fn foreign_names_are_listed_apart() {
    let fixture = open().await;
    fixture
        .store
        .put(&key("generated/u/a.png"), noise(3, 1))
        .await
        .unwrap();
    fs::write(fixture.path("generated/u/holiday photo.png"), "x").unwrap();
    fs::create_dir(fixture.path("lost+found")).unwrap();
    fs::write(fixture.path("lost+found/b.png"), "x").unwrap();
    let (mut objects, mut foreign, mut cursor) = (0, Vec::new(), None::<String>);
    loop {
        let page = fixture.store.list("", cursor.as_deref(), 1).await.unwrap();
        objects += page.objects.len();
        foreign.extend(page.foreign);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(foreign, ["generated/u/holiday photo.png", "lost+found/"]);
    assert_eq!(objects, 1);
}

#[tokio::test]
async fn an_object_is_no_folder_and_a_folder_no_object() {
    let fixture = open().await;
    let store = &fixture.store;
    store
        .put(&key("generated/u/a.png"), noise(3, 1))
        .await
        .unwrap();
    let below = store
        .put(&key("generated/u/a.png/b.png"), noise(3, 1))
        .await;
    assert_eq!(below.unwrap_err().code(), "exists");
    assert_eq!(
        store
            .put(&key("generated/u"), noise(3, 1))
            .await
            .unwrap_err()
            .code(),
        "exists"
    );
    assert_eq!(
        store
            .create(&key("generated/u"), noise(3, 1))
            .await
            .unwrap_err()
            .code(),
        "exists"
    );
    assert_eq!(
        store
            .get(&key("generated/u"), None)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    store.delete(&key("generated/u")).await.unwrap();
    assert!(read(store, &key("generated/u/a.png")).await.is_ok());
    assert_eq!(fs::read_dir(fixture.path("~partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_named_pipe_does_not_hold_a_reader() {
    let fixture = open().await;
    fixture
        .store
        .put(&key("generated/u/a.png"), noise(3, 1))
        .await
        .unwrap();
    let pipe = fixture.path("generated/u/pipe.png");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let read = fixture.store.get(&key("generated/u/pipe.png"), None).await;
    assert_eq!(read.unwrap_err().code(), "not_found");
}

#[tokio::test]
async fn a_file_that_was_cut_short_while_it_is_read_is_corrupt() {
    let fixture = open().await;
    let key = key("generated/u/a.png");
    fixture.store.put(&key, noise(1_000_000, 1)).await.unwrap();
    let object = fixture.store.get(&key, None).await.unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(fixture.path(key.as_str()))
        .unwrap();
    file.set_len(500_000).unwrap();
    assert_eq!(object.body.collect().await.unwrap_err().code(), "corrupt");
}

#[tokio::test]
async fn a_root_that_is_a_file_is_a_settings_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(open_at(file.path()).await.unwrap_err().code(), "settings");
}

#[tokio::test]
async fn a_root_that_went_away_is_a_missing_bucket() {
    let fixture = open().await;
    fs::remove_dir_all(fixture.path("")).unwrap();
    let put = fixture
        .store
        .put(&key("generated/u/a.png"), noise(3, 1))
        .await;
    assert_eq!(put.unwrap_err().code(), "missing_bucket");
    assert_eq!(
        fixture.store.check().await.unwrap_err().code(),
        "missing_bucket"
    );
}

/// The test runs itself again inside a mount namespace of its own, where a tiny disk is the root.
#[test]
fn a_full_disk_is_full_and_leaves_nothing_behind() {
    let disk = TempDir::new().unwrap();
    let script = r#"mount -t tmpfs -o size=256k tmpfs "$1" && SIGNET_TEST_DISK="$1" exec "$2" --exact folder::on_a_small_disk --ignored"#;
    let run = std::process::Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "a_full_disk_is_full_and_leaves_nothing_behind runs it on a small disk"]
async fn on_a_small_disk() {
    let disk = PathBuf::from(std::env::var_os("SIGNET_TEST_DISK").unwrap());
    let store = open_at(&disk).await.unwrap();
    let (small, large) = (key("generated/u/a.png"), key("generated/u/b.png"));
    store.put(&small, noise(1000, 1)).await.unwrap();
    assert_eq!(
        store
            .put(&large, noise(1 << 20, 2))
            .await
            .unwrap_err()
            .code(),
        "full"
    );
    assert_eq!(
        store
            .put(&small, noise(1 << 20, 2))
            .await
            .unwrap_err()
            .code(),
        "full"
    );
    assert_eq!(store.head(&large).await.unwrap_err().code(), "not_found");
    assert!(read(&store, &small).await.unwrap() == noise(1000, 1));
    assert_eq!(fs::read_dir(disk.join("~partial")).unwrap().count(), 0);
    store.put(&large, noise(1000, 3)).await.unwrap();
}
