//! Where model folders lie, and what they are called.

use std::path::{Path, PathBuf};

/// Model folders at or below `path`, at most two levels down, in order of name.
///
/// A folder counts when it has a `unet` or a `model_index.json`, so that a half-copied one is
/// named and refused rather than overlooked. A repository in a hub cache counts as one level: of
/// its snapshots the one that `refs/main` names, or all where it names none.
pub fn find(path: &Path) -> Vec<PathBuf> {
    fn look(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        if path.join("unet").is_dir() || path.join("model_index.json").is_file() {
            found.push(path.to_owned());
        } else if depth > 0 {
            let below = snapshots(path).unwrap_or_else(|| folders(path));
            below
                .iter()
                .for_each(|folder| look(folder, depth - 1, found));
        }
    }
    let mut found = Vec::new();
    look(path, 2, &mut found);
    found
}

/// What requests call the model in a folder: the folder's name, without that of its format; in a hub cache, the
/// repository's name, since the folder is called by its commit.
pub fn name(path: &Path) -> String {
    let mut folders = path.ancestors().filter(|path| named(path) != Some("onnx"));
    let Some(folder) = folders.find(|path| named(path).is_some()) else {
        return "model".to_owned();
    };
    let own = || {
        let name = folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    repository(folder).map_or_else(own, str::to_owned)
}

fn named(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The name in `…/models--ORGANISATION--NAME/snapshots/COMMIT`.
fn repository(snapshot: &Path) -> Option<&str> {
    let snapshots = snapshot.parent()?;
    let repository = named(snapshots.parent()?)?.strip_prefix("models--")?;
    let (_, name) = repository.rsplit_once("--").unwrap_or(("", repository));
    (named(snapshots)? == "snapshots" && !name.is_empty()).then_some(name)
}

/// The snapshots that count of a repository in a hub cache.
fn snapshots(path: &Path) -> Option<Vec<PathBuf>> {
    named(path)?.strip_prefix("models--")?;
    let all = path.join("snapshots");
    if !all.is_dir() {
        return None;
    }
    let main = std::fs::read_to_string(path.join("refs/main")).unwrap_or_default();
    let main = main.trim();
    let is_commit = !main.is_empty() && main.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let main = all.join(main);
    Some(match is_commit && main.is_dir() {
        true => vec![main],
        false => folders(&all),
    })
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_folder_is_called_by_its_own_name_and_a_snapshot_by_its_repositorys() {
        for (path, expected) in [
            ("/models/tiny", "tiny"),
            ("/models/tiny/onnx", "tiny"),
            ("/models/tiny/onnx/", "tiny"),
            ("/", "model"),
            ("", "model"),
            ("/hub/models--acme--tiny-sd/snapshots/0123abcd", "tiny-sd"),
            (
                "/hub/models--acme--tiny-sd/snapshots/0123abcd/onnx",
                "tiny-sd",
            ),
            ("models--tiny/snapshots/0123", "tiny"),
            // What only looks alike.
            ("/hub/models--acme--/snapshots/0123abcd", "0123abcd"),
            ("/hub/datasets--acme--x/snapshots/0123abcd", "0123abcd"),
            ("/hub/models--acme--x/blobs/0123abcd", "0123abcd"),
            ("/snapshots/0123abcd", "0123abcd"),
        ] {
            assert_eq!(name(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn of_a_repository_in_a_hub_cache_the_main_snapshot_is_found() {
        let hub = tempfile::tempdir().unwrap();
        let repository = hub.path().join("models--acme--tiny");
        let snapshot = |commit: &str| repository.join("snapshots").join(commit);
        for commit in ["aaaa", "bbbb"] {
            std::fs::create_dir_all(snapshot(commit).join("unet")).unwrap();
        }
        std::fs::create_dir_all(repository.join("blobs")).unwrap();
        assert_eq!(find(hub.path()), [snapshot("aaaa"), snapshot("bbbb")]);
        let refs = repository.join("refs");
        std::fs::create_dir_all(&refs).unwrap();
        for (main, expected) in [
            ("bbbb", vec![snapshot("bbbb")]),
            ("bbbb\n", vec![snapshot("bbbb")]),
            ("cccc", vec![snapshot("aaaa"), snapshot("bbbb")]),
            ("../..", vec![snapshot("aaaa"), snapshot("bbbb")]),
            ("", vec![snapshot("aaaa"), snapshot("bbbb")]),
        ] {
            std::fs::write(refs.join("main"), main).unwrap();
            assert_eq!(find(&repository), expected, "{main:?}");
            assert_eq!(find(&repository.join("snapshots")).len(), 2);
            assert_eq!(find(&snapshot("aaaa")), [snapshot("aaaa")]);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_paths_have_a_name(path in "(/?(models--[a-z-]{0,6}|snapshots|onnx|[^/\\x00]{0,6})){0,6}") {
            prop_assert!(!name(Path::new(&path)).is_empty());
        }
    }
}
