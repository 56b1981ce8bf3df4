//! The Cloudflare Worker: signed links from the bucket ([`serve`]), API calls to the origin ([`gate`]), told apart by
//! host. This file is the wiring: configuration once per isolate, then one of the two paths.
//!
//! A link: method, shape, MAC, time, address, referer ([`serve::permit`]) → flood shield and revocation ([`limits`],
//! [`revocation`]) → object ([`bucket`]) → answer ([`respond`]). Where the whole picture is wanted, [`whole`] hands what
//! follows the checks to one function of JavaScript.
//!
//! A call: penalty box ([`penalty`]) → route ([`routes`]) → flood shields → token ([`bearer`], [`token_limit`]) → body and
//! headers ([`inbound`]), signed → origin. What was decided on the way goes along; what is counted goes there as a report
//! ([`counts`]).

mod bearer;
mod bucket;
mod clock;
mod config;
mod counts;
mod gate;
mod host;
mod inbound;
mod js;
mod limits;
mod origin;
mod penalty;
mod respond;
mod revocation;
mod revoked_pages;
mod routes;
mod serve;
#[cfg(feature = "test-hooks")]
mod test_hooks;
mod token_limit;
mod whole;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;

use js_sys::JsString;
use shared::error_shape::Shape;
use shared::problem::{self, Problem};
use shared::report;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::Request;
use worker::Env;

use bucket::Wanted;
use config::{Config, ConfigError};
use host::{host_is, split};
use js::Event;
use limits::Limiters;
use respond::{Context, Wish};
use revocation::{Known, Rule};
use serve::{Aside, LinkRequest, Opening, Permitted, ServeError};
use whole::Errand;

thread_local! {
    static CONFIG: OnceCell<Result<Rc<Config>, ConfigError>> = const { OnceCell::new() };
}

/// Answers a request: with a `Response` when no I/O is needed, else with a promise of one. `now` in Unix milliseconds.
#[wasm_bindgen]
pub fn fetch(
    request: Request,
    url: JsString,
    method: &str,
    env: Env,
    event: Event,
    now: f64,
) -> JsValue {
    let text = url.as_string().unwrap_or_default();
    let (host, target) = split(&text);
    let Some(config) = configuration(&env) else {
        return closed(problem::MISCONFIGURED, method, target);
    };
    #[cfg(feature = "test-hooks")]
    let config = test_hooks::overridden(config, &request);
    let now = clock::milliseconds(now) / 1000;
    let arrived = Arrived {
        request,
        event,
        env,
        url,
        start: text.len() - target.len(),
        now,
    };
    if host_is(&config.images_host, host) {
        link(arrived, &config, method, target)
    } else if host_is(&config.api_host, host) {
        call(arrived, config, method.to_owned(), target.to_owned())
    } else {
        closed(problem::UNKNOWN_HOST, method, target)
    }
}

/// A request as the runtime hands it over.
struct Arrived {
    request: Request,
    event: Event,
    env: Env,
    url: JsString,
    /// Where in the URL the request target begins; all before it is ASCII.
    start: usize,
    /// Unix seconds.
    now: u64,
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
fn call(arrived: Arrived, config: Rc<Config>, method: String, target: String) -> JsValue {
    let Arrived {
        request,
        event,
        env,
        now,
        ..
    } = arrived;
    let Some(client) = config.client.address(|name| header(&request, name)) else {
        js::log_error(NO_ADDRESS);
        return closed(problem::MISCONFIGURED, &method, &target);
    };
    future_to_promise(async move {
        let call = gate::Call {
            request: &request,
            event: &event,
            method: &method,
            target: &target,
            client,
            now,
            limiters: Limiters(config.limits.then_some(&env)),
        };
        Ok(gate::pass(&call, &env, &config).await.into())
    })
    .into()
}

/// What is answered to a request that neither of the two paths may take.
fn closed(problem: Problem, method: &str, target: &str) -> JsValue {
    let request_id = limits::hex(&js::random::<16>());
    let context = Context {
        head: method == "HEAD",
        request_id: Some(&request_id),
        shape: Shape::at(target),
        ..Context::default()
    };
    respond::problem(problem, &context).into()
}

/// A request on the images host. Refusals of the link itself are answered at once.
fn link(arrived: Arrived, config: &Rc<Config>, method: &str, target: &str) -> JsValue {
    let Arrived {
        request,
        event,
        env,
        url,
        start,
        now,
    } = arrived;
    #[cfg(not(feature = "test-hooks"))]
    let given = None;
    #[cfg(feature = "test-hooks")]
    let (now, given, hooked) = test_hooks::facts(&request, now, target);
    #[cfg(feature = "test-hooks")]
    let (target, url, start) = (&*hooked.target, JsString::from(&*hooked.target), 0);
    // One crossing for all of them, and none before the MAC holds.
    let lines = OnceCell::new();
    let header = |name: &str| {
        js::header_pairs(lines.get_or_init(|| js::headers_of_link(&request)))
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
    if let Some(aside) = Aside::of(&facts, config) {
        let Some(client) = client() else {
            return serve::refuse(&ServeError::NoAddress, method == "HEAD", &request, config)
                .into();
        };
        return answer_aside(aside, request, env, client, Rc::clone(config));
    }
    let place = counts::key_named(target, config);
    let Permitted { link, clean } = match serve::permit(&facts, config) {
        Ok(permitted) => permitted,
        Err(error) => {
            counts::link(error.problem().code, place);
            let error = ServeError::Link(error);
            return serve::refuse(&error, method == "HEAD", &request, config).into();
        }
    };
    let mut wanted = serve::wanted(&facts);
    let Some(client) = client() else {
        return serve::refuse(&ServeError::NoAddress, method == "HEAD", &request, config).into();
    };
    let known = given.or_else(|| Known::at_hand(config.revocation, now));
    // Nearly always at hand; what may be revoked is asked for once more.
    let verdict = known
        .as_ref()
        .and_then(|known| known.verdict(&link, client, now));
    let origin = header("origin");
    let origin = config.referer.readable_by(origin.as_deref());
    let origin = origin.map(str::to_owned);
    let config = Rc::clone(config);
    if wanted.is_whole() && clean.is_none() {
        let errand = Errand {
            link,
            origin,
            client,
            now,
            place,
            text: url,
            at: start + 1, // behind the slash
        };
        if let Some(verdict) = verdict {
            let limiters = Limiters(config.limits.then_some(&env));
            return errand.run(&limiters, verdict, &event, &config).into();
        }
        return future_to_promise(async move {
            let known = match known {
                Some(known) => known,
                None => Known::now(&env, config.revocation, now).await,
            };
            let verdict = known.check(&env, &errand.link, client, now).await;
            let limiters = Limiters(config.limits.then_some(&env));
            JsFuture::from(errand.run(&limiters, verdict, &event, &config)).await
        })
        .into();
    }
    let head = wanted.head;
    let opened = if clean.is_some() {
        report::REDIRECTED
    } else {
        "ok"
    };
    if clean.is_some() {
        // Only whether there is a picture.
        wanted = Wanted {
            head: true,
            ..Wanted::default()
        };
    }
    future_to_promise(async move {
        let bucket = bucket::of(&env);
        let result = match &bucket {
            Ok(bucket) => {
                let known = match known {
                    Some(known) => known,
                    None => Known::now(&env, config.revocation, now).await,
                };
                let revoked = known.check(&env, &link, client, now).await;
                let opening = Opening {
                    client,
                    now,
                    wanted,
                    clean,
                    wish: Wish::of(&request, head, &config),
                    limiters: Limiters(config.limits.then_some(&env)),
                    revoked,
                    bucket,
                };
                serve::open(link, &opening, &config).await
            }
            Err(error) => Err(error.clone()),
        };
        counts::link(
            result.as_ref().map_or_else(ServeError::code, |_| opened),
            place,
        );
        Ok(result
            .unwrap_or_else(|error| serve::refuse(&error, head, &request, &config))
            .into())
    })
    .into()
}

/// What concerns no picture, behind the same shield.
fn answer_aside(
    aside: Aside,
    request: Request,
    env: Env,
    client: IpAddr,
    config: Rc<Config>,
) -> JsValue {
    future_to_promise(async move {
        let head = request.method() == "HEAD";
        let limiters = Limiters(config.limits.then_some(&env));
        let result = aside.answer(client, &limiters, head).await;
        let verdict = aside.verdict();
        counts::link(
            result.as_ref().map_or_else(ServeError::code, |_| verdict),
            None,
        );
        Ok(result
            .unwrap_or_else(|error| serve::refuse(&error, head, &request, &config))
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
            match &config {
                Ok(config) => {
                    js::read_address_from(config.client.header_name().unwrap_or(""));
                }
                Err(error) => js::log_error(&format!(
                    "edge: not set up correctly, every request is answered 503: {error}"
                )),
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
