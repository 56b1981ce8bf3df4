//! What every store must do, whatever it is made of.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use origin::storage::{ByteRange, Store, StoreError};
use shared::object_key::ObjectKey;

/// Writes one test for each promise, on the store that `$open` makes.
macro_rules! conforms {
    ($open:path) => {
        $crate::suite::conforms!(
            $open:
            what_is_put_comes_back_whole,
            a_put_replaces_what_was_there,
            the_entity_tag_changes_with_the_content,
            create_refuses_a_taken_key,
            of_many_creators_at_once_one_wins,
            a_missing_object_is_not_found_and_deleting_it_is_no_error,
            a_deleted_object_is_gone,
            ranges_give_the_bytes_they_name,
            a_range_outside_the_object_tells_its_size,
            an_empty_object_is_an_object,
            listings_come_in_byte_order_page_by_page,
            a_listing_starts_after_any_cursor,
            a_listing_ends_with_its_prefix,
            a_rename_moves_and_can_be_repeated,
            a_rename_replaces_what_was_there,
            a_rename_of_nothing_is_not_found,
            a_large_object_survives_being_sent_in_parts,
            readers_never_see_half_a_write,
            a_store_that_works_passes_its_check,
            many_objects_go_at_once,
            a_walk_sees_what_pages_see,
        );
    };
    ($open:path: $($promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let fixture = $open().await;
                $crate::suite::$promise(&fixture.store).await;
            }
        )*
    };
}
pub(crate) use conforms;

/// A user no other test has, so that tests share a bucket without meeting.
pub fn user() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(
        "u{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

fn fresh() -> ObjectKey {
    key(&format!("generated/{}/a.png", user()))
}

pub async fn read(store: &Store, key: &ObjectKey) -> Result<Bytes, StoreError> {
    store.get(key, None).await?.body.collect().await
}

/// Bytes that differ everywhere, so that a shifted or repeated part shows.
pub fn noise(length: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub async fn what_is_put_comes_back_whole(store: &Store) {
    let (key, bytes) = (fresh(), noise(700_001, 1));
    let put = store.put(&key, bytes.clone()).await.unwrap();
    assert_eq!(put.size, 700_001);
    assert!(put.etag.starts_with('"') && put.etag.ends_with('"') && put.etag.len() > 2);

    let object = store.get(&key, None).await.unwrap();
    assert_eq!((object.info.size, object.span), (700_001, (0, 700_001)));
    assert_eq!(object.info.etag, put.etag);
    assert_eq!(object.info.key, key);
    assert_eq!(object.info.content_type(), "image/png");
    assert!(object.info.modified.is_some());
    let head = store.head(&key).await.unwrap();
    assert_eq!((head.size, &head.etag), (700_001, &put.etag));
    let listed = store.list(key.as_str(), None, 10).await.unwrap().objects;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].size, &listed[0].etag), (700_001, &put.etag));
    assert!(object.body.collect().await.unwrap() == bytes);
}

pub async fn a_put_replaces_what_was_there(store: &Store) {
    let key = fresh();
    store.put(&key, noise(5000, 1)).await.unwrap();
    store.put(&key, noise(70, 2)).await.unwrap();
    assert!(read(store, &key).await.unwrap() == noise(70, 2));
}

pub async fn the_entity_tag_changes_with_the_content(store: &Store) {
    let key = fresh();
    let first = store.put(&key, noise(100, 1)).await.unwrap().etag;
    let second = store.put(&key, noise(100, 2)).await.unwrap().etag;
    assert_ne!(first, second);
}

pub async fn create_refuses_a_taken_key(store: &Store) {
    let key = fresh();
    store.create(&key, noise(10, 1)).await.unwrap();
    assert_eq!(
        store.create(&key, noise(10, 2)).await.unwrap_err(),
        StoreError::Exists
    );
    assert!(read(store, &key).await.unwrap() == noise(10, 1));
}

pub async fn of_many_creators_at_once_one_wins(store: &Store) {
    let key = fresh();
    let tries = join_all((0..8).map(|n| store.create(&key, noise(2000, n)))).await;
    let winners: Vec<u32> = (0..8)
        .zip(&tries)
        .filter(|(_, done)| done.is_ok())
        .map(|(n, _)| n)
        .collect();
    let [winner] = winners[..] else {
        panic!("{winners:?} of {tries:?} won")
    };
    assert!(read(store, &key).await.unwrap() == noise(2000, winner));
}

pub async fn a_missing_object_is_not_found_and_deleting_it_is_no_error(store: &Store) {
    let key = fresh();
    assert_eq!(store.get(&key, None).await.unwrap_err().code(), "not_found");
    assert_eq!(store.head(&key).await.unwrap_err().code(), "not_found");
    store.delete(&key).await.unwrap();
}

pub async fn a_deleted_object_is_gone(store: &Store) {
    let key = fresh();
    store.put(&key, noise(10, 1)).await.unwrap();
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap_err().code(), "not_found");
    assert_eq!(
        store.list(key.as_str(), None, 10).await.unwrap().objects,
        []
    );
}

pub async fn ranges_give_the_bytes_they_name(store: &Store) {
    let (key, bytes) = (fresh(), noise(600_000, 3));
    store.put(&key, bytes.clone()).await.unwrap();
    for (range, start, end) in [
        (ByteRange::Between(0, 0), 0, 1),
        (ByteRange::Between(10, 19), 10, 20),
        (ByteRange::Between(599_990, 5_000_000), 599_990, 600_000),
        (ByteRange::From(300_000), 300_000, 600_000),
        (ByteRange::Last(7), 599_993, 600_000),
        (ByteRange::Last(5_000_000), 0, 600_000),
    ] {
        let object = store.get(&key, Some(range)).await.unwrap();
        assert_eq!(object.info.size, 600_000, "{range:?}");
        assert_eq!(
            object.span,
            (start as u64, (end - start) as u64),
            "{range:?}"
        );
        assert!(
            object.body.collect().await.unwrap() == bytes.slice(start..end),
            "{range:?}"
        );
    }
}

pub async fn a_range_outside_the_object_tells_its_size(store: &Store) {
    let key = fresh();
    store.put(&key, noise(10, 1)).await.unwrap();
    for range in [
        ByteRange::From(10),
        ByteRange::Between(10, 20),
        ByteRange::Last(0),
    ] {
        let error = store.get(&key, Some(range)).await.unwrap_err();
        assert_eq!(error, StoreError::Range { size: 10 }, "{range:?}");
    }
}

pub async fn an_empty_object_is_an_object(store: &Store) {
    let key = fresh();
    store.put(&key, Bytes::new()).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().size, 0);
    assert_eq!(read(store, &key).await.unwrap(), Bytes::new());
    let error = store.get(&key, Some(ByteRange::From(0))).await.unwrap_err();
    assert_eq!(error, StoreError::Range { size: 0 });
}

/// Names that sort differently as whole keys and folder by folder.
const NAMES: [&str; 9] = [
    "0.png",
    "a-b.png",
    "a-b/x.png",
    "a.png",
    "a/x.png",
    "a/y/z.png",
    "a_b.png",
    "ab.png",
    "b.png",
];

async fn fill(store: &Store) -> (String, Vec<String>) {
    let prefix = format!("generated/{}/", user());
    let mut keys: Vec<String> = NAMES.iter().map(|name| format!("{prefix}{name}")).collect();
    for text in &keys {
        store.put(&key(text), noise(3, 1)).await.unwrap();
    }
    keys.sort();
    (prefix, keys)
}

fn names(listing: &origin::storage::Listing) -> Vec<String> {
    listing
        .objects
        .iter()
        .map(|object| object.key.as_str().to_owned())
        .collect()
}

pub async fn listings_come_in_byte_order_page_by_page(store: &Store) {
    let (prefix, keys) = fill(store).await;
    for limit in [1, 2, 4, 9, 1000] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.list(&prefix, cursor.as_deref(), limit).await.unwrap();
            assert!(page.objects.len() <= limit && page.foreign.is_empty());
            seen.extend(names(&page));
            pages += 1;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, keys, "pages of {limit}");
        assert_eq!(pages, keys.len().div_ceil(limit), "pages of {limit}");
    }
}

pub async fn a_listing_starts_after_any_cursor(store: &Store) {
    let (prefix, keys) = fill(store).await;
    for cursor in ["a", "a/", "a/x.png", "a/x.pnh", "a0", "zzz", ""] {
        let cursor = format!("{prefix}{cursor}");
        let page = store.list(&prefix, Some(&cursor), 1000).await.unwrap();
        let wanted: Vec<_> = keys.iter().filter(|key| **key > cursor).cloned().collect();
        assert_eq!(names(&page), wanted, "after {cursor}");
    }
}

pub async fn a_listing_ends_with_its_prefix(store: &Store) {
    let (prefix, keys) = fill(store).await;
    for part in ["a", "a/", "a/y/z", "b", "c"] {
        let part = format!("{prefix}{part}");
        let page = store.list(&part, None, 1000).await.unwrap();
        let wanted: Vec<_> = keys
            .iter()
            .filter(|key| key.starts_with(&part))
            .cloned()
            .collect();
        assert_eq!(names(&page), wanted, "below {part}");
    }
}

fn pair() -> (ObjectKey, ObjectKey) {
    let user = user();
    (
        key(&format!("generated/{user}/a.png")),
        key(&format!("kept/{user}/a.png")),
    )
}

pub async fn a_rename_moves_and_can_be_repeated(store: &Store) {
    let (from, to) = pair();
    store.put(&from, noise(900, 1)).await.unwrap();
    store.rename(&from, &to).await.unwrap();
    store.rename(&from, &to).await.unwrap();
    assert_eq!(store.head(&from).await.unwrap_err().code(), "not_found");
    assert!(read(store, &to).await.unwrap() == noise(900, 1));
    store.rename(&to, &to).await.unwrap();
    assert!(read(store, &to).await.unwrap() == noise(900, 1));
}

pub async fn a_rename_replaces_what_was_there(store: &Store) {
    let (from, to) = pair();
    store.put(&to, noise(900, 1)).await.unwrap();
    store.put(&from, noise(30, 2)).await.unwrap();
    store.rename(&from, &to).await.unwrap();
    assert!(read(store, &to).await.unwrap() == noise(30, 2));
}

pub async fn a_rename_of_nothing_is_not_found(store: &Store) {
    let (from, to) = pair();
    assert_eq!(
        store.rename(&from, &to).await.unwrap_err(),
        StoreError::NotFound
    );
    assert_eq!(
        store.rename(&from, &from).await.unwrap_err(),
        StoreError::NotFound
    );
}

/// Over two parts of the smallest size that S3 allows, which the S3 fixtures use.
pub async fn a_large_object_survives_being_sent_in_parts(store: &Store) {
    let (key, bytes) = (fresh(), noise((11 << 20) + 3, 5));
    let put = store.create(&key, bytes.clone()).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().etag, put.etag);
    assert!(read(store, &key).await.unwrap() == bytes);
    assert_eq!(
        store.create(&key, bytes).await.unwrap_err(),
        StoreError::Exists
    );
}

pub async fn readers_never_see_half_a_write(store: &Store) {
    let key = fresh();
    let (old, new) = (noise(400_000, 1), noise(300_000, 2));
    store.put(&key, old.clone()).await.unwrap();
    let write = async {
        for _ in 0..5 {
            store.put(&key, new.clone()).await.unwrap();
            store.put(&key, old.clone()).await.unwrap();
        }
    };
    let watch = join_all((0..3).map(|_| async {
        for _ in 0..10 {
            let seen = read(store, &key).await.unwrap();
            assert!(
                seen == old || seen == new,
                "{} bytes of neither",
                seen.len()
            );
        }
    }));
    tokio::join!(write, watch);
}

pub async fn a_store_that_works_passes_its_check(store: &Store) {
    store.check().await.unwrap();
}

pub async fn many_objects_go_at_once(store: &Store) {
    let (prefix, keys) = fill(store).await;
    let (gone, left) = keys.split_at(5);
    let mut wanted: Vec<ObjectKey> = gone.iter().map(|text| key(text)).collect();
    wanted.push(key(&format!("{prefix}never-there.png")));
    wanted.push(key(&format!("{prefix}never/there.png")));
    store.delete_many(wanted).await.unwrap();
    store.delete_many(Vec::new()).await.unwrap();
    assert_eq!(names(&store.list(&prefix, None, 1000).await.unwrap()), left);
}

pub async fn a_walk_sees_what_pages_see(store: &Store) {
    let (prefix, keys) = fill(store).await;
    for after in [None, Some(keys[3].clone()), Some(format!("{prefix}a/"))] {
        let mut walk = store.walk(after.clone());
        let mut seen = Vec::new();
        while let Some(page) = walk.next().await {
            seen.extend(names(&page.unwrap()));
        }
        assert!(seen.is_sorted(), "{seen:?}");
        // Other tests write beside us.
        seen.retain(|key| key.starts_with(&prefix));
        let wanted: Vec<_> = keys
            .iter()
            .filter(|key| after.as_ref().is_none_or(|after| *key > after))
            .cloned()
            .collect();
        assert_eq!(seen, wanted, "after {after:?}");
    }
}
