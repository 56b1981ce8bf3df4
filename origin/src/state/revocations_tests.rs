use super::*;
use shared::revocation::Beat;

fn open() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("s.sqlite")).unwrap();
    (folder, state)
}

async fn all(state: &State) -> Vec<String> {
    let beyond = state.revoked_beyond(BTreeMap::new()).await.unwrap();
    let entries = beyond.pages.iter().flat_map(|page| &page.entries);
    let mut lines: Vec<String> = entries.map(ToString::to_string).collect();
    lines.sort();
    lines
}

const DAY: u64 = 86_400;

#[tokio::test]
async fn every_kind_is_told_and_forgotten_when_nothing_it_closes_can_live() {
    let (_folder, state) = open();
    let now = 1_000_000;
    assert!(state.revoke_link([1; 16], now + 100).await.unwrap());
    assert!(state.revoke_link([2; 16], now + 8 * DAY).await.unwrap());
    let address = shared::revocation::entry::group("2001:db8::/48").unwrap();
    assert!(state.revoke_one(address, now + 200).await.unwrap());
    state.suspend_user("bad", true).await.unwrap();
    state.suspend_user("forgiven", true).await.unwrap();
    state.suspend_user("forgiven", false).await.unwrap();
    state.revoke_links("old").await.unwrap();
    state.revoke_token("jti", now + 300).await.unwrap();
    state.forget_revoked(now).await.unwrap();
    let epoch_ends = now + LINK_LIFE + 2 * SKEW;
    assert!(epoch_ends - now > 7 * DAY);
    assert_eq!(
        all(&state).await,
        [
            format!("address 2001:db8::/48 0 {}", now + 200),
            format!("epoch old 1 {epoch_ends}"),
            format!("link {} 0 {}", "01".repeat(16), now + 100),
            format!("link {} 0 {}", "02".repeat(16), now + 8 * DAY),
            format!("suspended bad 0 {NEVER}"),
            format!("token jti 0 {}", now + 300),
        ]
    );
    assert_eq!(state.revoked_count().await.unwrap(), 6);
    // Once no link that old can live nobody need know the epoch; signing goes on with it.
    state.forget_revoked(epoch_ends).await.unwrap();
    let left = all(&state).await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].starts_with("link 0202") && left[1].starts_with("suspended"));
    assert_eq!(state.user("old").await.unwrap().link_epoch, 1);
}

#[tokio::test]
async fn a_suspension_with_an_end_ends_by_itself() {
    let (_folder, state) = open();
    state.suspend_until("u", 500).await.unwrap();
    state.forget_revoked(499).await.unwrap();
    assert!(state.user("u").await.unwrap().suspended);
    state.forget_revoked(500).await.unwrap();
    assert!(!state.user("u").await.unwrap().suspended);
    assert_eq!(state.revoked_count().await.unwrap(), 0);
}

#[tokio::test]
async fn the_pages_digests_are_those_of_their_entries_whatever_happened() {
    let (_folder, state) = open();
    for n in 0..300u32 {
        state.suspend_user(&format!("u{n}"), true).await.unwrap();
        state.revoke_links(&format!("u{}", n % 7)).await.unwrap();
        if n % 3 == 0 {
            state.suspend_user(&format!("u{n}"), false).await.unwrap();
        }
    }
    state.forget_revoked(9).await.unwrap();
    let beyond = state.revoked_beyond(BTreeMap::new()).await.unwrap();
    let digests: BTreeMap<u16, u64> = beyond
        .pages
        .iter()
        .map(|page| (page.number, page.digest()))
        .collect();
    let root = shared::revocation::page::root(digests.clone());
    assert_eq!(beyond.root.as_deref(), Some(root.as_str()));
    assert_eq!(state.revoked_root().await.unwrap(), root);
    let nothing = state.revoked_beyond(digests.clone()).await.unwrap();
    assert_eq!(nothing.pages, []);
    // One change is one page, and a page that became empty is told as such.
    state.suspend_user("u1", false).await.unwrap();
    let place = Name::owner("u1").place().page;
    let changed = state.revoked_beyond(digests).await.unwrap();
    assert_eq!(changed.pages.len(), 1);
    assert_eq!(changed.pages[0].number, place);
    let beat = Beat {
        taken_ms: 1,
        root: changed.root,
        pages: changed.pages,
    };
    assert_eq!(Beat::parse(&beat.to_text()), Some(beat));
}

#[test]
fn a_state_of_an_earlier_version_keeps_what_it_revoked() {
    let (_folder, file) = {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.sqlite");
        (folder, file)
    };
    let mut connection = rusqlite::Connection::open(&file).unwrap();
    super::super::schema::prepare_before_revoked(&mut connection);
    connection
        .execute_batch(
            "INSERT INTO users (id, suspended, link_epoch) VALUES ('bad', 1, 0), ('old', 0, 3), ('good', 0, 0);
             INSERT INTO revoked_links VALUES (x'0102030405060708090a0b0c0d0e0f10', 77);
             INSERT INTO revoked_tokens VALUES ('jti', 78);",
        )
        .unwrap();
    drop(connection);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let lines = runtime.unwrap().block_on(async {
        let state = State::open(&file).unwrap();
        all(&state).await
    });
    assert_eq!(
        lines,
        [
            format!("epoch old 3 {NEVER}"),
            "link 0102030405060708090a0b0c0d0e0f10 0 77".into(),
            format!("suspended bad 0 {NEVER}"),
            "token jti 0 78".into(),
        ]
    );
}

#[tokio::test]
async fn an_epoch_that_fell_behind_its_owners_is_brought_up() {
    let (_folder, state) = open();
    state.revoke_links("u").await.unwrap();
    let raise = |tx: &Transaction<'_>| {
        tx.execute("UPDATE users SET link_epoch = link_epoch + 1", [])?;
        Ok(())
    };
    state.transact(raise).await.unwrap();
    state.settle_epochs().await.unwrap();
    state.forget_revoked(9).await.unwrap();
    let ends = 9 + LINK_LIFE + 2 * SKEW;
    assert_eq!(all(&state).await, [format!("epoch u 2 {ends}")]);
}
