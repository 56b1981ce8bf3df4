//! Refusing a link allocates nothing, so a flood of bad links costs only arithmetic. The allocator of this test binary
//! counts.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a counting allocator cannot be written without unsafe, and a test may panic"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use serde_json::Value;
use shared::keyring::Keyring;
use shared::link::{LinkError, UnverifiedLink};
use shared::referer::{FetchHeaders, RefererPolicy};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised thread local,
// which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn every_refused_vector_is_refused_without_the_heap() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/links.json");
    let vectors: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut refused = 0;
    for vector in &vectors {
        let ring = Keyring::parse(vector["ring"].as_str().unwrap()).unwrap();
        let hosts = vector["policy"]["hosts"].as_array().unwrap();
        let mut policy =
            RefererPolicy::new(hosts.iter().map(|host| host.as_str().unwrap())).unwrap();
        policy.allow_links = vector["policy"]["allow_links"].as_bool().unwrap();
        policy.allow_empty = vector["policy"]["allow_empty"].as_bool().unwrap();
        let headers = FetchHeaders {
            referer: vector["referer"].as_str(),
            origin: vector["origin"].as_str(),
            site: vector["site"].as_str(),
            mode: vector["mode"].as_str(),
            dest: vector["dest"].as_str(),
        };
        let target = vector["target"].as_str().unwrap();
        let now = vector["now"].as_u64().unwrap();
        let client = vector["client"].as_str().map(|text| text.parse().unwrap());
        let open = || -> Result<(), LinkError> {
            let may_be_sent_on = || headers.may_be_sent_on();
            let (link, _) = UnverifiedLink::parse_tracked(target, may_be_sent_on)?;
            link.verify(&ring, now, client)?.permit(&policy, &headers)?;
            Ok(())
        };
        let mut verdict = Ok(());
        let count = allocations(|| verdict = open());
        if verdict.is_err() {
            assert_eq!(count, 0, "{}", vector["name"]);
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused}");
}
