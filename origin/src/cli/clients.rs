//! `signet client …` and `signet user …`.

use clap::Subcommand;
use shared::revocation::{Kind, NEVER, entry};

use crate::auth::Scopes;
use crate::auth::clients::{add, is_user_id};
use crate::clock::{Clock, rfc3339};
use crate::config::Settings;
use crate::quota::{PlanSettings, plans::DEFAULT_PLAN};
use crate::startup::StartError;
use crate::state::audit::{AuditRow, Change};
use crate::state::{State, StateError};

#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Registers a client and shows its secret, once.
    Add {
        /// A name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// The user it belongs to; by default one of its own.
        #[arg(long)]
        user: Option<String>,
        /// Space-separated scopes it may ask for; by default all but `admin`.
        #[arg(long)]
        scopes: Option<String>,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lists clients.
    List,
    /// Gives a client no more tokens.
    Disable {
        /// Its id.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Opens nothing of theirs and makes nothing for them.
    Suspend {
        /// The user's id.
        id: String,
        /// For so many hours; without it until they are resumed.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=87_600))]
        hours: Option<u64>,
        /// Also where nothing is known of them: an owner whose rows a restored backup lost.
        #[arg(long)]
        lost: bool,
    },
    /// Lets them in again.
    Resume {
        /// The user's id.
        id: String,
    },
    /// Removes every object, row and job of theirs, and shows it by a listing.
    Erase {
        /// The user's id.
        id: String,
        /// Removes the bare id too, which else stays suspended while tokens of theirs may be alive.
        #[arg(long)]
        forget: bool,
    },
    /// Puts a user on a plan of the configuration; `default` takes them off any.
    Plan {
        /// The user's id.
        id: String,
        /// The plan's name.
        plan: String,
    },
    /// Sets limits of one user alone, such as `user-hour=100 token=60/20`; `POLICY=plan` goes back to the plan's.
    Limit {
        /// The user's id.
        id: String,
        /// `POLICY=VALUE`; a rate is `PER_MINUTE/BURST`. None: shows them.
        limits: Vec<String>,
    },
    /// Refuses every link to their pictures that was signed so far.
    RevokeLinks {
        /// The user's id.
        id: String,
        /// Also where nothing is known of them: an owner whose rows a restored backup lost.
        #[arg(long)]
        lost: bool,
    },
}

/// `signet address`.
#[derive(Debug, Subcommand)]
pub(super) enum AddressCommand {
    /// Refuses every link and every call from an address for a time.
    Block {
        /// An IPv4 address, or an IPv6 address, which stands for its /64, or with /48.
        address: String,
        /// For so many hours.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=87_600))]
        hours: u64,
    },
    /// Lets an address in again.
    Allow {
        /// As it was blocked.
        address: String,
    },
    /// Lists what is blocked, with its end.
    List,
}

/// Addresses that a list shows.
const LISTED: u32 = 10_000;

pub(super) async fn address(
    command: AddressCommand,
    state: &State,
    clock: &Clock,
) -> Result<(), StartError> {
    let group = |text: &str| {
        entry::group(text).ok_or_else(|| {
            format!("{text:?} is no IPv4 address, and no IPv6 address with /64, /48 or nothing behind it")
        })
    };
    match command {
        AddressCommand::Block { address, hours } => {
            let name = group(&address)?;
            let id = name.id().to_owned();
            let ends = clock.seconds() + hours * 3600;
            if !state.revoke_one(name, ends).await? {
                return Err("too many addresses, links and tokens are revoked already".into());
            }
            act(state, &id, "block", Change::Elsewhere, clock).await?;
            println!("{id} is blocked until {}", rfc3339(ends));
        }
        AddressCommand::Allow { address } => {
            let name = group(&address)?;
            let id = name.id().to_owned();
            if !state.forgive(name).await? {
                return Err(format!("{id} is not blocked").into());
            }
            act(state, &id, "allow", Change::Elsewhere, clock).await?;
        }
        AddressCommand::List => {
            let blocked = state.revoked_of(Kind::Address, clock.seconds(), LISTED);
            for entry in blocked.await? {
                println!("{}  until {}", entry.name, rfc3339(entry.ends));
            }
        }
    }
    Ok(())
}

pub(super) async fn client(
    command: ClientCommand,
    state: &State,
    clock: &Clock,
) -> Result<(), StartError> {
    match command {
        ClientCommand::Add {
            name,
            user,
            scopes,
            json,
        } => {
            let scopes = match scopes.as_deref() {
                None => Scopes::USER,
                Some(text) => {
                    Scopes::parse(text).map_err(|scope| format!("no scope is called {scope:?}"))?
                }
            };
            if let Some(user) = user.as_deref().filter(|user| !is_user_id(user)) {
                return Err(format!("{user:?} is no user id: 1 to 64 of A-Z a-z 0-9 _ -").into());
            }
            let new = add(state, &name, user.as_deref(), scopes, clock.seconds()).await?;
            let secret = new.secret.expose();
            if json {
                println!(
                    "{}",
                    serde_json::json!({ "client_id": new.id, "client_secret": secret, "user_id": new.user_id, "scopes": scopes.to_string() })
                );
            } else {
                println!(
                    "client_id      {}\nclient_secret  {secret}\nuser           {}\nscopes         {scopes}",
                    new.id, new.user_id
                );
                eprintln!("The secret is kept as a hash and cannot be shown again.");
            }
        }
        ClientCommand::List => {
            for row in state.clients().await? {
                let state = if row.disabled { "disabled" } else { "active" };
                println!(
                    "{}  {state}  {}  {}  {}  {}",
                    row.id,
                    rfc3339(row.created),
                    row.user_id,
                    row.scopes,
                    row.name
                );
            }
        }
        ClientCommand::Disable { id } => {
            if !state.disable_client(&id).await? {
                return Err(format!("there is no client {id:?}").into());
            }
            act(state, &id, "disable", Change::Elsewhere, clock).await?;
        }
    }
    Ok(())
}

pub(super) async fn user(
    command: UserCommand,
    state: State,
    settings: &Settings,
    clock: &Clock,
) -> Result<(), StartError> {
    let (UserCommand::Suspend { id, .. }
    | UserCommand::Resume { id }
    | UserCommand::Erase { id, .. }
    | UserCommand::Plan { id, .. }
    | UserCommand::Limit { id, .. }
    | UserCommand::RevokeLinks { id, .. }) = &command;
    if !is_user_id(id) {
        return Err(format!("{id:?} is no user id").into());
    }
    let is_lost = matches!(
        command,
        UserCommand::Suspend { lost: true, .. } | UserCommand::RevokeLinks { lost: true, .. }
    );
    if is_lost {
        state.know_user(id).await?;
    } else if !state.user_exists(id).await? {
        return Err(nobody(id));
    }
    match &command {
        UserCommand::Suspend { id, hours, .. } => {
            let ends = hours.map_or(NEVER, |hours| clock.seconds() + hours * 3600);
            act(&state, id, "suspend", Change::Suspend(ends), clock).await?;
        }
        UserCommand::Resume { id } => act(&state, id, "resume", Change::Resume, clock).await?,
        // Needs the store, so the caller does it.
        UserCommand::Erase { .. } => {}
        UserCommand::Plan { id, plan } => {
            if !settings.plans.contains_key(plan) && plan != DEFAULT_PLAN {
                return Err(format!("no plan is called {plan:?} in the configuration").into());
            }
            let plan = Some(plan.as_str()).filter(|plan| *plan != DEFAULT_PLAN);
            state.set_plan(id, plan).await?;
        }
        UserCommand::Limit { id, limits } => {
            let before = state.user(id).await?.overrides;
            let after = changed(&before, limits)?;
            if after != before {
                state.set_overrides(id, &after).await?;
            }
            println!(
                "{}",
                if after.is_empty() {
                    "as the plan says"
                } else {
                    &after
                }
            );
        }
        UserCommand::RevokeLinks { id, .. } => {
            act(&state, id, "revoke-links", Change::RevokeLinks, clock).await?;
            let epoch = state.user(id).await?.link_epoch;
            println!("links signed before now are refused (epoch {epoch})");
        }
    }
    Ok(())
}

/// What is said of a user that the state does not know.
pub(super) fn nobody(id: &str) -> StartError {
    format!("there is no user {id:?}").into()
}

/// Carries an act out, written down as those of the operator's page are.
async fn act(
    state: &State,
    user: &str,
    action: &'static str,
    change: Change,
    clock: &Clock,
) -> Result<(), StartError> {
    let row = AuditRow {
        at: clock.seconds(),
        actor: "command".into(),
        address: String::new(),
        action: action.into(),
        subject: user.into(),
        request_id: String::new(),
    };
    state.act(row, change).await.map_err(|error| match error {
        StateError::NoUser => nobody(user),
        error => error.into(),
    })
}

/// A user's overrides after these changes.
fn changed(before: &str, changes: &[String]) -> Result<String, String> {
    let mut kept: Vec<&str> = before.split(' ').filter(|one| !one.is_empty()).collect();
    for change in changes {
        let (policy, value) = change
            .split_once('=')
            .ok_or_else(|| format!("{change:?} is not POLICY=VALUE"))?;
        if value != "plan" {
            PlanSettings::default().set(policy, value)?;
        }
        kept.retain(|one| one.split('=').next() != Some(policy));
        if value != "plan" {
            kept.push(change);
        }
    }
    kept.sort_unstable();
    Ok(kept.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_changed_one_by_one() {
        let change = |before: &str, changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|one| (*one).to_owned()).collect();
            changed(before, &changes)
        };
        assert_eq!(
            change("jobs=2", &["user-hour=9", "jobs=3"]).unwrap(),
            "jobs=3 user-hour=9"
        );
        assert_eq!(
            change("jobs=2 user-hour=9", &["jobs=plan"]).unwrap(),
            "user-hour=9"
        );
        assert_eq!(change("jobs=2", &[]).unwrap(), "jobs=2");
        assert!(change("", &["speed=9"]).is_err() && change("", &["jobs"]).is_err());
    }
}
