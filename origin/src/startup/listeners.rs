//! The listeners: bound before anything is opened, so that every address in the configuration is the real one, then
//! served.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::STRICT_TRANSPORT_SECURITY;
use actix_web::middleware::{Condition, DefaultHeaders, from_fn};
use actix_web::{App as ActixApp, HttpServer, web};
use rustls::ServerConfig;

use super::{App, DRAIN_SECONDS, StartError, write_private};
use crate::auth::guard::Guard;
use crate::config::Settings;
use crate::operator::OperatorPage;
use crate::studio::Studio;
use crate::tls::HSTS;
use crate::tls::redirect::{self, Targets};
use crate::{middleware, routes};

/// How long the headers of a request may take to arrive. A connection whose client stopped sending is over too: that
/// is how a job whose client left is noticed and cancelled.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// The addresses that were bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    public: SocketAddr,
    images: Option<SocketAddr>,
    operator: SocketAddr,
    redirect: Option<SocketAddr>,
}

/// What is bound and not served yet.
pub(super) struct Listeners {
    public: TcpListener,
    images: Option<TcpListener>,
    operator: TcpListener,
    redirect: Option<TcpListener>,
}

/// A server on a listener, within the bounds that all of them share.
macro_rules! listening {
    ($server:expr, $listener:expr, $tls:expr, $workers:expr) => {{
        let server = $server
            .shutdown_timeout(DRAIN_SECONDS)
            .h1_allow_half_closed(false)
            .client_request_timeout(HEADERS_WITHIN)
            .tls_handshake_timeout(HEADERS_WITHIN)
            .disable_signals();
        let tls: Option<&ServerConfig> = $tls;
        match tls {
            Some(config) => server.listen_rustls_0_23($listener, config.clone())?,
            None => server.listen($listener)?,
        }
        .workers($workers)
        .run()
    }};
}

impl Listeners {
    /// Binds what is configured, and writes the ports that were found into the settings where they say 0.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub(super) fn bind(settings: &mut Settings) -> std::io::Result<(Self, Bound)> {
        let images = match settings.images.deliver {
            true => Some(&mut settings.images.bind),
            false => None,
        };
        let redirect = settings.server.tls.redirect_bind.as_mut();
        let stalled = settings.server.stalled_seconds;
        let listen = |address: &mut SocketAddr| listen(address, stalled);
        let listeners = Self {
            public: listen(&mut settings.server.bind)?,
            operator: listen(&mut settings.server.operator_bind)?,
            images: images.map(listen).transpose()?,
            redirect: redirect.map(listen).transpose()?,
        };
        let bound = Bound {
            public: settings.server.bind,
            images: listeners.images.is_some().then_some(settings.images.bind),
            operator: settings.server.operator_bind,
            redirect: settings.server.tls.redirect_bind,
        };
        Ok((listeners, bound))
    }

    /// Begins to serve. The operator listener speaks plain HTTP: it is on loopback or a private network.
    ///
    /// # Errors
    /// A page that cannot be built, or a listener that cannot be served.
    pub(super) fn serve(
        self,
        app: App,
        tls: Option<&ServerConfig>,
    ) -> Result<Vec<Server>, StartError> {
        let operator_page = web::Data::new(OperatorPage::new()?);
        let studio = web::Data::new(Studio::new(&app.settings.images.url(), &app.models())?);
        let targets = web::Data::new(Targets([
            app.settings.server.url(),
            app.settings.images.url(),
        ]));
        let is_tls = tls.is_some();
        let hsts = move || {
            Condition::new(
                is_tls,
                DefaultHeaders::new().add((STRICT_TRANSPORT_SECURITY, HSTS)),
            )
        };
        let app = web::Data::new(app);
        let data = app.clone();
        let public = HttpServer::new(move || {
            ActixApp::new()
                .app_data(data.clone())
                .app_data(studio.clone())
                .wrap(from_fn(middleware::public))
                .wrap(hsts())
                .configure(routes::public)
        });
        let mut servers = vec![listening!(public, self.public, tls, 2)];
        if let Some(listener) = self.images {
            let data = app.clone();
            let images = HttpServer::new(move || {
                ActixApp::new()
                    .app_data(data.clone())
                    .wrap(from_fn(middleware::images))
                    .wrap(hsts())
                    .configure(routes::images)
            });
            servers.push(listening!(images, listener, tls, 1));
        }
        let operator = HttpServer::new(move || {
            ActixApp::new()
                .app_data(app.clone())
                .app_data(operator_page.clone())
                .wrap(from_fn(middleware::operator))
                .configure(routes::operator)
        });
        servers.push(listening!(operator, self.operator, None, 1));
        if let Some(listener) = self.redirect {
            let redirect = HttpServer::new(move || {
                ActixApp::new()
                    .app_data(targets.clone())
                    .default_service(web::route().open(redirect::send_on))
            });
            servers.push(listening!(redirect, listener, None, 1));
        }
        Ok(servers)
    }
}

/// A listener whose connections end when their clients take nothing for `stalled` seconds: each inherits its
/// TCP_USER_TIMEOUT (RFC 5482), which bounds how long sent bytes may wait for an acknowledgement or for room.
fn listen(address: &mut SocketAddr, stalled: u32) -> std::io::Result<TcpListener> {
    let named =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("{address}: {error}"));
    let listener = TcpListener::bind(*address).map_err(named)?;
    listener.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(&listener, stalled.saturating_mul(1000))?;
    *address = listener.local_addr()?;
    Ok(listener)
}

/// Tells the log, and the file that waits for it, what was bound.
pub(super) fn announce(bound: &Bound, ready_file: &Path) -> std::io::Result<()> {
    let json = serde_json::json!({ "public": bound.public, "images": bound.images, "operator": bound.operator, "redirect": bound.redirect });
    tracing::info!(public = %bound.public, operator = %bound.operator, images = ?bound.images, "ready");
    if ready_file.as_os_str().is_empty() {
        Ok(())
    } else {
        write_private(ready_file, &json.to_string())
    }
}
