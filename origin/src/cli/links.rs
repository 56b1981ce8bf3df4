//! `signet link …` and `signet keys …`.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Subcommand;
use shared::keyring::Keyring;
use shared::link::{AddressRange, LinkError, UnverifiedLink, fingerprint, safe_name};
use shared::object_key::ObjectKey;
use shared::revocation::MAX_SINGLE;

use super::rotate::{self, RotateArguments};
use crate::clock::{Clock, rfc3339};
use crate::config::Settings;
use crate::publish::{LinkOptions, Publisher};
use crate::startup::{StartError, configured_link_keys};

#[derive(Debug, Subcommand)]
pub(super) enum LinkCommand {
    /// Signs a link to an object and prints it.
    Sign {
        /// The object's key.
        key: String,
        /// Life in seconds; the configured one without it.
        #[arg(long)]
        ttl: Option<u64>,
        /// Only for this address or range, in any usual notation.
        #[arg(long)]
        ip: Option<String>,
        /// Name under which a browser saves it; what no file name may hold is replaced.
        #[arg(long)]
        dl: Option<String>,
        /// The owner's link epoch.
        #[arg(long, default_value_t = 0)]
        ep: u64,
    },
    /// Says whether a link is good: exit code 0 or 1.
    Verify {
        /// The link, whole or from its path on.
        link: String,
        /// The client's address, for links that name one.
        #[arg(long)]
        ip: Option<IpAddr>,
    },
    /// Revokes one link, at the edge too.
    Revoke {
        /// The link, whole or from its path on.
        link: String,
    },
    /// Says in a sentence why a link is or is not accepted.
    Explain {
        /// The link, whole or from its path on.
        link: String,
        /// The client's address, for links that name one.
        #[arg(long)]
        ip: Option<IpAddr>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Prints a keyring of one fresh key.
    Generate {
        /// The key's id.
        #[arg(long, default_value = "k1")]
        kid: String,
    },
    /// Lists the ids of the configured link keys, the signing one first.
    List,
    /// Brings in a new link key, or retires an old one, without refusing a good link; with `--tokens` a key of access
    /// tokens.
    Rotate(RotateArguments),
}

/// The part of a link that is judged: what follows the host.
fn target(link: &str) -> &str {
    match link.find("://").and_then(|at| link.get(at + 3..)) {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => link,
    }
}

fn judge(link: &str, ring: &Keyring, now: u64, client: Option<IpAddr>) -> Result<(), LinkError> {
    UnverifiedLink::parse(target(link))?
        .verify(ring, now, client)
        .map(|_| ())
}

/// How a link is named in a revocation, and when it ends. Only one that was signed can be named.
fn named(link: &str, ring: &Keyring) -> Result<([u8; 16], u64), StartError> {
    let exp = expiry(link).unwrap_or(0);
    let sig = link.rsplit_once("sig=").map_or("", |(_, sig)| sig);
    // At its last second, so that neither its end nor an address in it is in the way.
    match judge(link, ring, exp.saturating_sub(1), None) {
        Ok(()) | Err(LinkError::IpMismatch) => Ok((fingerprint(sig), exp)),
        Err(error) => Err(explain(Err(error)).into()),
    }
}

fn explain(verdict: Result<(), LinkError>) -> &'static str {
    match verdict {
        Ok(()) => {
            "The link is accepted: a key of the ring signed it, it has not expired, and it is for this address."
        }
        Err(LinkError::MethodNotAllowed) => "Links open with GET and HEAD only.",
        Err(LinkError::Malformed) => {
            "The link is refused: it is not in the one spelling that is signed (changed, re-encoded, reordered or cut)."
        }
        Err(LinkError::BadSignature) => {
            "The link is refused: it has no signature, or none of the ring's keys made it for exactly this path and these parameters."
        }
        Err(LinkError::Expired) => {
            "The link is refused: a key of the ring signed it, but its time has passed."
        }
        Err(LinkError::LifeTooLong) => {
            "The link is refused: a key of the ring signed it, but for longer than the 7 days that links may live."
        }
        Err(LinkError::IpMismatch) => {
            "The link is refused: a key of the ring signed it, but for another address (give the client's with --ip)."
        }
        Err(LinkError::RefererDenied) => "The link is refused: the page that embeds it may not.",
        Err(LinkError::Revoked) => "The link is refused: it was revoked.",
    }
}

pub(super) fn link(
    command: LinkCommand,
    settings: &Settings,
    clock: &Clock,
) -> Result<ExitCode, StartError> {
    let ring = configured_link_keys(settings)?;
    let now = clock.seconds();
    match command {
        LinkCommand::Sign {
            key,
            ttl,
            ip,
            dl,
            ep,
        } => {
            let key = ObjectKey::parse(&key)?;
            let ip = ip
                .map(|text| {
                    AddressRange::read(&text).map_err(|_| format!("{text:?} is no address range"))
                })
                .transpose()?;
            let extension = key.extension().unwrap_or("");
            let dl = dl
                .map(|text| {
                    safe_name(&text, extension)
                        .ok_or_else(|| format!("{key} has no extension that a name could end in"))
                })
                .transpose()?;
            let images = &settings.images;
            let publisher = Publisher::new(
                ring,
                &images.url(),
                images.link_seconds,
                images.grain_seconds,
            );
            let signed = publisher.link(&key, ep, &LinkOptions { ttl, ip, dl }, now)?;
            println!("{}", signed.url);
            eprintln!("expires {}", signed.expires_at);
        }
        LinkCommand::Verify { link, ip } => {
            if let Err(error) = judge(&link, &ring, now, ip) {
                println!("{}", error.problem().code);
                return Ok(ExitCode::FAILURE);
            }
            println!("ok");
        }
        LinkCommand::Revoke { link } => {
            let (print, exp) = named(&link, &ring)?;
            let state = super::open_state(settings)?;
            super::block_on(async {
                if !state.revoke_link(print, exp).await? {
                    return Err(format!("{MAX_SINGLE} links, tokens and addresses are revoked already: revoke the owner's links together (signet user revoke-links)").into());
                }
                super::tell_edge(settings, &state, clock).await;
                Ok(())
            })?;
        }
        LinkCommand::Explain { link, ip } => {
            let verdict = judge(&link, &ring, now, ip);
            println!("{}", explain(verdict));
            if let (Ok(()) | Err(LinkError::Expired), Some(exp)) = (verdict, expiry(&link)) {
                println!("Its time ends at {}.", rfc3339(exp));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn expiry(link: &str) -> Option<u64> {
    let (_, query) = link.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("exp="))
        .and_then(|exp| exp.parse().ok())
}

pub(super) fn keys(
    command: KeysCommand,
    settings: &Settings,
    clock: &Clock,
) -> Result<(), StartError> {
    match command {
        KeysCommand::Generate { kid } => {
            if !shared::keyring::is_kid(&kid) {
                return Err(format!("{kid:?} is no key id: 1 to 32 of a-z 0-9 -").into());
            }
            println!("{}", super::new_keyring(&kid).expose());
        }
        KeysCommand::Rotate(arguments) => rotate::rotate(&arguments, settings, clock)?,
        KeysCommand::List => {
            for (at, kid) in configured_link_keys(settings)?.kids().enumerate() {
                println!("{kid}{}", if at == 0 { "  signs" } else { "  verifies" });
            }
        }
    }
    Ok(())
}
