//! Lifecycle rules of a real S3 server: ours beside the operator's.

use std::process::Command;

use origin::storage::lifecycle::{Plan, wanted};
use origin::storage::{S3Store, StorageSettings, StoreKind};

use crate::servers;

/// A bucket of its own, with two rules of its operator's, one in the old spelling.
const THEIRS: &str = "<LifecycleConfiguration>\
    <Rule><ID>logs</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag>\
    <Tag><Key>c</Key><Value>d</Value></Tag></And></Filter><Expiration><Days>9</Days></Expiration></Rule>\
    <Rule><ID>all</ID><Status>Enabled</Status><Prefix></Prefix>\
    <Expiration><Days>400</Days></Expiration></Rule></LifecycleConfiguration>";

fn bucket(name: &str) -> StorageSettings {
    let endpoint = &servers::moto().endpoint;
    servers::by_hand(endpoint, "PUT", &format!("/{name}"), "");
    let mut s3 = servers::settings(endpoint);
    s3.bucket = name.into();
    StorageSettings {
        kind: StoreKind::S3,
        s3,
        ..StorageSettings::default()
    }
}

#[tokio::test]
async fn our_rules_come_beside_the_operators_and_are_read_back() {
    let settings = tokio::task::spawn_blocking(|| {
        let settings = bucket("lifecycle-merge");
        let target = "/lifecycle-merge?lifecycle";
        servers::by_hand(&servers::moto().endpoint, "PUT", target, THEIRS);
        settings
    })
    .await
    .unwrap();
    let store = S3Store::open(&settings.s3).unwrap();
    let rules = wanted(&settings).unwrap();
    let before = store.lifecycle().await.unwrap();
    assert_eq!(before.len(), 2);
    let plan = Plan::new(before.clone(), rules.clone()).unwrap();
    assert_eq!((plan.added.len(), plan.theirs.len()), (4, 2));
    assert!(plan.warnings[0].contains("\"all\""), "{:?}", plan.warnings);
    store.set_lifecycle(rules.clone()).await.unwrap();
    let after = store.lifecycle().await.unwrap();
    assert_eq!(after.len(), 6);
    for rule in &before {
        assert!(after.contains(rule), "{rule} was changed");
    }
    assert!(Plan::new(after, rules.clone()).unwrap().is_done());
    // Another wish replaces our rule and nothing else.
    let colder = wanted(&StorageSettings {
        cold_after_days: 7,
        ..settings
    })
    .unwrap();
    let plan = store.set_lifecycle(colder.clone()).await.unwrap();
    assert_eq!((plan.changed.len(), plan.added.len()), (1, 0));
    assert_eq!(store.lifecycle().await.unwrap().len(), 6);
    assert!(store.set_lifecycle(colder).await.unwrap().is_done());
}

#[tokio::test]
async fn a_bucket_without_rules_gets_ours_and_a_missing_bucket_is_named() {
    let settings = tokio::task::spawn_blocking(|| bucket("lifecycle-fresh"))
        .await
        .unwrap();
    let store = S3Store::open(&settings.s3).unwrap();
    assert_eq!(store.lifecycle().await.unwrap(), []);
    store
        .set_lifecycle(wanted(&settings).unwrap())
        .await
        .unwrap();
    assert_eq!(store.lifecycle().await.unwrap().len(), 4);
    let mut missing = settings.s3.clone();
    missing.bucket = "lifecycle-nowhere".into();
    let store = S3Store::open(&missing).unwrap();
    assert_eq!(
        store.lifecycle().await.unwrap_err().code(),
        "missing_bucket"
    );
}

fn signet(settings: &StorageSettings, arguments: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_signet"))
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .env("SIGNET_STORAGE__KIND", "s3")
        .env("SIGNET_STORAGE__S3__ENDPOINT", &settings.s3.endpoint)
        .env("SIGNET_STORAGE__S3__BUCKET", &settings.s3.bucket)
        .env("SIGNET_STORAGE__S3__ACCESS_KEY_ID", servers::KEY_ID)
        .env("SIGNET_STORAGE__S3__SECRET_ACCESS_KEY", servers::SECRET)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_command_shows_its_plan_and_changes_nothing_unasked() {
    let settings = bucket("lifecycle-command");
    let (good, plan) = signet(&settings, &["lifecycle", "show"]);
    assert!(
        good && plan.contains("+ add") && plan.contains("generated/"),
        "{plan}"
    );
    let (good, told) = signet(&settings, &["lifecycle", "apply"]);
    assert!(
        !good && told.contains("--yes") && told.contains("+ add"),
        "{told}"
    );
    let (_, json) = signet(&settings, &["lifecycle", "show", "--json"]);
    let json: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(json["added"].as_array().unwrap().len(), 4);
    let (good, told) = signet(&settings, &["lifecycle", "apply", "--yes"]);
    assert!(good && told.contains("read back as planned"), "{told}");
    let (good, told) = signet(&settings, &["lifecycle", "apply"]);
    assert!(good && told.contains("nothing is to be changed"), "{told}");
}
