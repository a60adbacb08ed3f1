//! The gate before the services: each call is admitted or refused, and is counted when it ends.
//!
//! The gate knows services and methods only by name. An admitted call carries its [`Peer`] and the [`Cut`] of its connection in its
//! extensions, and its body is bounded. The call counts as in flight, for its peer and in total, until the client has taken the answer. A
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
    Access, Cut, Peer, PeerKey, Principals, Rights, Seldom, SocketBits, machine,
    message::Bounded,
    standing::{Rules, Standing},
    under_way::{Full, Place, UnderWay},
};
use crate::{
    api::listen::Patience,
    clock::Clock,
    config::InForce,
    metrics::{Call, Metrics, Refusal},
};

/// At most one "client refused" log line for each peer in this time.
const TELLING: Duration = Duration::from_secs(60);

/// The largest piece of an answer that is passed on at once: one HTTP/2 frame. The next piece is requested when the client has a free
/// window. So an answer counts as in flight until the client has taken nearly all of it.
const PIECE_BYTES: usize = 16 * 1024;

/// State shared by all calls of a server.
pub(in crate::api) struct Gate {
    rules: Rules,
    message_bytes: usize,
    patience: Patience,
    metrics: Arc<Metrics>,
    under_way: Arc<UnderWay>,
    /// Connections accepted so far; used to number them.
    connections: AtomicU64,
    told: Seldom<Told>,
}

/// Key for rate-limiting "client refused" log lines: by user or host, because there are too many processes.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Told {
    User(u32),
    Address(std::net::IpAddr),
}

/// The gate for one connection.
#[derive(Clone)]
pub(in crate::api) struct Entrance {
    services: Routes,
    gate: Arc<Gate>,
    peer: Peer,
    key: PeerKey,
    cut: Cut,
    rights: Arc<Mutex<Rights>>,
    load: Arc<watch::Sender<Load>>,
}

/// The calls of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Load {
    /// Calls that have not ended.
    pub(in crate::api) under_way: usize,
    /// Whether the connection has had a call.
    pub(in crate::api) begun: bool,
    /// Whether a call was refused because its peer has no rights.
    pub(in crate::api) unwelcome: bool,
}

/// The body of an answer. The call ends when this is dropped.
pub(in crate::api) struct Answer {
    body: tonic::body::Body,
    /// Data of the body that is not passed on yet.
    rest: Bytes,
    ending: Ending,
    /// Cuts the connection at the answer's deadline, unless it is dropped earlier.
    _bound: Option<AbortOnDropHandle<()>>,
}

/// Counts a call when it is dropped.
struct Ending {
    gate: Arc<Gate>,
    load: Arc<watch::Sender<Load>>,
    cut: Cut,
    call: Call,
    /// `None` until the call has ended. If it is dropped as `None`, the client has disconnected.
    code: Option<Code>,
    /// The place among the requests in flight.
    place: Option<Place>,
}

/// The right that a call needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Watch,
    Introspection,
    Either,
}

// === impl Gate ===

impl Gate {
    /// Creates the gate from a configuration, which may change. `socket` has the group and mode of the UNIX socket.
    pub(in crate::api) fn new(
        in_force: &InForce,
        socket: Option<SocketBits>,
        patience: Patience,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            rules: Rules::new(in_force, socket),
            message_bytes: in_force.get().config.api.message_bytes.0,
            patience,
            metrics,
            under_way: UnderWay::new(in_force.live(|config| config.api.requests_per_peer)),
            connections: AtomicU64::new(0),
            told: Seldom::new(TELLING, Clock::system()),
        }
    }

    pub(in crate::api) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Takes a place among the requests in flight for `peer`, which is counted by `key`.
    fn place(&self, peer: &Peer, key: PeerKey) -> Result<Place, Status> {
        self.under_way.place(key).map_err(|full| {
            self.metrics.api.refused.inc(Refusal::Requests);
            Status::resource_exhausted(match full {
                Full::Peer(limit) => format!(
                    "{peer} has {limit} requests under way, as many as are allowed; api.requests_per_peer sets this"
                ),
                Full::All(limit) => format!(
                    "all clients together have {limit} requests under way, as many as are allowed; \
                     api.requests_per_peer sets this, of which it is a multiple"
                ),
            })
        })
    }

    fn denied(&self, peer: &Peer, call: Call, need: Need) -> Status {
        self.metrics.api.refused.inc(Refusal::Peer);
        let told = match peer {
            Peer::Process { uid, .. } => Told::User(*uid),
            Peer::Network { address, .. } => Told::Address(machine(address.ip())),
        };
        if self.told.is_due(&told) {
            tracing::warn!(
                %peer, keys = need.keys(),
                "A client was refused: the configuration does not admit it. It is told what to change; \
                 within the next minute its like are not told of again."
            );
        }
        Status::permission_denied(self.denial(peer, call, need))
    }

    fn denial(&self, peer: &Peer, call: Call, need: Need) -> String {
        use crate::metrics::Label as _;
        let what = if call == Call::Other { "make this call" } else { call.as_str() };
        let what = if call == Call::Other { what.to_owned() } else { format!("call {what}") };
        // Network clients do not learn which other principals are admitted.
        let admitted = |key: &str, principals: &Principals| match peer {
            Peer::Process { .. } => format!("{key} admits {principals}"),
            Peer::Network { .. } => format!("{key} does not admit it"),
        };
        let Access { watch, introspection, .. } = &self.rules.now();
        let (rule, key) = match need {
            Need::Watch => (admitted("api.allow_watch", watch), "api.allow_watch"),
            Need::Introspection => {
                (admitted("api.allow_introspection", introspection), "api.allow_introspection")
            }
            Need::Either => {
                let both =
                    [admitted("api.allow_watch", watch), admitted("api.allow_introspection", introspection)];
                (both.join(", "), "either")
            }
        };
        format!("{peer} may not {what}: {rule}; to allow it, add {} to {key}", principal_of(peer))
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

// === impl Need ===

impl Need {
    fn of(path: &str) -> Self {
        let service = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
        match service {
            "plegd.v1.PodLifecycleService" => Self::Watch,
            "plegd.v1.IntrospectionService" => Self::Introspection,
            // Health, reflection, and services that plegd does not have.
            _ => Self::Either,
        }
    }

    fn is_met(self, rights: Rights) -> bool {
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

// === impl Entrance ===

impl Entrance {
    /// Creates the entrance for a connection of `peer`; `cut` ends the connection. The caller can follow its load and its rights.
    pub(in crate::api) fn new(
        services: Routes,
        gate: Arc<Gate>,
        peer: Peer,
        cut: Cut,
    ) -> (Self, watch::Receiver<Load>, Standing) {
        let (load, following) = watch::channel(Load::default());
        let standing = gate.rules.standing(&peer);
        let rights = standing.rights();
        let key = peer.key(gate.connections.fetch_add(1, Ordering::Relaxed));
        (Self { services, gate, peer, key, cut, rights, load: Arc::new(load) }, following, standing)
    }

    /// Takes a place for a call if the peer may make it.
    fn admit(&self, path: &str, call: Call) -> Result<Place, Status> {
        let (need, rights) = (Need::of(path), *self.rights.lock());
        if !need.is_met(rights) {
            if !Need::Either.is_met(rights) {
                self.load.send_modify(|load| load.unwelcome = true);
            }
            return Err(self.gate.denied(&self.peer, call, need));
        }
        self.gate.place(&self.peer, self.key)
    }
}

impl<B> Service<Request<B>> for Entrance
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let call = Call::of_path(request.uri().path());
        let mut ending = Ending::new(self.gate.clone(), self.load.clone(), self.cut.clone(), call);
        match self.admit(request.uri().path(), call) {
            Ok(place) => ending.place = Some(place),
            Err(status) => {
                let refusal = status.into_http::<tonic::body::Body>();
                return Box::pin(async move { Ok(ending.answered(refusal)) });
            }
        }
        request.extensions_mut().insert(self.peer.clone());
        request.extensions_mut().insert(self.cut.clone());
        // Reflection is a bidirectional stream; all other calls have one request.
        let patience = (call != Call::Reflection).then_some(self.gate.patience.request);
        let gate = self.gate.clone();
        let refused = Box::new(move || gate.metrics.api.refused.inc(Refusal::Message));
        let request = request.map(|body| Bounded::new(body, self.gate.message_bytes, patience, refused));
        let answer = self.services.clone().oneshot(request);
        Box::pin(async move { answer.await.map(|answer| ending.answered(answer)) })
    }
}

// === impl Ending ===

impl Ending {
    fn new(gate: Arc<Gate>, load: Arc<watch::Sender<Load>>, cut: Cut, call: Call) -> Self {
        load.send_modify(|load| {
            load.under_way += 1;
            load.begun = true;
        });
        Self { gate, load, cut, call, code: None, place: None }
    }

    /// Records the status code of an answer that has begun. An error already has its code in the headers.
    fn answered(mut self, answer: Response<tonic::body::Body>) -> Response<Answer> {
        self.note(answer.headers());
        if self.call == Call::Watch {
            self.place = None;
        }
        let bound = (!self.may_last() && !answer.body().is_end_stream()).then(|| self.bound());
        answer.map(|body| Answer { body, rest: Bytes::new(), ending: self, _bound: bound })
    }

    /// Whether the answer may be a stream.
    fn may_last(&self) -> bool {
        matches!(self.call, Call::Watch | Call::Health | Call::Reflection)
    }

    /// Cuts the connection when the deadline for taking the answer has passed. The answer is not polled while the client takes nothing,
    /// so the deadline needs its own task.
    fn bound(&self) -> AbortOnDropHandle<()> {
        let (cut, call, patience) = (self.cut.clone(), self.call, self.gate.patience.answer);
        AbortOnDropHandle::new(tokio::spawn(async move {
            sleep(patience).await;
            tracing::debug!(?call, "A client did not take its answer in time.");
            cut.cut();
        }))
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.gate.metrics.api.requests.inc((self.call, code.into()));
        self.load.send_modify(|load| load.under_way -= 1);
    }
}

// === impl Answer ===

impl Body for Answer {
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
                self.ending.code = Some(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            None => return Poll::Ready(None),
        };
        if let Some(trailers) = frame.trailers_ref() {
            self.ending.note(trailers);
        }
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(mut data) => {
                self.rest = data.split_off(data.len().min(PIECE_BYTES));
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
