//! A bad configuration says what and where, exits 64, and binds no port.

use std::os::unix::fs::PermissionsExt;

use crate::program::{Home, Service};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

#[test]
fn bad_configurations_exit_64_and_bind_nothing() {
    let good = format!("k1:{KEY}");
    let twice_kid = format!("k1:{KEY},k1:{OTHER}");
    let twice_key = format!("k1:{KEY},k2:{KEY}");
    for (file, variables, words) in [
        (
            "[auth]\ntoken_minutes = 14\n",
            vec![],
            vec!["auth.token_minutes", "15 to 60"],
        ),
        (
            "[auth]\ntoken_minutes = 61\n",
            vec![],
            vec!["auth.token_minutes"],
        ),
        ("[auth]\nnope = 1\n", vec![], vec!["nope", "line 2"]),
        ("[nope]\n", vec![], vec!["nope"]),
        ("[auth\n", vec![], vec!["line 1"]),
        (
            "[images]\nkeys = \"k1:x\"\n",
            vec![],
            vec!["images.keys", "SIGNET_IMAGES__KEYS"],
        ),
        (
            "[images]\nlink_seconds = 604801\n",
            vec![],
            vec!["images.link_seconds"],
        ),
        (
            "[server]\nurl = \"https://a.example\"\n[images]\nurl = \"https://a.example:444\"\n",
            vec![("SIGNET_IMAGES__KEYS", good.as_str())],
            vec!["a.example"],
        ),
        (
            "[edge]\nrequire = true\n",
            vec![],
            vec!["SIGNET_EDGE__KEYS"],
        ),
        (
            "[state]\nurl = \"redis://127.0.0.1:1/0\"\n",
            vec![],
            vec!["state.url", "SIGNET_IMAGES__KEYS", "images.keys_file"],
        ),
        (
            "[images]\ndeliver = false\n",
            vec![],
            vec!["SIGNET_IMAGES__KEYS"],
        ),
        (
            "",
            vec![("SIGNET_AUTH__NOPE", "1")],
            vec!["SIGNET_AUTH__NOPE"],
        ),
        (
            "",
            vec![("SIGNET_QUEUE__DEPTH", "many")],
            vec!["SIGNET_QUEUE__DEPTH"],
        ),
        ("", vec![("SIGNET_IMAGES__KEYS", "")], vec!["images.keys"]),
        (
            "",
            vec![("SIGNET_IMAGES__KEYS", "k1:c2hvcnQ=")],
            vec!["images.keys"],
        ),
        (
            "",
            vec![("SIGNET_IMAGES__KEYS", twice_kid.as_str())],
            vec!["images.keys"],
        ),
        (
            "",
            vec![("SIGNET_IMAGES__KEYS", twice_key.as_str())],
            vec!["images.keys"],
        ),
        (
            "[images]\nkeys_file = \"missing\"\n",
            vec![],
            vec!["images.keys", "missing"],
        ),
        (
            "[edge]\nrequire = true\n",
            vec![("SIGNET_EDGE__KEYS", "e1:c2hvcnQ=")],
            vec!["edge.keys"],
        ),
        ("[storage]\nkind = \"s3\"\n", vec![], vec!["storage.s3"]),
    ] {
        let home = Home::new(&variables);
        std::fs::write(home.path("signet.toml"), file).unwrap();
        for arguments in [&["serve"][..], &["config", "check"]] {
            let output = home.run(arguments);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(64),
                "{arguments:?} {file:?} {variables:?}: {told}"
            );
            for word in &words {
                assert!(
                    told.contains(word),
                    "{arguments:?} {file:?}: {word:?} is not in {told:?}"
                );
            }
            assert!(!told.contains(KEY) && !told.contains("c2hvcnQ"), "{told}");
            assert!(!home.path("ready.json").exists());
        }
    }
    let home = Home::new(&[]);
    assert_eq!(
        home.run(&["--config", "missing.toml", "serve"])
            .status
            .code(),
        Some(64)
    );
}

#[test]
fn a_good_configuration_checks_and_the_default_file_is_one() {
    let home = Home::new(&[]);
    home.succeed(&["config", "check"]);
    let file = home.succeed(&["config", "default"]);
    std::fs::write(home.path("signet.toml"), file).unwrap();
    home.succeed(&["config", "check"]);
}

#[test]
fn the_embedded_service_makes_its_own_keys_once_and_keeps_them_private() {
    let service = Service::start(&[]);
    let file = service.home().path("data/link-keys");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let first = std::fs::read(&file).unwrap();
    let service = service.kill().serve();
    assert_eq!(
        std::fs::read(service.home().path("data/link-keys")).unwrap(),
        first
    );
    let text = String::from_utf8(first).unwrap();
    let secret = text.trim().split_once(':').unwrap().1;
    assert!(!service.log().contains(secret));
}

#[test]
fn keys_come_from_a_file_too_and_an_old_one_still_verifies() {
    let home = Home::new(&[]);
    std::fs::write(home.path("keys"), format!("k1:{KEY}\n")).unwrap();
    std::fs::write(home.path("signet.toml"), "[images]\nkeys_file = \"keys\"\n").unwrap();
    let link = home.succeed(&["link", "sign", "generated/u/x.png"]);
    assert!(link.contains("kid=k1"), "{link}");
    std::fs::write(home.path("keys"), format!("k2:{OTHER},k1:{KEY}\n")).unwrap();
    home.succeed(&["link", "verify", link.trim()]);
    assert!(
        home.succeed(&["link", "sign", "generated/u/x.png"])
            .contains("kid=k2")
    );
    assert_eq!(
        home.succeed(&["keys", "list"])
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .next(),
        Some("k2")
    );
    std::fs::write(home.path("keys"), format!("k2:{OTHER}\n")).unwrap();
    assert_eq!(
        home.run(&["link", "verify", link.trim()]).status.code(),
        Some(1)
    );
}

#[test]
fn every_command_is_listed() {
    let home = Home::new(&[]);
    let help = home.succeed(&["--help"]);
    for name in [
        "serve",
        "link",
        "keys",
        "client",
        "user",
        "config",
        "generate",
        "lifecycle",
        "sweep",
        "doctor",
    ] {
        assert!(help.contains(name), "{name}");
    }
}
