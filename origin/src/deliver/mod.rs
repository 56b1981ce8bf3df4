//! The embedded images listener: the edge's walk of a link, by the same shared code, over this service's own store.

mod answer;
mod asked;
mod pace;

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use shared::link::{CleanTarget, LinkError, PermittedLink, UnverifiedLink, check_method};
use shared::problem;
use shared::report;
use shared::revocation;
use shared::site_file::SiteFile;

use crate::edge_trust::address_of;
use crate::error::ApiError;
use crate::startup::App;
use crate::storage::{ObjectInfo, StoreError};

use asked::Asked;

/// Every request of the images listener.
pub async fn serve(request: HttpRequest, app: web::Data<App>) -> HttpResponse {
    let asked = Asked::of(&request);
    let client = address_of(&request, &app.settings.edge.client_address_header);
    let origin = app.referers.readable_by(asked.fetch().origin);
    let aside = match *request.method() {
        Method::OPTIONS => origin.map(|_| (report::PREFLIGHT, answer::preflight())),
        Method::GET | Method::HEAD => {
            SiteFile::at(asked.target).map(|file| (report::SITE_FILE, answer::site_file(file)))
        }
        _ => None,
    };
    let (kid, answered) = match aside {
        Some(aside) => (None, shielded(&app, client).map(|_| aside)),
        None => link(&asked, &app, client).await,
    };
    let verdict = answered
        .as_ref()
        .map_or_else(|error| error.problem().code, |(verdict, _)| verdict);
    let kid = kid.as_deref().unwrap_or(report::UNKNOWN_KID);
    app.metrics.links.with_label_values(&[verdict, kid]).inc();
    if !report::is_aside(verdict) {
        app.watch.links(answered.is_ok(), 1);
    }
    let mut answer = match answered {
        Ok((_, answer)) => answer,
        Err(error) => answer::refusal(&error, asked.wants_page()),
    };
    answer::let_read(&mut answer, origin);
    answer
}

/// A verdict, and its answer.
type Answered = Result<(&'static str, HttpResponse), ApiError>;

/// A request that must be a link: the key of the ring that it names, and the answer.
async fn link(asked: &Asked<'_>, app: &App, client: Option<IpAddr>) -> (Option<String>, Answered) {
    match permit(asked, app, client) {
        Ok((link, clean)) => {
            let verdict = clean.map_or("ok", |_| report::REDIRECTED);
            let opened = open(asked, app, &link, clean, client).await;
            let answered = opened.map(|answer| (verdict, answer));
            (Some(link.kid().to_owned()), answered)
        }
        Err(error) => {
            let ring = app.publisher.ring.get();
            let kid = report::kid_named(asked.target, &ring).map(str::to_owned);
            (kid, Err(ApiError::Problem(error.problem())))
        }
    }
}

/// Without an address nothing can be limited: then nothing is served, as at the edge.
fn shielded(app: &App, client: Option<IpAddr>) -> Result<IpAddr, ApiError> {
    let client = client.ok_or(ApiError::Problem(problem::MISCONFIGURED))?;
    app.limits.link(client, app.clock.nanos())?;
    Ok(client)
}

/// What comes after the checks: limit, revocations, object.
async fn open(
    asked: &Asked<'_>,
    app: &App,
    link: &PermittedLink,
    clean: Option<CleanTarget<'_>>,
    client: Option<IpAddr>,
) -> Result<HttpResponse, ApiError> {
    let client = shielded(app, client)?;
    if let Err(error) = revoked(app, link, client).await? {
        return Err(ApiError::Problem(error.problem()));
    }
    let info = find(app, link).await?;
    match clean {
        Some(clean) => Ok(answer::sent_on(&clean.to_string())),
        None => answer::picture(asked, app, link, &info).await,
    }
}

fn permit<'a>(
    asked: &'a Asked<'_>,
    app: &App,
    client: Option<IpAddr>,
) -> Result<(PermittedLink, Option<CleanTarget<'a>>), LinkError> {
    check_method(asked.method)?;
    let fetch = asked.fetch();
    let (link, clean) = UnverifiedLink::parse_tracked(asked.target, || fetch.may_be_sent_on())?;
    let link = link
        .verify(&app.publisher.ring.get(), app.clock.seconds(), client)?
        .permit(&app.referers, &fetch)?;
    Ok((link, clean))
}

/// The state itself is at hand here, so there is nothing that could be old: the same entries as at the edge, judged alike.
async fn revoked(
    app: &App,
    link: &PermittedLink,
    client: IpAddr,
) -> Result<Result<(), LinkError>, ApiError> {
    let names = revocation::names_of_link(link, Some(client));
    let entries = app.state.revoked_among(names.clone()).await?;
    let now = app.clock.seconds();
    Ok(revocation::judge(link, &names, &entries, now))
}

/// The object under the link's key, or under the one it moved to.
async fn find(app: &App, link: &PermittedLink) -> Result<ObjectInfo, StoreError> {
    match app.store.head(link.key()).await {
        Err(StoreError::NotFound) => match link.key().counterpart() {
            Some(other) => app.store.head(&other).await,
            None => Err(StoreError::NotFound),
        },
        found => found,
    }
}
