//! The prompt-hash keys of all origins that share a server: under one name there, changed by compare-and-set. Not in the
//! state, whose snapshots and backups would keep a key that is to be gone.
//!
//! The keys whose newest was made last count. Each origin's file follows, and is what it has while the server is away.

use std::sync::LazyLock;

use redis::Script;
use zeroize::Zeroizing;

use super::prompt_keys::{OVERLAP, PromptKeys, WEEK};
use crate::state::server::{Server, ServerError, key};

static EXCHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local known = redis.call('GET', KEYS[1]) or ''
         if known ~= ARGV[1] then return known end
         redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
         return ARGV[2]",
    )
});

/// Another origin changes them at the same moment at most so often.
const TRIES: usize = 8;

fn name() -> String {
    key("prompt", "keys")
}

async fn exchange(server: &Server, known: &str, wanted: &str) -> Result<String, ServerError> {
    let mut call = EXCHANGE.key(name());
    // When nobody changes them any more they are gone by themselves.
    call.arg(known).arg(wanted).arg(WEEK + OVERLAP);
    let run = async |mut connection| call.invoke_async::<String>(&mut connection).await;
    server.ask(run).await
}

/// The keys of all origins, when this one has `own`: the same after a week, and without the one before once its time is
/// over.
///
/// # Errors
/// The server is away, or holds something else.
pub(super) async fn agree(
    server: &Server,
    own: Option<&PromptKeys>,
    now: u64,
) -> Result<PromptKeys, ServerError> {
    let get = async |mut connection| {
        let mut get = redis::cmd("GET");
        let text = get
            .arg(name())
            .query_async::<Option<String>>(&mut connection)
            .await;
        text.map(Option::unwrap_or_default)
    };
    let mut known = Zeroizing::new(server.ask(get).await?);
    for _ in 0..TRIES {
        let shared = match known.as_str() {
            "" => None,
            text => Some(PromptKeys::parse(text).ok_or_else(|| {
                ServerError::Broken(format!("{} holds no prompt-hash keys", name()))
            })?),
        };
        let latest = match (shared, own) {
            (Some(shared), Some(own)) if own.is_later_than(&shared) => own.clone(),
            (Some(shared), _) => shared,
            (None, Some(own)) => own.clone(),
            (None, None) => PromptKeys::fresh(now),
        };
        let wanted = latest.at(now);
        let text = wanted.to_text();
        if *text == *known {
            return Ok(wanted);
        }
        let stands = Zeroizing::new(exchange(server, &known, &text).await?);
        if *stands == *text {
            return Ok(wanted);
        }
        known = stands;
    }
    Err(ServerError::Away(
        "the prompt-hash keys change too often".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateSettings;

    const T: u64 = 1_000_000;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_many_one_makes_and_one_changes_the_keys_and_all_have_them() {
        let redis = crate::test_redis::Server::start();
        let open = || Server::open(&StateSettings::at(redis.url())).unwrap();
        let mut own: Vec<Option<PromptKeys>> = vec![None; 8];
        for (now, keys) in [(T, 1), (T + WEEK, 2), (T + WEEK + OVERLAP, 1)] {
            let asked = own.iter().map(|own| {
                let (server, own) = (open(), own.clone());
                tokio::spawn(async move { agree(&server, own.as_ref(), now).await.unwrap() })
            });
            let agreed = futures_util::future::join_all(asked).await;
            let agreed: Vec<_> = agreed.into_iter().map(Result::unwrap).collect();
            for one in &agreed {
                assert_eq!(one.hash("a red apple"), agreed[0].hash("a red apple"));
                assert_eq!(one.to_text().lines().count(), keys);
            }
            own = agreed.into_iter().map(Some).collect();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_key_that_leaked_and_was_changed_at_one_origin_is_gone_at_all_and_foreign_text_stays()
    {
        let redis = crate::test_redis::Server::start();
        let server = Server::open(&StateSettings::at(redis.url())).unwrap();
        let first = agree(&server, None, T).await.unwrap();
        let changed = PromptKeys::fresh(T + 60);
        let told = agree(&server, Some(&changed), T + 61).await.unwrap();
        assert_eq!(told.kid(), changed.kid());
        let other = agree(&server, Some(&first), T + 62).await.unwrap();
        assert_eq!(other.kid(), changed.kid());
        assert_eq!(other.hash_before("x", T + 62), None);
        redis.ask(&["SET", &name(), "something else"]);
        assert!(matches!(
            agree(&server, Some(&first), T + 63).await,
            Err(ServerError::Broken(_))
        ));
        assert_eq!(redis.ask(&["GET", &name()]), "something else");
    }
}
