//! The page at `/` of the HTTP address: what this node's pods do, live, for a person with a browser.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `guard` | whom the page answers |
//! | `files` | the page itself: HTML, CSS and scripts as they are sent, nothing from elsewhere |
//! | `stream` | server-sent events from the same watch that all subscribers have, with figures in between |
//! | `words` | pods and events as the page is told of them |
//! | `figures` | how plegd does, as the page's charts want it |
//!
//! A page costs what a subscriber costs: a cursor, and a place in the list of subscribers. There are [`PAGES`] at most, and
//! figures are gathered only while one is open. It can only be looked at, and is told no label, no annotation, no
//! environment, no argument, no address and no message of a container: nothing that `/metrics` beside it should not say.

mod figures;
mod files;
mod guard;
mod stream;
mod words;

use std::{fmt, net::SocketAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::sync::Semaphore;

use self::{guard::Refusal, stream::Telling};
use crate::{
    api::{
        access::Peer,
        node_name,
        subscribers::{About, Subscribers},
    },
    app::App,
    clock::{Clock, Wall},
    config::{Config, PageAccess},
    http::{Remote, list_of_paths, plain},
    metrics::{self, Metrics},
    model::Position,
    watch::{Detail, Feed, Request as WatchRequest, SlowPolicy, Start},
};

/// Pages that are open at the same time.
pub const PAGES: usize = 8;

/// What is sent with the page and all that belongs to it: it loads from here alone, and no other page may show it.
const POLICY: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page, and what it is told. Cheap to clone.
#[derive(Clone)]
pub struct Page(Arc<Inner>);

struct Inner {
    access: PageAccess,
    node: String,
    started_at: Wall,
    feed: Feed,
    metrics: Arc<Metrics>,
    clock: Clock,
    subscribers: Subscribers,
    places: Arc<Semaphore>,
}

// === impl Page ===

impl Page {
    /// The page of this plegd, whose watchers are put on this list; none if it is switched off.
    pub fn new(app: &App, config: &Config, subscribers: Subscribers) -> Option<Self> {
        if config.http.page == PageAccess::Off {
            return None;
        }
        Some(Self(Arc::new(Inner {
            access: config.http.page,
            node: node_name(&config.api),
            started_at: app.clock().wall(),
            feed: app.feed(),
            metrics: app.metrics().clone(),
            clock: app.clock().clone(),
            subscribers,
            places: Arc::new(Semaphore::new(PAGES)),
        })))
    }

    /// Whether whoever asks from there, with these headers, may see it.
    fn admits(&self, from: Option<SocketAddr>, headers: &HeaderMap) -> Result<(), Refusal> {
        guard::admits(self.0.access, from, headers)
    }

    /// There is no place for another one.
    fn full(&self, why: String) -> Response {
        self.0.metrics.api.refused.inc(metrics::Refusal::Page);
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }

    /// The page at `/`, and what belongs to it.
    pub fn router(self) -> Router {
        let files = files::ALL.iter().fold(Router::new(), |router, &file| {
            router.route(file.path, get(move || async move { file.into_response() }))
        });
        files
            .route("/page/events", get(events))
            .layer(middleware::from_fn_with_state(self.clone(), only_for_whom_it_may_concern))
            .route("/", get(index))
            .with_state(self)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("access", &self.0.access).finish_non_exhaustive()
    }
}

/// For a browser the page, if it may see it; for all others the list of paths.
async fn index(State(page): State<Page>, from: Option<Extension<Remote>>, headers: HeaderMap) -> Response {
    if !guard::is_browser(&headers) {
        return plain(StatusCode::OK, list_of_paths());
    }
    match page.admits(from.map(|Extension(Remote(from))| from), &headers) {
        Ok(()) => guarded(files::DOCUMENT.into_response()),
        Err(refusal) => plain(StatusCode::FORBIDDEN, format!("{refusal}\n\n{}", list_of_paths())),
    }
}

async fn only_for_whom_it_may_concern(State(page): State<Page>, request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Remote>().map(|remote| remote.0);
    match page.admits(from, request.headers()) {
        Ok(()) => guarded(next.run(request).await),
        Err(refusal) => plain(StatusCode::FORBIDDEN, format!("{refusal}\n")),
    }
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in POLICY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What happens, as server-sent events: from a snapshot on, or after the position that the browser has come to.
async fn events(
    State(page): State<Page>,
    Extension(Remote(from)): Extension<Remote>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if !guard::is_ours(&headers) {
        return plain(StatusCode::FORBIDDEN, "This is for plegd's own page: open / instead.\n".into());
    }
    let Ok(place) = page.0.places.clone().try_acquire_owned() else {
        return page.full(format!("{PAGES} pages are open, which is the most there may be; close one."));
    };
    let start = resumed(&headers, query.as_deref()).map_or(Start::Snapshot, Start::After);
    let request = WatchRequest { start, wait_ready: true, ..WatchRequest::default() };
    let watch = match page.0.feed.watch(request) {
        Ok(watch) => watch,
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    let about = About {
        client_name: "page".into(),
        peer: Some(Peer::Network { address: from, certificate_names: None }),
        cut: None,
        since: page.0.clock.wall(),
        filter: String::new(),
        detail: Detail::Pod,
        slow_policy: SlowPolicy::Resync,
    };
    match page.0.subscribers.enlist(about, watch.progress().clone()) {
        Ok(subscriber) => Telling::new(page, watch, subscriber, place).into_response(),
        Err(why) => page.full(format!("{why}.")),
    }
}

/// Where to go on: as the browser says by itself, or as the page does where it had to connect anew.
fn resumed(headers: &HeaderMap, query: Option<&str>) -> Option<Position> {
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let asked = || query?.split('&').find_map(|pair| pair.strip_prefix("after="));
    header.or_else(asked)?.parse().ok()
}

#[cfg(test)]
mod tests;
