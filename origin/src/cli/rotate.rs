//! `signet keys rotate`: a new key of a ring, in the order that refuses nothing good. First everybody verifies with it, the
//! edge last to be told and waited for; only then it signs; and the old key goes when nothing of its making can live.
//!
//! The ring of links: the edge verifies, so it needs the new key before the origin signs. The ring between edge and
//! origin: both sign and both verify, so the origin knows the new key before the edge, which signs with it from then on,
//! and the origin itself signs with it last.
//!
//! Every step leaves the files so that the same command, run again, goes on from there.

mod files;

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use shared::keyring::{Keyring, is_kid};

use self::files::{Files, replace};
use crate::clock::{Clock, rfc3339};
use crate::config::Settings;
use crate::publish::FOLLOW_EVERY;
use crate::secret::Secret;
use crate::startup::{StartError, configured_link_keys};

#[derive(Debug, Args)]
pub(super) struct RotateArguments {
    /// Instead: adds a key that signs access tokens. It is shown in the JWKS ten minutes before it signs; the one before
    /// stays until its tokens are over. A running service takes it up by itself.
    #[arg(long, conflicts_with_all = ["kid", "edge", "retire", "edge_keys", "prompts"])]
    pub(super) tokens: bool,
    /// Instead: changes the key under which prompts are hashed in the log. The service does that weekly by itself.
    #[arg(long, conflicts_with_all = ["kid", "edge", "retire", "edge_keys"])]
    pub(super) prompts: bool,
    /// For a key that leaked. Of tokens: signs from now on, and every older key and token counts no more. Of prompts:
    /// the one before is gone, and repeats are counted anew.
    #[arg(long, conflicts_with_all = ["kid", "edge", "retire", "edge_keys"])]
    pub(super) at_once: bool,
    /// Instead: brings in a key of the ring between edge and origin (`edge.keys_file`, the edge's EDGE_KEYS).
    #[arg(long)]
    edge_keys: bool,
    /// Id of the new key; by default `k` and the time.
    #[arg(long)]
    kid: Option<String>,
    /// The command that gives the edge its keyring, which it reads from standard input, such as
    /// `wrangler secret put LINK_KEYS --env production`.
    #[arg(long)]
    edge: Option<String>,
    /// Seconds until all of the edge has a keyring that it was given.
    #[arg(long, default_value_t = 30)]
    wait: u64,
    /// Instead: removes this key, once nothing that it signed can live.
    #[arg(long, conflicts_with = "kid")]
    retire: Option<String>,
    /// Removes it at once; what it signed ends with it.
    #[arg(long, requires = "retire")]
    now: bool,
}

pub(super) fn rotate(
    arguments: &RotateArguments,
    settings: &Settings,
    clock: &Clock,
) -> Result<(), StartError> {
    if arguments.at_once {
        return Err(
            "--at-once goes with --tokens or --prompts; here it is --retire KID --now".into(),
        );
    }
    // Makes the first ring where none was made yet, and says what is wrong with a bad one.
    if !arguments.edge_keys {
        configured_link_keys(settings)?;
    }
    let files = Files::of(settings, arguments.edge_keys)?;
    let lock = File::open(&files.ring)?;
    lock.try_lock()
        .map_err(|_| "another rotation is under way")?;
    match &arguments.retire {
        Some(kid) => retire(kid, arguments, &files, clock.seconds()),
        None => bring(arguments, &files, clock),
    }
}

fn bring(arguments: &RotateArguments, files: &Files, clock: &Clock) -> Result<(), StartError> {
    let (old, ring) = files.read()?;
    let pair = next_pair(arguments, files, &ring, clock.seconds())?;
    let kid = pair.expose().split(':').next().unwrap_or("").to_owned();
    let signing = ring.signing().kid().to_owned();
    if signing == kid {
        // The last run ended between its last two steps.
        fs::remove_file(&files.next)?;
        return Err(format!("{kid} signs already; run again for another key").into());
    }
    let all = if ring.get(&kid).is_some() {
        old
    } else {
        let all = Secret::new(format!("{},{}", old.expose(), pair.expose()));
        files.write(&all)?;
        all
    };
    eprintln!("{kid} verifies here");
    let rest = all
        .expose()
        .split(',')
        .filter(|other| *other != pair.expose());
    let first: Vec<&str> = std::iter::once(pair.expose()).chain(rest).collect();
    let first = Secret::new(first.join(","));
    if files.is_edge {
        // The edge signs with the first key from the moment it has it: everybody here knows it by then.
        std::thread::sleep(FOLLOW_EVERY * 3);
        give_edge(arguments, &first)?;
    } else {
        give_edge(arguments, &all)?;
    }
    // Every process that follows the file knows the key before any signs with it.
    std::thread::sleep(FOLLOW_EVERY * 3);
    files.write(&first)?;
    std::thread::sleep(FOLLOW_EVERY * 3);
    let now = clock.seconds();
    let mut stopped = File::options()
        .append(true)
        .create(true)
        .open(&files.stopped)?;
    writeln!(stopped, "{signing} {now}")?;
    fs::remove_file(&files.next)?;
    println!("{kid} signs, {signing} verifies");
    let (what, ring) = files.words();
    println!(
        "The last {what} of {signing} ends by {}; then: signet keys rotate{ring} --retire {signing}",
        rfc3339(now + files.life())
    );
    Ok(())
}

/// The pair to bring in: the one that an interrupted rotation left, else a fresh one, noted down first.
fn next_pair(
    arguments: &RotateArguments,
    files: &Files,
    ring: &Keyring,
    now: u64,
) -> Result<Secret, StartError> {
    if let Ok(text) = fs::read_to_string(&files.next) {
        let pair = Secret::new(text);
        let kid = pair.expose().split(':').next().unwrap_or("");
        if Keyring::parse(pair.expose()).is_err() {
            return Err(format!("{} holds no key; remove it", files.next.display()).into());
        }
        if arguments.kid.as_deref().is_some_and(|wanted| wanted != kid) {
            return Err(format!("a rotation to {kid} is under way; finish it first").into());
        }
        eprintln!("going on with the rotation to {kid}");
        return Ok(pair);
    }
    let kid = arguments.kid.clone().unwrap_or_else(|| format!("k{now}"));
    if !is_kid(&kid) {
        return Err(format!("{kid:?} is no key id: 1 to 32 of a-z 0-9 -").into());
    }
    if ring.get(&kid).is_some() || files.stopped_at(&kid).is_some() {
        return Err(format!("{kid} is or was a key of this ring; take another id").into());
    }
    let pair = super::new_keyring(&kid);
    replace(&files.next, pair.expose())?;
    Ok(pair)
}

fn retire(
    kid: &str,
    arguments: &RotateArguments,
    files: &Files,
    now: u64,
) -> Result<(), StartError> {
    let (text, ring) = files.read()?;
    if ring.signing().kid() == kid {
        return Err(format!("{kid} signs; bring in another key first: signet keys rotate").into());
    }
    if ring.get(kid).is_none() {
        return Err(format!("{kid} is no key of the ring").into());
    }
    let end = files.stopped_at(kid).map(|at| at + files.life());
    let (what, _) = files.words();
    match end {
        _ if arguments.now => {}
        Some(end) if now >= end => {}
        Some(end) => {
            return Err(format!(
                "a {what} of {kid} may live until {}; --now ends them all",
                rfc3339(end)
            )
            .into());
        }
        None => {
            return Err(format!(
                "it is not known when {kid} stopped signing; --now ends what it signed, whatever it is"
            )
            .into());
        }
    }
    let rest: Vec<&str> = text
        .expose()
        .split(',')
        .filter(|pair| pair.split(':').next() != Some(kid))
        .collect();
    let rest = Secret::new(rest.join(","));
    if files.is_edge {
        // As long as the edge has the key it may sign with it.
        give_edge(arguments, &rest)?;
        files.write(&rest)?;
    } else {
        files.write(&rest)?;
        give_edge(arguments, &rest)?;
    }
    println!("{kid} is gone");
    Ok(())
}

/// Hands the ring to the edge's command and waits until it has arrived everywhere.
fn give_edge(arguments: &RotateArguments, ring: &Secret) -> Result<(), StartError> {
    let Some(command) = &arguments.edge else {
        return Ok(());
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let given = child
        .stdin
        .take()
        .map(|mut input| input.write_all(ring.expose().as_bytes()));
    let status = child.wait()?;
    if !status.success() || !matches!(given, Some(Ok(()))) {
        return Err(
            "the edge's command failed; nothing was changed beyond that, run the same again".into(),
        );
    }
    eprintln!(
        "the edge was given the keyring; waiting {} s",
        arguments.wait
    );
    std::thread::sleep(Duration::from_secs(arguments.wait));
    Ok(())
}
