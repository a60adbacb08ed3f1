//! The page at `/` of the HTTP address. It shows the node's pods and their changes in a browser.
//!
//! | module | contents |
//! | --- | --- |
//! | `guard` | access rules of the page |
//! | `files` | the HTML, CSS and scripts, all served by plegd |
//! | `stream` | server-sent events from a watch like any subscriber's, with figures in between |
//! | `json` | pods and events in the page's JSON |
//! | `figures` | the daemon's figures for the page's charts |
//!
//! A page costs as much as a subscriber: a cursor, and an entry in the list of subscribers. At most [`MAX_PAGES`] are open, and figures are
//! collected only while one is open. The page is read-only. Like `/metrics` at the same address, it contains no labels, annotations,
//! environment, arguments, addresses or container messages.

mod figures;
mod files;
mod guard;
mod json;
mod stream;

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

use self::{guard::Refusal, stream::PageStream};
use crate::{
    api::{
        access::Peer,
        node_name,
        subscribers::{SubscriberInfo, Subscribers},
    },
    app::App,
    clock::{Clock, Wall},
    config::{Config, PageAccess},
    http::{Remote, list_of_paths, plain},
    metrics::{self, Metrics},
    model::Position,
    watch::{Detail, Feed, Request as WatchRequest, SlowPolicy, Start},
};

/// Pages open at the same time.
pub const MAX_PAGES: usize = 8;

/// Headers of the page and its files. They allow loading from plegd only, and no embedding in other pages.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page and its data sources. Cheap to clone.
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
    permits: Arc<Semaphore>,
}

// === impl Page ===

impl Page {
    /// Creates the page; its watches are added to `subscribers`. `None` if the page is switched off.
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
            permits: Arc::new(Semaphore::new(MAX_PAGES)),
        })))
    }

    /// Whether a client with this address and these headers may see the page.
    fn admits(&self, from: Option<SocketAddr>, headers: &HeaderMap) -> Result<(), Refusal> {
        guard::admits(self.0.access, from, headers)
    }

    /// The response if no more pages may be open.
    fn limit_reached(&self, reason: String) -> Response {
        self.0.metrics.api.refused.inc(metrics::Refusal::Page);
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }

    /// The routes of the page and its files.
    pub fn router(self) -> Router {
        let files = files::ALL.iter().fold(Router::new(), |router, &file| {
            router.route(file.path, get(move || async move { file.into_response() }))
        });
        files
            .route("/page/events", get(events))
            .layer(middleware::from_fn_with_state(self.clone(), check_access))
            .route("/", get(index))
            .with_state(self)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("access", &self.0.access).finish_non_exhaustive()
    }
}

/// Returns the page to a browser that may see it, otherwise the list of paths.
async fn index(State(page): State<Page>, from: Option<Extension<Remote>>, headers: HeaderMap) -> Response {
    if !guard::is_browser(&headers) {
        return plain(StatusCode::OK, list_of_paths());
    }
    match page.admits(from.map(|Extension(Remote(from))| from), &headers) {
        Ok(()) => with_headers(files::DOCUMENT.into_response()),
        Err(refusal) => plain(StatusCode::FORBIDDEN, format!("{refusal}\n\n{}", list_of_paths())),
    }
}

async fn check_access(State(page): State<Page>, request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Remote>().map(|remote| remote.0);
    match page.admits(from, request.headers()) {
        Ok(()) => with_headers(next.run(request).await),
        Err(refusal) => plain(StatusCode::FORBIDDEN, format!("{refusal}\n")),
    }
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The stream of server-sent events: from a snapshot on, or after the browser's last position.
async fn events(
    State(page): State<Page>,
    Extension(Remote(from)): Extension<Remote>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if !guard::is_same_origin(&headers) {
        return plain(
            StatusCode::FORBIDDEN,
            "Only plegd's own page may open this path: open / instead.\n".into(),
        );
    }
    let Ok(permit) = page.0.permits.clone().try_acquire_owned() else {
        return page.limit_reached(format!("The limit of {MAX_PAGES} open pages is reached; close one."));
    };
    let start = resume_position(&headers, query.as_deref()).map_or(Start::Snapshot, Start::After);
    let request = WatchRequest { start, wait_ready: true, ..WatchRequest::default() };
    let watch = match page.0.feed.watch(request) {
        Ok(watch) => watch,
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    let info = SubscriberInfo {
        client_name: "page".into(),
        peer: Some(Peer::Network { address: from, certificate_names: None }),
        abort: None,
        since: page.0.clock.wall(),
        filter: String::new(),
        detail: Detail::Pod,
        slow_policy: SlowPolicy::Resync,
    };
    match page.0.subscribers.register(info, watch.progress().clone()) {
        Ok(subscriber) => PageStream::new(page, watch, subscriber, permit).into_response(),
        Err(reached) => page.limit_reached(format!("{reached}.")),
    }
}

/// The position to resume at: from the browser's header, or else from the page's query if the page had to reconnect.
fn resume_position(headers: &HeaderMap, query: Option<&str>) -> Option<Position> {
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let from_query = || query?.split('&').find_map(|pair| pair.strip_prefix("after="));
    header.or_else(from_query)?.parse().ok()
}

#[cfg(test)]
mod tests;
