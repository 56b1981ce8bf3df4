//! Some 1,450 pictures that crashed, stalled or filled other decoders: each gets an answer of the
//! decoding process, and no decoder may die of one.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::{StreamExt, stream};
use origin::upload::{UploadSettings, Uploads};

use crate::support::{assert_clean, settings};

fn corpora() -> PathBuf {
    let script = concat!(
        "cd ",
        env!("CARGO_MANIFEST_DIR"),
        "/..; . scripts/lib/common.sh; ",
        ". scripts/lib/corpora.sh; fetch_corpora; printf %s \"$CORPORA\""
    );
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().into()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found)
        } else {
            found.push(path)
        }
    }
}

#[tokio::test]
async fn every_hostile_picture_gets_an_answer_and_kills_no_decoder() {
    let mut paths = Vec::new();
    files(&corpora(), &mut paths);
    assert!(paths.len() > 1400, "{} files", paths.len());
    // The answer within five seconds is the service's own rule here, not this test's.
    let uploads = Uploads::new(UploadSettings {
        process_ms: 5_000,
        ..settings()
    })
    .unwrap();
    let answers = stream::iter(paths).map(|path| {
        let (uploads, file) = (uploads.clone(), std::fs::read(&path).unwrap());
        async move { (path, uploads.sanitise(file.into()).await) }
    });
    let answers: Vec<_> = answers.buffer_unordered(4).collect().await;
    let (mut pictures, mut ours) = (0, Vec::new());
    for (path, answer) in answers {
        match answer {
            Ok(image) => {
                assert_clean(&image, &[]);
                pictures += 1;
            }
            Err(error) if error.status() >= 500 => ours.push((path, error)),
            Err(_) => {}
        }
    }
    assert!(ours.is_empty(), "{ours:?}");
    assert!(pictures > 300, "only {pictures} pictures came through");
}

/// All valid files of PngSuite must come through, all broken ones (x*.png) be refused.
#[tokio::test]
async fn pngsuite_is_read_as_its_author_meant() {
    let mut paths = Vec::new();
    files(&corpora().join("libspng"), &mut paths);
    let uploads = Uploads::new(settings()).unwrap();
    let mut seen = (0, 0);
    for path in paths
        .iter()
        .filter(|path| path.to_string_lossy().contains("/images/"))
    {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let answer = uploads.sanitise(std::fs::read(path).unwrap().into()).await;
        if name.starts_with('x') {
            assert!(answer.is_err(), "{name} is broken");
            seen.0 += 1;
        } else if name.len() == 12 {
            answer.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            seen.1 += 1;
        }
    }
    assert!(seen.0 >= 10 && seen.1 >= 150, "{seen:?}");
}
