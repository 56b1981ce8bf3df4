//! `signet sweep` and `signet user erase`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;

use crate::clock::Clock;
use crate::config::Settings;
use crate::startup::StartError;
use crate::state::State;
use crate::storage::{LIST_MAX, Store};
use crate::sweep::{Cursor, Report, Sweep};

#[derive(Debug, Args)]
pub(super) struct SweepArguments {
    /// Tells what it would do and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Removes objects that no row names, too, once they are older than the grace time.
    #[arg(long)]
    remove_orphans: bool,
    /// Starts at the beginning even where the last sweep was interrupted.
    #[arg(long)]
    restart: bool,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn sweep(
    arguments: SweepArguments,
    settings: &Settings,
    state: State,
    clock: Clock,
) -> Result<(), StartError> {
    let cursor_file = settings.state.file.with_file_name("sweep-cursor");
    if arguments.restart && !arguments.dry_run {
        Cursor::clear(&cursor_file)?;
    }
    let mut rules = settings.sweep;
    rules.remove_orphans |= arguments.remove_orphans;
    let sweep = Sweep {
        store: Store::open(&settings.storage).await?,
        state,
        clock,
        settings: rules,
        dry_run: arguments.dry_run,
        cursor_file: Some(cursor_file),
    };
    let mut bar = Bar::new();
    let report = sweep.run(|report| bar.show(report)).await?;
    bar.end();
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    if let Some(after) = &report.resumed {
        println!("went on after {after}, where the last sweep was interrupted");
    }
    if arguments.dry_run {
        println!("a dry run: nothing was changed");
    }
    for line in report.lines().iter().chain(&report.named) {
        println!("{line}");
    }
    Ok(())
}

/// One line that is written again and again; on no terminal, a line every ten seconds.
struct Bar {
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    #[allow(
        clippy::disallowed_methods,
        reason = "how fast a bar moves is of this machine alone"
    )]
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            shown: None,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, report: &Report) {
        let pause = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        let elapsed = self.begun.elapsed();
        let last = self.shown.unwrap_or(self.begun);
        if last.elapsed() < pause {
            return;
        }
        self.shown = Some(last + last.elapsed());
        let known = report.rows.max(report.objects).max(1);
        let part = report.objects as f64 / known as f64;
        let full = (part * 30.0) as usize;
        let rate = report.objects as f64 / elapsed.as_secs_f64().max(0.001);
        let text = format!(
            "[{}{}] {:3.0} % {} objects, {rate:.0}/s, {} expired, {} orphans",
            "#".repeat(full.min(30)),
            " ".repeat(30 - full.min(30)),
            part * 100.0,
            report.objects,
            report.expired,
            report.orphans
        );
        let mut out = std::io::stderr().lock();
        let _ = if self.terminal {
            write!(out, "\r{text}\x1b[K").and_then(|()| out.flush())
        } else {
            writeln!(out, "{text}")
        };
    }

    fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}

/// What is under way when the user is closed is refused by the ledger; a write that had begun is found by another round.
const ROUNDS: usize = 5;

/// `signet user erase ID`: nothing of theirs is left, and a listing shows it.
pub(super) async fn erase(
    id: &str,
    forget: bool,
    settings: &Settings,
    state: State,
) -> Result<(), StartError> {
    let store = Store::open(&settings.storage).await?;
    if !state.user_exists(id).await? && !has_objects(id, &store).await? {
        return Err(super::clients::nobody(id));
    }
    state.close_user(id).await?;
    for _ in 0..ROUNDS {
        let objects = erase_objects(id, &store).await?;
        let tables = state.erase_user(id).await?;
        let rows: u64 = tables.iter().map(|(_, rows)| rows).sum();
        for (table, rows) in &tables {
            println!("{rows:>8}  rows of {table} removed");
        }
        if objects == 0 && rows == 0 {
            if forget {
                state.forget_user(id).await?;
            }
            println!("listed again: 0 objects, 0 rows");
            if !forget {
                println!(
                    "the bare id stays, suspended, so that a token still alive makes nothing new; after an hour \
                     `signet user erase --forget {id}` removes it too"
                );
            }
            return Ok(());
        }
    }
    Err("new objects or rows of this user keep appearing".into())
}

/// The folders of a user's objects.
const FOLDERS: [&str; 3] = ["generated", "kept", "uploads"];

/// Whether the store holds anything of a user that the state may have lost.
async fn has_objects(id: &str, store: &Store) -> Result<bool, StartError> {
    for folder in FOLDERS {
        let page = store
            .list(&format!("{folder}/{id}/"), None, LIST_MAX)
            .await?;
        if !page.objects.is_empty() || page.next.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn erase_objects(id: &str, store: &Store) -> Result<u64, StartError> {
    let mut removed = 0;
    for folder in FOLDERS {
        let prefix = format!("{folder}/{id}/");
        let mut cursor = None;
        loop {
            let page = store.list(&prefix, cursor.as_deref(), LIST_MAX).await?;
            for object in &page.objects {
                println!("{:>8}  {}", object.size, object.key.as_str());
            }
            for name in &page.foreign {
                println!("       ?  {} is not ours and stays", name.escape_debug());
            }
            removed += page.objects.len() as u64;
            let keys = page.objects.into_iter().map(|object| object.key).collect();
            store.delete_many(keys).await?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(removed)
}
