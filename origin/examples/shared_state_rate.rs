//! Transactions a second of a state that several origins share over one Redis: `shared_state_rate SOCKET`.

use std::time::Instant;

use origin::state::{State, StateSettings};

/// Callers of each run, over all origins.
const AT_ONCE: usize = 64;
/// Transactions of each caller.
const EACH: usize = 100;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).ok_or("the socket of a Redis")?;
    let folder = tempfile::tempdir()?;
    let mut origins = Vec::new();
    for (count, at_once) in [(1, 1), (1, AT_ONCE), (2, AT_ONCE), (3, AT_ONCE)] {
        while origins.len() < count {
            let settings = StateSettings {
                file: folder.path().join(format!("{}.sqlite", origins.len())),
                url: format!("unix://{socket}"),
                timeout_ms: 2_000,
                ..StateSettings::default()
            };
            origins.push(State::of(&settings)?);
        }
        let begun = Instant::now();
        let tasks: Vec<_> = (0..at_once)
            .map(|task| {
                let state = origins.get(task % count).cloned();
                tokio::spawn(async move {
                    let state = state.ok_or("no origin")?;
                    for n in 0..EACH {
                        let id = format!("{count}-{at_once}-{task}-{n}");
                        let done = state.reserve_spend(&id, "u", 1, 1).await;
                        done.map_err(|_| "a transaction failed")?;
                    }
                    Ok::<_, &str>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let rate = (at_once * EACH) as f64 / begun.elapsed().as_secs_f64();
        println!(
            "| shared state: transactions, each on a disk and in Redis; {count} origins, {at_once} callers | {rate:.0}/s |"
        );
    }
    Ok(())
}
