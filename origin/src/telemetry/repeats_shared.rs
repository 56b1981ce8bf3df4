//! Repeats of prompts over all origins that share a server, which each alone sees a part of.
//!
//! What is noted counts for its window and the next one, so that one window's keys hold what [`super::repeats`] counts:
//! this window and the one before.

use std::sync::LazyLock;

use redis::Script;
use sha2::{Digest, Sha256};
use shared::hex::hex;

use super::repeats::{MANY, Most, PAIRS, WINDOW};
use crate::state::server::{Server, ServerError, key};

/// Sorted sets of pairs of prompt and user, of prompts, of their numbers of users, and of those that many made.
const KINDS: [&str; 4] = ["pairs", "prompts", "users", "many"];

static NOTE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/note_repeat.lua")));
static MOST: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/most_repeated.lua")));

fn keys(window: u64) -> impl Iterator<Item = String> {
    KINDS
        .map(|kind| key("repeats", &format!("{kind}:{window}")))
        .into_iter()
}

fn short(text: &str) -> String {
    hex(Sha256::digest(text.as_bytes()).split_at(8).0)
}

/// Counts a generation for all origins.
///
/// # Errors
/// The server is away: it is counted here alone.
pub(super) async fn note(
    server: &Server,
    prompt_hash: &str,
    user: &str,
    now: u64,
) -> Result<(), ServerError> {
    let mut call = NOTE.prepare_invoke();
    for key in keys(now / WINDOW).chain(keys(now / WINDOW + 1)) {
        call.key(key);
    }
    let prompt = short(prompt_hash);
    call.arg(format!("{prompt}:{}", short(user))).arg(prompt);
    call.arg(PAIRS).arg(MANY).arg(2 * WINDOW);
    let run = async |mut connection| call.invoke_async::<()>(&mut connection).await;
    server.ask(run).await
}

/// The most repeated prompts of all origins.
///
/// # Errors
/// The server is away.
pub(super) async fn most(server: &Server, now: u64) -> Result<Most, ServerError> {
    let mut call = MOST.prepare_invoke();
    for key in keys(now / WINDOW) {
        call.key(key);
    }
    let run = async |mut connection| call.invoke_async::<(u64, u64)>(&mut connection).await;
    let (by_one_user, by_many_users) = server.ask(run).await?;
    Ok(Most {
        by_one_user,
        by_many_users,
    })
}

#[cfg(test)]
mod tests {
    use super::super::repeats::Repeats;
    use super::*;
    use crate::state::StateSettings;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_made_at_two_origins_counts_as_at_one_for_an_hour_at_most() {
        let mut redis = crate::test_redis::Server::start();
        let settings = StateSettings::at(redis.url());
        let origins = [(); 2].map(|()| Server::open(&settings).unwrap());
        let one = Repeats::default();
        let agree = async |now| {
            let expected = one.most(now);
            assert_eq!(most(&origins[0], now).await.unwrap(), expected, "at {now}");
            expected
        };
        let all = [
            ("a", "u"),
            ("a", "v"),
            ("a", "u"),
            ("b", "u"),
            ("a", "w"),
            ("a", "u"),
        ];
        for (n, (prompt, user)) in all.into_iter().enumerate() {
            let now = 10 * WINDOW + 100;
            note(&origins[n % 2], prompt, user, now).await.unwrap();
            one.note(prompt, user, now);
            agree(now).await;
        }
        let later = 11 * WINDOW;
        note(&origins[1], "a", "u", later).await.unwrap();
        one.note("a", "u", later);
        let expected = Most {
            by_one_user: 4,
            by_many_users: 6,
        };
        assert_eq!(agree(later).await, expected);
        agree(12 * WINDOW).await;
        agree(13 * WINDOW).await;
        redis.kill();
        assert!(most(&origins[0], later).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_of_different_prompts_takes_no_room_and_hides_nothing() {
        let redis = crate::test_redis::Server::start();
        let server = Server::open(&StateSettings::at(redis.url())).unwrap();
        for user in ["u", "v", "w", "u"] {
            note(&server, "a", user, 100).await.unwrap();
        }
        let flood = (0..PAIRS + 10).map(|n| {
            let server = server.clone();
            async move { note(&server, &n.to_string(), "x", 100).await.unwrap() }
        });
        use futures_util::StreamExt;
        let flood = futures_util::stream::iter(flood).buffer_unordered(64);
        flood.collect::<Vec<_>>().await;
        for kind in KINDS {
            let held = redis.ask(&["ZCARD", &key("repeats", &format!("{kind}:0"))]);
            assert!(held.parse::<usize>().unwrap() <= PAIRS, "{kind}");
        }
        let expected = Most {
            by_one_user: 2,
            by_many_users: 4,
        };
        assert_eq!(most(&server, 100).await.unwrap(), expected);
    }
}
