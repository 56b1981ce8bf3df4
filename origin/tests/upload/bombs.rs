//! Files that are small on the wire and want to be huge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use origin::upload::{Admitted, Uploads};

use crate::files::{after_header, chunk, flat_png, gif, png};
use crate::support::{refusal, settings};

#[tokio::test]
async fn a_header_that_promises_too_much_is_refused_before_anything_is_decoded() {
    let mut settings = settings();
    // A decoder that does not exist: were it asked, the answer would be another.
    settings.worker = Some("/nonexistent".into());
    let uploads = Uploads::new(settings).unwrap();
    for (file, code) in [
        (flat_png(60_000, 60_000, 0, 1), "too_many_pixels"),
        (flat_png(8193, 8192, 2, 1), "too_many_pixels"),
        (flat_png(31_000, 1_000, 2, 1), "extreme_aspect_ratio"),
        (flat_png(0, 10, 2, 1), "malformed_image_header"),
        (vec![0; (10 << 20) + 1], "body_too_large"),
        (
            b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0".to_vec(),
            "too_many_pixels",
        ),
    ] {
        assert_eq!(
            uploads.sanitise(file.into()).await.unwrap_err().code(),
            code
        );
    }
}

#[tokio::test]
async fn a_second_header_does_not_overrule_the_first() {
    let mut small = flat_png(10, 10, 2, 10);
    let huge = flat_png(60_000, 60_000, 2, 1);
    small.splice(33..33, huge[8..33].iter().copied());
    assert_eq!(refusal(small).await, "damaged_image");
}

#[tokio::test]
async fn a_gif_frame_larger_than_its_screen_is_no_way_around_the_limits() {
    let mut file = gif(4, 4);
    let at = file.iter().position(|&byte| byte == 0x2c).unwrap();
    file[at + 5..at + 9].fill(0xff);
    let code = refusal(file).await;
    assert!(
        ["damaged_image", "image_needs_too_much_memory"].contains(&code),
        "{code}"
    );
}

#[tokio::test]
async fn ten_bombs_at_once_stay_inside_the_budget() {
    let mut settings = settings();
    settings.memory_mib = 1_200;
    // Memory is filled before scaling; packing large results would take an unoptimised build minutes.
    settings.image.max_side = 1024;
    let budget = u64::from(settings.memory_mib) << 20;
    let uploads = Uploads::new(settings).unwrap();
    // 64 megapixels of four samples in a megabyte or two, and 64 of one sample in less.
    let bombs = [flat_png(8192, 8192, 6, 8192), flat_png(8192, 8192, 0, 8192)];
    assert!(bombs.iter().all(|bomb| bomb.len() < 2 << 20));

    let (done, peak) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    // Their order names the memory that only pictures of this size get, which tells them from other tests' decoders.
    let orders = bombs.each_ref().map(|bomb| {
        let image = Admitted::read(bomb, &uploads.settings().image).unwrap();
        format!("\"memory\":{},", image.memory())
    });
    let watch = tokio::task::spawn_blocking({
        let (done, peak) = (Arc::clone(&done), Arc::clone(&peak));
        move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(children_memory(&orders), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let all = join_all((0..10).map(|n| uploads.sanitise(bombs[n % 2].clone().into()))).await;
    done.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    for one in all {
        let image = one.unwrap();
        assert_eq!((image.width, image.height), (1024, 1024));
    }
    let peak = peak.load(Ordering::Relaxed);
    assert!(peak > 100 << 20, "nothing was measured: {peak}");
    assert!(peak <= budget, "{} of {} MiB", peak >> 20, budget >> 20);
}

/// Anonymous memory of all decoders with one of these orders, in bytes.
fn children_memory(orders: &[String]) -> u64 {
    let own = std::process::id().to_string();
    let mut total = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next().map(str::to_owned)
        };
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if field("PPid:") == Some(own.clone()) && orders.iter().any(|order| command.contains(order))
        {
            let kib = field("RssAnon:").and_then(|text| text.parse::<u64>().ok());
            total += kib.unwrap_or(0) << 10;
        }
    }
    total
}

#[tokio::test]
async fn a_hundred_thousand_chunks_are_no_trouble() {
    let many = chunk(b"teST", b"").repeat(100_000);
    let image = crate::support::sanitise(after_header(&png(10, 10), &many))
        .await
        .unwrap();
    crate::support::assert_clean(&image, &["teST"]);
}
