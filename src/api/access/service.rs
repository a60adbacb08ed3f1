//! The service that wraps the API services: it admits or refuses each call, and counts the call when it ends.
//!
//! It knows services and methods only by name. An admitted call carries its [`Peer`] and the [`ConnectionAbort`] of its connection in its
//! extensions, and its body is bounded. The call counts as in flight, for its peer and in total, until the client has received the answer. A
//! Watch counts only until its stream begins, since `api.subscribers` limits streams.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, service::Routes};
use tower::{Service, ServiceExt as _};

use super::{
    AccessRules, ConnectionAbort, LogRateLimit, Peer, PeerKey, Principals, Rights, SocketBits,
    authorization::{LiveRules, PeerAuthorization},
    host,
    in_flight::{ALL_PEERS, InFlightLimit, InFlightPermit, LimitReached},
    message::Bounded,
};
use crate::{
    api::listen::Timeouts,
    clock::Clock,
    config::InForce,
    metrics::{Call, Metrics, Refusal},
};

/// At most one "client refused" log line for each user or host in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The largest chunk of an answer that is passed on at once: one HTTP/2 frame. HTTP/2 polls for the next chunk when the client has a free
/// window. So a call counts as in flight until the client has received nearly all of the answer.
const CHUNK_BYTES: usize = 16 * 1024;

/// The access control of a server: state shared by all its calls.
pub(in crate::api) struct AccessControl {
    rules: LiveRules,
    message_bytes: usize,
    timeouts: Timeouts,
    metrics: Arc<Metrics>,
    in_flight: Arc<InFlightLimit>,
    /// Connections accepted so far; used to number them.
    connections: AtomicU64,
    refusal_log: LogRateLimit<LogKey>,
}

/// Key for rate-limiting "client refused" log lines: by user or host, because there are too many processes.
#[derive(Clone, PartialEq, Eq, Hash)]
enum LogKey {
    User(u32),
    Address(std::net::IpAddr),
}

/// The API services as one connection may call them.
#[derive(Clone)]
pub(in crate::api) struct AccessService {
    services: Routes,
    access: Arc<AccessControl>,
    peer: Peer,
    key: PeerKey,
    abort: ConnectionAbort,
    rights: Arc<Mutex<Rights>>,
    load: Arc<watch::Sender<ConnectionLoad>>,
}

/// The calls of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct ConnectionLoad {
    /// Calls that have not ended.
    pub(in crate::api) in_flight: usize,
    /// Whether the connection has had a call.
    pub(in crate::api) started: bool,
    /// Whether a call was refused because its peer has no rights.
    pub(in crate::api) denied: bool,
}

/// The body of an answer. The call ends when the body is dropped.
pub(in crate::api) struct CountedBody {
    body: tonic::body::Body,
    /// Data of the body that is not passed on yet.
    rest: Bytes,
    guard: CallGuard,
    /// Aborts the connection at the answer's deadline, unless it is dropped earlier.
    _deadline: Option<AbortOnDropHandle<()>>,
}

/// Counts a call when it is dropped.
struct CallGuard {
    access: Arc<AccessControl>,
    load: Arc<watch::Sender<ConnectionLoad>>,
    abort: ConnectionAbort,
    call: Call,
    /// `None` until the call has ended. If it is dropped as `None`, the client has disconnected.
    code: Option<Code>,
    /// The permit of a request in flight.
    permit: Option<InFlightPermit>,
}

/// The right that a call needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequiredRight {
    Watch,
    Introspection,
    Either,
}

// === impl AccessControl ===

impl AccessControl {
    /// Creates the access control from a configuration, which may change. `socket` has the group and mode of the UNIX socket.
    pub(in crate::api) fn new(
        in_force: &InForce,
        socket: Option<SocketBits>,
        timeouts: Timeouts,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            rules: LiveRules::new(in_force, socket),
            message_bytes: in_force.get().config.api.message_bytes.0,
            timeouts,
            metrics,
            in_flight: InFlightLimit::new(in_force.live(|config| config.api.requests_per_peer)),
            connections: AtomicU64::new(0),
            refusal_log: LogRateLimit::new(LOG_INTERVAL, Clock::system()),
        }
    }

    pub(in crate::api) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Acquires the permit for a request of `peer`, which is counted by `key`.
    fn acquire(&self, peer: &Peer, key: PeerKey) -> Result<InFlightPermit, Status> {
        self.in_flight.acquire(key).map_err(|reached| {
            self.metrics.api.refused.inc(Refusal::Requests);
            Status::resource_exhausted(match reached {
                LimitReached::Peer(limit) => {
                    format!("{peer} has {limit} requests in flight, which is the limit set by api.requests_per_peer")
                }
                LimitReached::All(limit) => format!(
                    "all clients together have {limit} requests in flight, which is the limit: {ALL_PEERS} times \
                     api.requests_per_peer"
                ),
            })
        })
    }

    fn deny(&self, peer: &Peer, call: Call, required: RequiredRight) -> Status {
        self.metrics.api.refused.inc(Refusal::Peer);
        let key = match peer {
            Peer::Process { uid, .. } => LogKey::User(*uid),
            Peer::Network { address, .. } => LogKey::Address(host(address.ip())),
        };
        if self.refusal_log.allow(&key) {
            tracing::warn!(
                %peer, keys = required.keys(),
                "A client was refused: the configuration does not admit it. The error that it received names the key to \
                 change. Further refusals of the same user or host are not logged for one minute."
            );
        }
        Status::permission_denied(self.denial_message(peer, call, required))
    }

    fn denial_message(&self, peer: &Peer, call: Call, required: RequiredRight) -> String {
        use crate::metrics::Label as _;
        let action = if call == Call::Other { "make this call" } else { call.as_str() };
        let action = if call == Call::Other { action.to_owned() } else { format!("call {action}") };
        // Network clients do not learn which other principals are admitted.
        let admitted = |key: &str, principals: &Principals| match peer {
            Peer::Process { .. } => format!("{key} admits {principals}"),
            Peer::Network { .. } => format!("{key} does not admit it"),
        };
        let AccessRules { watch, introspection, .. } = &self.rules.now();
        let (rule, key) = match required {
            RequiredRight::Watch => (admitted("api.allow_watch", watch), "api.allow_watch"),
            RequiredRight::Introspection => {
                (admitted("api.allow_introspection", introspection), "api.allow_introspection")
            }
            RequiredRight::Either => {
                let both =
                    [admitted("api.allow_watch", watch), admitted("api.allow_introspection", introspection)];
                (both.join(", "), "either")
            }
        };
        format!("{peer} may not {action}: {rule}; to allow it, add {} to {key}", principal_of(peer))
    }
}

/// The principal to add to the configuration to admit this peer.
fn principal_of(peer: &Peer) -> String {
    match peer {
        Peer::Process { uid, .. } => format!("\"uid:{uid}\""),
        Peer::Network { certificate_names: None, address } if address.ip().to_canonical().is_loopback() => {
            "\"loopback\"".into()
        }
        Peer::Network { certificate_names: None, .. } => "\"any\"".into(),
        Peer::Network { certificate_names: Some(names), .. } => {
            names.first().map_or_else(|| "\"tls\"".into(), |name| format!("\"tls:{name}\""))
        }
    }
}

// === impl RequiredRight ===

impl RequiredRight {
    fn of_path(path: &str) -> Self {
        let service = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
        match service {
            "plegd.v1.PodLifecycleService" => Self::Watch,
            "plegd.v1.IntrospectionService" => Self::Introspection,
            // Health, reflection, and services that plegd does not have.
            _ => Self::Either,
        }
    }

    fn is_granted_by(self, rights: Rights) -> bool {
        match self {
            Self::Watch => rights.watch,
            Self::Introspection => rights.introspection,
            Self::Either => rights.watch || rights.introspection,
        }
    }

    fn keys(self) -> &'static str {
        match self {
            Self::Watch => "api.allow_watch",
            Self::Introspection => "api.allow_introspection",
            Self::Either => "api.allow_watch, api.allow_introspection",
        }
    }
}

// === impl AccessService ===

impl AccessService {
    /// Creates the service for a connection of `peer`; `abort` ends the connection. The caller can follow its load and its rights.
    pub(in crate::api) fn new(
        services: Routes,
        access: Arc<AccessControl>,
        peer: Peer,
        abort: ConnectionAbort,
    ) -> (Self, watch::Receiver<ConnectionLoad>, PeerAuthorization) {
        let (load, load_rx) = watch::channel(ConnectionLoad::default());
        let authorization = access.rules.authorize(&peer);
        let rights = authorization.rights();
        let key = peer.key(access.connections.fetch_add(1, Ordering::Relaxed));
        (Self { services, access, peer, key, abort, rights, load: Arc::new(load) }, load_rx, authorization)
    }

    /// Acquires the permit for a call if the peer may make it.
    fn admit(&self, path: &str, call: Call) -> Result<InFlightPermit, Status> {
        let (required, rights) = (RequiredRight::of_path(path), *self.rights.lock());
        if !required.is_granted_by(rights) {
            if !RequiredRight::Either.is_granted_by(rights) {
                self.load.send_modify(|load| load.denied = true);
            }
            return Err(self.access.deny(&self.peer, call, required));
        }
        self.access.acquire(&self.peer, self.key)
    }
}

impl<B> Service<Request<B>> for AccessService
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let call = Call::of_path(request.uri().path());
        let mut guard = CallGuard::new(self.access.clone(), self.load.clone(), self.abort.clone(), call);
        match self.admit(request.uri().path(), call) {
            Ok(permit) => guard.permit = Some(permit),
            Err(status) => {
                let refusal = status.into_http::<tonic::body::Body>();
                return Box::pin(async move { Ok(guard.count_body(refusal)) });
            }
        }
        request.extensions_mut().insert(self.peer.clone());
        request.extensions_mut().insert(self.abort.clone());
        // Reflection is a bidirectional stream; all other calls have one request.
        let timeout = (call != Call::Reflection).then_some(self.access.timeouts.request);
        let access = self.access.clone();
        let on_refusal = Box::new(move || access.metrics.api.refused.inc(Refusal::Message));
        let request = request.map(|body| Bounded::new(body, self.access.message_bytes, timeout, on_refusal));
        let answer = self.services.clone().oneshot(request);
        Box::pin(async move { answer.await.map(|answer| guard.count_body(answer)) })
    }
}

// === impl CallGuard ===

impl CallGuard {
    fn new(
        access: Arc<AccessControl>,
        load: Arc<watch::Sender<ConnectionLoad>>,
        abort: ConnectionAbort,
        call: Call,
    ) -> Self {
        load.send_modify(|load| {
            load.in_flight += 1;
            load.started = true;
        });
        Self { access, load, abort, call, code: None, permit: None }
    }

    /// Wraps the body of an answer, so that the call is counted when the body ends. An error already has its code in the headers.
    fn count_body(mut self, answer: Response<tonic::body::Body>) -> Response<CountedBody> {
        self.record_status(answer.headers());
        if self.call == Call::Watch {
            self.permit = None;
        }
        let deadline = (!self.may_stream() && !answer.body().is_end_stream()).then(|| self.start_deadline());
        answer.map(|body| CountedBody { body, rest: Bytes::new(), guard: self, _deadline: deadline })
    }

    /// Whether the answer may be a stream.
    fn may_stream(&self) -> bool {
        matches!(self.call, Call::Watch | Call::Health | Call::Reflection)
    }

    /// Aborts the connection when the deadline for reading the answer has passed. The answer is not polled while the client reads nothing,
    /// so the deadline needs its own task.
    fn start_deadline(&self) -> AbortOnDropHandle<()> {
        let (abort, call, timeout) = (self.abort.clone(), self.call, self.access.timeouts.answer);
        AbortOnDropHandle::new(tokio::spawn(async move {
            sleep(timeout).await;
            tracing::debug!(
                ?call,
                ?timeout,
                "A connection was aborted: the client did not read its answer in time."
            );
            abort.abort();
        }))
    }

    fn record_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.access.metrics.api.requests.inc((self.call, code.into()));
        self.load.send_modify(|load| load.in_flight -= 1);
    }
}

// === impl CountedBody ===

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = if self.rest.is_empty() {
            ready!(Pin::new(&mut self.body).poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut self.rest))))
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                self.guard.code = Some(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            None => return Poll::Ready(None),
        };
        if let Some(trailers) = frame.trailers_ref() {
            self.guard.record_status(trailers);
        }
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(mut data) => {
                self.rest = data.split_off(data.len().min(CHUNK_BYTES));
                Frame::data(data)
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
