//! Two origins, each with a state file of its own, one Redis: whoever is asked, the answer is the same.

use serde_json::{Value, json};

use crate::http::Answer;
use crate::program::{ALL_SCOPES, Service};
use crate::redis::{Redis, origin};

fn pair(redis: &Redis, store: &std::path::Path) -> [Service; 2] {
    [origin(redis, store).serve(), origin(redis, store).serve()]
}

/// A link that one origin gave, asked for at another: a load balancer gives both the same address.
fn open(service: &Service, url: &str) -> Answer {
    let at = url
        .find("/generated/")
        .or_else(|| url.find("/kept/"))
        .unwrap();
    let port = service.images.unwrap().port();
    service
        .link(&format!("http://localhost:{port}{}", &url[at..]))
        .send()
}

fn listed(service: &Service, token: &str) -> Value {
    let answer = service.get("/api/images").token(token).send().ok().json();
    answer["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["id"].clone())
        .collect()
}

#[test]
fn clients_tokens_pictures_and_decisions_of_one_origin_are_the_others_too() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let client = one.client(ALL_SCOPES);
    // A secret that one origin registered, a token that the other issued.
    let (token, same) = (one.token_of(&client), other.token_of(&client));
    let image = one.picture(&token);
    let theirs = other.picture(&same);
    let ids = json!([theirs["id"], image["id"]]);
    for (service, token) in [(&one, &same), (&other, &token)] {
        assert_eq!(listed(service, token), ids);
        let usage = service.get("/api/usage").token(token).send().ok().json();
        let limits = usage["limits"].as_array().unwrap().clone();
        let storage = limits
            .iter()
            .find(|row| row["policy"] == "storage")
            .unwrap();
        let bytes = image["bytes"].as_u64().unwrap() + theirs["bytes"].as_u64().unwrap();
        assert_eq!(storage["used"], bytes);
    }
    let url = image["url"].as_str().unwrap();
    assert_eq!(open(&other, url).status, 200);
    // What one decides the other acts on.
    let id = image["id"].as_str().unwrap();
    other
        .post(&format!("/api/images/{id}/keep"))
        .token(&token)
        .send()
        .ok();
    assert_eq!(open(&one, url).status, 200);
    other
        .home()
        .succeed(&["user", "revoke-links", &client.user]);
    assert_eq!(open(&one, url).problem(), (403, "link_revoked".into()));
    one.delete(&format!("/api/images/{id}")).token(&same).send();
    assert_eq!(listed(&other, &token), json!([theirs["id"]]));
    one.home().succeed(&["user", "suspend", &client.user]);
    let refused = other.generate(&token, &crate::program::quick());
    assert_eq!(refused.problem(), (403, "suspended".into()));
    other.home().succeed(&["client", "disable", &client.id]);
    assert_eq!(one.ask_token(&client.form()).status, 401);
}

#[test]
fn what_one_origin_knew_outlives_it_and_its_disk() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let client = one.client(ALL_SCOPES);
    let image = one.picture(&one.token_of(&client));
    drop(one.kill());
    let third = origin(&redis, store.path()).serve();
    for service in [&other, &third] {
        let token = service.token_of(&client);
        assert_eq!(listed(service, &token), json!([image["id"]]));
    }
}

#[test]
fn while_redis_is_away_each_origin_goes_on_and_afterwards_they_agree() {
    let (mut redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let client = one.client(ALL_SCOPES);
    let tokens = [one.token_of(&client), other.token_of(&client)];
    redis.kill();
    let made = [one.picture(&tokens[0]), other.picture(&tokens[1])];
    for (image, service) in made.iter().zip([&one, &other]) {
        assert_eq!(open(service, image["url"].as_str().unwrap()).status, 200);
    }
    redis.again();
    let bytes = made
        .iter()
        .map(|image| image["bytes"].as_u64().unwrap())
        .sum::<u64>();
    for (service, token) in [(&one, &tokens[0]), (&other, &tokens[1])] {
        // Both have noticed within seconds.
        let agrees = (0..2_400).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            listed(service, token).as_array().unwrap().len() == 2
        });
        assert!(agrees, "an origin does not know what the other made");
        let usage = service.get("/api/usage").token(token).send().ok().json();
        let limits = usage["limits"].as_array().unwrap().clone();
        let storage = limits
            .iter()
            .find(|row| row["policy"] == "storage")
            .unwrap();
        assert_eq!(storage["used"], bytes);
    }
}
