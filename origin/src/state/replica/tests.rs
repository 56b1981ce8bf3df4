//! Several copies on a real server: that they agree, whoever writes, whatever breaks.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::state::clients::ClientRow;
use crate::state::images::ImageRow;
use crate::state::{State, StateError, StateSettings};
use crate::test_redis::Server;

/// One origin's state.
struct Copy {
    folder: tempfile::TempDir,
    state: State,
}

fn settings(server: &Server, folder: &Path) -> StateSettings {
    StateSettings {
        file: folder.join("s.sqlite"),
        ..StateSettings::at(server.url())
    }
}

fn join(server: &Server) -> Copy {
    let folder = tempfile::tempdir().unwrap();
    let state = State::of(&settings(server, folder.path())).unwrap();
    Copy { folder, state }
}

fn client(id: &str) -> ClientRow {
    ClientRow {
        id: id.into(),
        name: "it's \"quoted\"; -- \u{1f43b}\r\n".into(),
        secret_hash: "$argon2id$x".into(),
        user_id: "u".into(),
        scopes: "images:read".into(),
        disabled: false,
        created: 7,
    }
}

fn image(id: &str, bytes: u64) -> ImageRow {
    ImageRow {
        id: id.into(),
        user_id: "u".into(),
        key: shared::object_key::ObjectKey::parse(&format!("generated/u/{id}.png")).unwrap(),
        width: 8,
        height: 8,
        format: "png".into(),
        bytes,
        seed: u64::MAX,
        model: "m".into(),
        created: 5,
        expires: None,
        job_id: None,
    }
}

impl Copy {
    /// All rows of all shared tables, seen in order with everything before.
    async fn dump(&self) -> Vec<String> {
        let dump = self.state.transact(|tx| {
            let mut rows = Vec::new();
            for table in super::copy::tables(tx)? {
                let mut statement = tx.prepare(&format!("SELECT * FROM {table}"))?;
                let columns = statement.column_count();
                let mut found = statement.query([])?;
                while let Some(row) = found.next()? {
                    let values: Result<Vec<Value>, _> = (0..columns).map(|n| row.get(n)).collect();
                    rows.push(format!("{table} {:?}", values?));
                }
            }
            rows.sort();
            Ok(rows)
        });
        dump.await.unwrap()
    }

    async fn epoch(&self) -> u64 {
        self.state.user("u").await.unwrap().link_epoch
    }

    async fn until_told(&self) {
        while self.has_outbox() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn has_outbox(&self) -> bool {
        let file = Connection::open(self.folder.path().join("s.sqlite")).unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        let sql = "SELECT EXISTS (SELECT 1 FROM outbox)";
        file.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// All copies hold the same, at the latest when they have noticed that the server is there.
async fn agree(copies: &[&Copy]) -> Vec<String> {
    for left in (0..100).rev() {
        let mut dumps = Vec::new();
        for copy in copies {
            dumps.push(copy.dump().await);
        }
        if left == 0 || dumps.iter().all(|dump| *dump == dumps[0]) {
            assert!(dumps.iter().all(|dump| *dump == dumps[0]), "{dumps:#?}");
            return dumps.remove(0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("the last look returns")
}

#[tokio::test]
async fn what_one_wrote_the_other_sees_at_once_whatever_its_characters() {
    let server = Server::start();
    let (one, other) = (join(&server), join(&server));
    one.state.add_client(client("c")).await.unwrap();
    assert_eq!(other.state.client("c").await.unwrap(), Some(client("c")));
    let taken = other.state.add_client(client("c")).await;
    assert_eq!(taken, Err(StateError::Exists));
    other.state.suspend_user("u", true).await.unwrap();
    assert!(one.state.user("u").await.unwrap().suspended);
    one.state.revoke_link([255; 16], 9).await.unwrap();
    let name = shared::revocation::Name::link(&[255; 16]);
    let known = other.state.revoked_among(vec![name]).await.unwrap();
    assert_eq!(known.len(), 1);
    agree(&[&one, &other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_none_is_lost_and_no_quota_is_passed() {
    let server = Server::start();
    let copies = [join(&server), join(&server), join(&server)];
    let mut tasks = Vec::new();
    for n in 0..300 {
        let state = copies[n % 3].state.clone();
        tasks.push(tokio::spawn(async move {
            state.revoke_links("u").await.unwrap();
            let row = image(&format!("{n:04}"), 10);
            state.reserve_images(vec![row], 1_000).await.is_ok()
        }));
    }
    let mut stored = 0;
    for task in tasks {
        stored += usize::from(task.await.unwrap());
    }
    assert_eq!(stored, 100);
    for copy in &copies {
        assert_eq!(copy.epoch().await, 300);
        assert_eq!(copy.state.stored_bytes().await.unwrap(), 1_000);
    }
    agree(&copies.each_ref()).await;
}

#[tokio::test]
async fn an_origin_that_grew_up_alone_brings_its_state_and_a_second_such_one_is_refused() {
    let server = Server::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for folder in &folders {
        let alone = State::open(&folder.path().join("s.sqlite")).unwrap();
        alone.add_client(client("own")).await.unwrap();
    }
    let brings = State::of(&settings(&server, folders[0].path())).unwrap();
    assert!(brings.client("own").await.unwrap().is_some());
    let joined = join(&server);
    assert!(joined.state.client("own").await.unwrap().is_some());
    let foreign = State::of(&settings(&server, folders[1].path())).unwrap_err();
    assert_eq!(foreign.code(), "state_foreign");
    // A copy is not used alone by mistake; and once it was, it is not taken for the copy that it was.
    let Copy { folder, state } = joined;
    drop(state);
    let file = folder.path().join("s.sqlite");
    assert_eq!(State::open(&file).unwrap_err().code(), "state_foreign");
    State::leave(&file).unwrap();
    let alone = State::open(&file).unwrap();
    alone.add_client(client("alone")).await.unwrap();
    drop(alone);
    let foreign = State::of(&settings(&server, folder.path())).unwrap_err();
    assert_eq!(foreign.code(), "state_foreign");
}

#[tokio::test]
async fn a_restored_copy_begins_the_log_anew_and_others_must_be_moved_away() {
    let server = Server::start();
    let (one, other) = (join(&server), join(&server));
    one.state.add_client(client("kept")).await.unwrap();
    other.dump().await;
    let file = one.folder.path().join("s.sqlite");
    let backup = one.folder.path().join("backup.sqlite");
    let connection = Connection::open(&file).unwrap();
    connection
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    drop(connection);
    other.state.add_client(client("regretted")).await.unwrap();
    // As docs/operations.md says it: all stopped, one restored.
    let (folder, others) = (one.folder, other.folder);
    drop((one.state, other.state));
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("s.sqlite{end}")));
    }
    std::fs::rename(&backup, &file).unwrap();
    State::leave(&file).unwrap();
    server.ask(&["DEL", "{signet}:state:meta"]);
    let again = |folder: tempfile::TempDir| {
        let state = State::of(&settings(&server, folder.path())).unwrap();
        Copy { folder, state }
    };
    let one = again(folder);
    let ids = |clients: Vec<ClientRow>| clients.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(one.state.clients().await.unwrap()), ["kept"]);
    let stale = again(others);
    let refused = stale.state.clients().await.unwrap_err();
    assert_eq!(refused.code(), "state_foreign");
    let other = join(&server);
    agree(&[&one, &other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_each_goes_on_alone_and_afterwards_all_agree() {
    let mut server = Server::start();
    let (one, other) = (join(&server), join(&server));
    one.state.add_client(client("before")).await.unwrap();
    let pictures = vec![image("x", 10), image("y", 7)];
    one.state.reserve_images(pictures, 100).await.unwrap();
    other.dump().await;
    server.kill();
    for copy in [&one, &other] {
        copy.state.remove_image("u", "x").await.unwrap();
        for _ in 0..5 {
            copy.state.revoke_links("u").await.unwrap();
        }
        assert!(copy.state.client("before").await.unwrap().is_some() || copy.epoch().await == 5);
        copy.state.add_client(client("twice")).await.unwrap();
    }
    one.state.add_client(client("one")).await.unwrap();
    other.state.add_client(client("other")).await.unwrap();
    let starts_alone = join(&server);
    starts_alone.state.add_client(client("new")).await.unwrap();
    server.again();
    for copy in [&one, &other, &starts_alone] {
        copy.until_told().await;
    }
    agree(&[&one, &other, &starts_alone]).await;
    assert_eq!(one.epoch().await, 10);
    assert_eq!(one.state.stored_bytes().await.unwrap(), 7);
    let ids: Vec<_> = one
        .state
        .clients()
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(ids, ["before", "new", "one", "other", "twice"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_came_back_empty_is_given_what_the_origins_know() {
    let mut server = Server::start();
    let (one, other) = (join(&server), join(&server));
    one.state.add_client(client("a")).await.unwrap();
    other.state.add_client(client("b")).await.unwrap();
    one.dump().await;
    server.kill();
    other.state.add_client(client("c")).await.unwrap();
    std::fs::remove_dir_all(server.folder.path().join("appendonlydir")).unwrap();
    server.again();
    other.until_told().await;
    one.until_told().await;
    agree(&[&one, &other]).await;
    assert_eq!(one.state.clients().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_came_back_older_is_given_what_it_lost() {
    let mut server = Server::start();
    let (one, other) = (join(&server), join(&server));
    one.state.add_client(client("old")).await.unwrap();
    let (log, kept) = (
        server.folder.path().join("appendonlydir"),
        server.folder.path().join("kept"),
    );
    server.kill();
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        std::fs::create_dir(to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    copy(&log, &kept);
    server.again();
    one.state.suspend_user("u", true).await.unwrap();
    one.until_told().await;
    while !other.state.user("u").await.unwrap().suspended {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    copy(&kept, &log);
    server.again();
    other.state.add_client(client("new")).await.unwrap();
    other.until_told().await;
    agree(&[&one, &other]).await;
    assert!(one.state.user("u").await.unwrap().suspended);
    assert_eq!(one.state.clients().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_copy_that_is_pointed_at_another_deployment_is_refused_and_left_as_it_is() {
    let (server, staging) = (Server::start(), Server::start());
    let strange = join(&staging);
    strange.state.add_client(client("theirs")).await.unwrap();
    let Copy { folder, state } = join(&server);
    state.add_client(client("ours")).await.unwrap();
    drop(state);
    let mistaken = State::of(&settings(&staging, folder.path())).unwrap();
    assert_eq!(
        mistaken.clients().await.unwrap_err().code(),
        "state_foreign"
    );
    drop(mistaken);
    let right = State::of(&settings(&server, folder.path())).unwrap();
    assert!(right.client("ours").await.unwrap().is_some());
    assert!(right.client("theirs").await.unwrap().is_none());
}

#[tokio::test]
async fn a_long_log_is_folded_and_whoever_was_away_or_is_new_has_all_of_it() {
    let server = Server::start();
    let one = join(&server);
    let late = join(&server);
    late.dump().await;
    let Copy { folder, state } = late;
    drop(state);
    let long = "x".repeat(100_000);
    let base = || server.ask(&["HGET", "{signet}:state:meta", "base"]);
    let (mut written, mut folded, mut last) = (0, 0, base());
    while folded < 3 {
        let row = ClientRow {
            name: long.clone(),
            ..client(&format!("{written:04}"))
        };
        one.state.add_client(row).await.unwrap();
        written += 1;
        assert!(written < 2_000, "the log is never folded");
        let now = base();
        folded += usize::from(now != last);
        last = now;
    }
    let state = State::of(&settings(&server, folder.path())).unwrap();
    let late = Copy { folder, state };
    let new = join(&server);
    let rows = agree(&[&one, &late, &new]).await;
    assert!(rows.len() >= written);
}

#[tokio::test]
async fn what_is_in_the_place_of_the_log_is_not_believed() {
    let server = Server::start();
    let one = join(&server);
    one.state.add_client(client("a")).await.unwrap();
    server.ask(&["SET", "{signet}:state:meta", "something"]);
    let error = one.state.add_client(client("b")).await.unwrap_err();
    assert_eq!(error.code(), "state_foreign");
    server.ask(&["DEL", "{signet}:state:meta"]);
    one.state.add_client(client("b")).await.unwrap();
    server.ask(&["HSET", "{signet}:state:meta", "schema", "999"]);
    let error = one.state.add_client(client("c")).await.unwrap_err();
    assert_eq!(error.code(), "state_too_new");
}

/// Between an origin and the server; loses answers when told to, after the server has done what was asked.
fn losing_answers(server: &Server, at: &Path) -> Arc<AtomicBool> {
    let (lose, socket) = (Arc::new(AtomicBool::new(false)), server.socket());
    let (told, listener) = (Arc::clone(&lose), UnixListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
            let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
            let told = Arc::clone(&told);
            std::thread::spawn(move || {
                let mut bytes = [0; 65_536];
                while let Ok(n @ 1..) = server.read(&mut bytes) {
                    if told.swap(false, Ordering::SeqCst) {
                        let _ = client.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                    client.write_all(&bytes[..n]).unwrap();
                }
            });
        }
    });
    lose
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_counts_nothing_twice() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let proxy = folder.path().join("proxy");
    let lose = losing_answers(&server, &proxy);
    let settings = StateSettings {
        url: format!("unix://{}", proxy.display()),
        ..settings(&server, folder.path())
    };
    let state = State::of(&settings).unwrap();
    let one = Copy { folder, state };
    let other = join(&server);
    for n in 0..6 {
        one.state.revoke_links("u").await.unwrap();
        lose.store(true, Ordering::SeqCst);
        one.state.revoke_links("u").await.unwrap();
        if n % 2 == 0 {
            other.state.revoke_links("u").await.unwrap();
        }
        one.until_told().await;
    }
    agree(&[&one, &other]).await;
    assert_eq!(one.epoch().await, 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_agree_after_any_mixture_of_writes_and_outages() {
    let mut server = Server::start();
    let copies = [join(&server), join(&server)];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let mut added = 0;
    for _ in 0..4 {
        for is_up in [true, false] {
            for _ in 0..25 {
                let state = &copies[usize::try_from(draw(2)).unwrap()].state;
                let id = format!("{:04}", draw(40));
                match draw(5) {
                    0 => added += state.revoke_links("u").await.map(|_| 1).unwrap(),
                    1 => drop(state.add_client(client(&id)).await),
                    2 => drop(state.reserve_images(vec![image(&id, draw(50))], 500).await),
                    3 => drop(state.remove_image("u", &id).await),
                    _ => drop(state.disable_client(&id).await),
                }
            }
            if is_up { server.kill() } else { server.again() }
        }
    }
    for copy in &copies {
        copy.until_told().await;
    }
    agree(&copies.each_ref()).await;
    assert_eq!(copies[0].epoch().await, added);
}
