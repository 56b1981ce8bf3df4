//! `signet lifecycle show|apply`.

use std::io::{IsTerminal, Write};

use clap::Subcommand;

use crate::config::Settings;
use crate::startup::StartError;
use crate::storage::Store;
use crate::storage::lifecycle::{Plan, wanted};

#[derive(Debug, Subcommand)]
pub(super) enum LifecycleCommand {
    /// Shows the rules that are there, and what `apply` would change.
    Show {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Shows the plan, asks, then writes our rules beside the operator's own and reads them back.
    Apply {
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn lifecycle(
    command: LifecycleCommand,
    settings: &Settings,
) -> Result<(), StartError> {
    let rules = wanted(&settings.storage)?;
    let store = match Store::open(&settings.storage).await? {
        Store::S3(store) => store,
        Store::Folder(_) => {
            println!("the store is a folder; `signet sweep` carries these out:");
            for rule in rules {
                println!("  {rule}");
            }
            return Ok(());
        }
    };
    let plan = Plan::new(store.lifecycle().await?, rules.clone())?;
    match command {
        LifecycleCommand::Show { json: true } => println!("{}", serde_json::to_string(&plan)?),
        LifecycleCommand::Show { json: false } => show(&plan),
        LifecycleCommand::Apply { yes } => {
            show(&plan);
            if plan.is_done() {
                return Ok(());
            }
            if !yes && !agreed()? {
                return Err("nothing was changed".into());
            }
            store.set_lifecycle(rules).await?;
            println!("written, and read back as planned");
        }
    }
    Ok(())
}

fn show(plan: &Plan) {
    for line in plan.lines() {
        println!("{line}");
    }
    if plan.is_done() {
        println!("nothing is to be changed");
    }
}

fn agreed() -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() {
        eprintln!("nobody can be asked here: add --yes");
        return Ok(false);
    }
    print!("change the bucket like this? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
