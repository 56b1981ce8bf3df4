//! The Cloudflare Worker: signed links from the bucket ([`serve`]), API calls to the origin ([`gate`]), told apart by
//! host. This file is the wiring: configuration once per isolate, then one of the two paths.

mod bearer;
mod bucket;
mod clock;
mod config;
mod counts;
mod gate;
mod inbound;
mod js;
mod limits;
mod origin;
mod penalty;
mod respond;
mod revocation;
mod routes;
mod serve;
#[cfg(feature = "test-hooks")]
mod test_hooks;
mod token_limit;

use std::cell::OnceCell;
use std::rc::Rc;

use shared::problem::{self, Problem};
use shared::revocation::Snapshot;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::Request;
use worker::Env;

use config::{Config, ConfigError};
use limits::Limiters;
use respond::Context;
use revocation::{Known, Rule};
use serve::{LinkRequest, Opening, ServeError};

thread_local! {
    static CONFIG: OnceCell<Result<Rc<Config>, ConfigError>> = const { OnceCell::new() };
}

/// When a snapshot of revocations was made, in Unix milliseconds; -1 for what is none.
#[wasm_bindgen]
pub fn taken_ms(snapshot: &str) -> f64 {
    Snapshot::parse(snapshot).map_or(-1.0, |snapshot| snapshot.taken_ms as f64)
}

/// Answers a request: with a `Response` when no I/O is needed, else with a promise of one.
#[wasm_bindgen]
pub fn fetch(request: Request, env: Env, context: JsValue) -> JsValue {
    let Some(config) = configuration(&env) else {
        return closed(problem::MISCONFIGURED, &request.method());
    };
    #[cfg(feature = "test-hooks")]
    let config = test_hooks::overridden(config, &request);
    let url = request.url();
    let (host, target) = split(&url);
    let method = request.method();
    let (for_links, for_api) = (
        host_is(&config.images_host, host),
        host_is(&config.api_host, host),
    );
    if !for_links && !for_api {
        return closed(problem::UNKNOWN_HOST, &method);
    }
    if for_links {
        link(request, env, context, &config, &method, target)
    } else {
        call(request, env, context, config, method, target.to_owned())
    }
}

/// Tells the origin what was counted since the last time.
#[wasm_bindgen]
pub fn report(env: Env) -> JsValue {
    let Some(config) = configuration(&env) else {
        return JsValue::UNDEFINED;
    };
    future_to_promise(async move {
        counts::send(&config).await;
        Ok(JsValue::UNDEFINED)
    })
    .into()
}

const NO_ADDRESS: &str =
    "edge: a request without a client address; is CLIENT_IP_HEADER the one the front sets?";

/// A request on the API's host.
fn call(
    request: Request,
    env: Env,
    context: JsValue,
    config: Rc<Config>,
    method: String,
    target: String,
) -> JsValue {
    let Some(client) = config.client.address(|name| header(&request, name)) else {
        js::log_error(NO_ADDRESS);
        return closed(problem::MISCONFIGURED, &method);
    };
    future_to_promise(async move {
        let limiters = Limiters(config.limits.then_some(&env));
        let (request, method, target) = (&request, method.as_str(), target.as_str());
        let now = clock::now();
        let call = gate::Call {
            request,
            context: &context,
            method,
            target,
            client,
            now,
            limiters,
        };
        Ok(gate::pass(&call, &env, &config).await.into())
    })
    .into()
}

/// What is answered to a request that neither of the two paths may take.
fn closed(problem: Problem, method: &str) -> JsValue {
    let request_id = limits::hex(&js::random::<16>());
    let context = Context {
        head: method == "HEAD",
        request_id: Some(&request_id),
        ..Context::default()
    };
    respond::problem(problem, &context).into()
}

/// A request on the images host. Refusals of the link itself are answered at once.
fn link(
    request: Request,
    env: Env,
    context: JsValue,
    config: &Rc<Config>,
    method: &str,
    target: &str,
) -> JsValue {
    let now = clock::now();
    #[cfg(not(feature = "test-hooks"))]
    let given = None;
    #[cfg(feature = "test-hooks")]
    let (now, given, hooked) = test_hooks::facts(&request, now, target);
    #[cfg(feature = "test-hooks")]
    let target = hooked.target.as_str();
    // One crossing for all of them, and none before the MAC holds.
    let lines = OnceCell::new();
    let header = |name: &str| {
        let lines = lines.get_or_init(|| {
            js::headers_of_link(&request, config.client.header_name().unwrap_or(""))
        });
        js::header_pairs(lines)
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.to_owned())
    };
    let client = || config.client.address(header);
    let facts = LinkRequest {
        method,
        target,
        client: &client,
        now,
        header: &header,
    };
    let permitted = match serve::permit(&facts, config) {
        Ok(permitted) => permitted,
        Err(error) => {
            counts::link(error.problem().code, counts::key_named(target, config));
            return serve::refuse(&ServeError::Link(error), method == "HEAD").into();
        }
    };
    let key = counts::key_named(target, config);
    let wanted = serve::wanted(&facts);
    let Some(client) = client() else {
        js::log_error(NO_ADDRESS);
        return closed(problem::MISCONFIGURED, method);
    };
    let config = Rc::clone(config);
    future_to_promise(async move {
        let head = wanted.head;
        let bucket = bucket::of(&env);
        let result = match &bucket {
            Ok(bucket) => {
                let limiters = Limiters(config.limits.then_some(&env));
                let revoked = match given {
                    Some(given) => given,
                    None => Known::now(&env, config.revocation, now).await,
                };
                let opening = Opening {
                    client,
                    now,
                    wanted,
                    limiters,
                    revoked,
                    bucket,
                    cache: config.cache.then_some(&context),
                };
                serve::open(permitted, &opening, &config).await
            }
            Err(error) => Err(error.clone()),
        };
        counts::link(result.as_ref().map_or_else(ServeError::code, |_| "ok"), key);
        Ok(result
            .unwrap_or_else(|error| serve::refuse(&error, head))
            .into())
    })
    .into()
}

/// Read once; a bad configuration is told to the log once, and to clients only as 503.
fn configuration(env: &Env) -> Option<Rc<Config>> {
    CONFIG.with(|cell| {
        let result = cell.get_or_init(|| {
            let config = Config::read(|name| variable(env, name)).and_then(|config| {
                let has = |name: &&str| {
                    js_sys::Reflect::get(env, &JsValue::from_str(name))
                        .is_ok_and(|it| it.is_object())
                };
                let needed = if config.limits {
                    limits::BINDINGS.as_slice()
                } else {
                    &[]
                };
                let revocations = (config.revocation != Rule::Off).then_some(revocation::BINDING);
                match needed
                    .iter()
                    .chain(&[bucket::BINDING])
                    .chain(&revocations)
                    .find(|name| !has(name))
                {
                    Some(missing) => Err(ConfigError::Binding(missing)),
                    None => Ok(Rc::new(config)),
                }
            });
            if let Err(error) = &config {
                js::log_error(&format!(
                    "edge: not set up correctly, every request is answered 503: {error}"
                ));
            }
            config
        });
        result.as_ref().ok().map(Rc::clone)
    })
}

/// A variable or secret; plain workerd gives null for one that its environment lacks.
fn variable(env: &Env, name: &str) -> Option<String> {
    js_sys::Reflect::get(env, &JsValue::from_str(name))
        .ok()?
        .as_string()
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

/// Host and raw target of a URL as the runtime gives it; no URL parser may tidy the target up.
fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    }
}

/// Whether `host`, as it came, is the configured one; a port that says nothing may be left out or written.
fn host_is(configured: &str, host: &str) -> bool {
    let bare = |host: &'_ str| {
        let end = [":443", ":80"]
            .iter()
            .find_map(|port| host.strip_suffix(port));
        end.unwrap_or(host).len()
    };
    let (ours, theirs) = (bare(configured), bare(host));
    configured
        .get(..ours)
        .zip(host.get(..theirs))
        .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_without_tidying() {
        assert_eq!(
            split("http://a:1/b//c/../%67?x#y"),
            ("a:1", "/b//c/../%67?x#y")
        );
        assert_eq!(split("https://a"), ("a", "/"));
        assert_eq!(split("https://a?x"), ("a", "?x"));
    }

    #[test]
    fn hosts_match_whole_and_without_case() {
        assert!(host_is("img.example.com", "IMG.example.com"));
        assert!(host_is("img.example.com", "img.example.com:443"));
        assert!(host_is("localhost:8787", "localhost:8787"));
        assert!(!host_is("localhost:8787", "localhost"));
        assert!(!host_is("img.example.com", "evil-img.example.com"));
        assert!(!host_is("img.example.com", "img.example.com.evil"));
        assert!(!host_is("img.example.com", "img.example.com:8080"));
    }
}
