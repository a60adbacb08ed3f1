//! The gate before the services: each call passes it or is refused, and is counted when it ends.
//!
//! It knows services and methods by their names only. A call that is let through carries its [`Peer`] and the [`Cut`] of its
//! connection in its extensions and has a body that is bounded; until the last byte of its answer it counts for its peer and for its connection.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::{Code, Status, service::Routes};
use tower::{Service, ServiceExt as _};

use super::{Access, Cut, Peer, PeerKey, Principals, Rights, Seldom, message::Bounded};
use crate::{
    clock::Clock,
    metrics::{Call, Metrics, Refusal},
};

/// How often a peer that is refused is told of in the log.
const TELLING: Duration = Duration::from_secs(60);

/// What all calls of a server have in common.
pub(in crate::api) struct Gate {
    pub(in crate::api) access: Access,
    pub(in crate::api) requests_per_peer: usize,
    pub(in crate::api) message_bytes: usize,
    /// How long a request may take to come to its end.
    pub(in crate::api) patience: Duration,
    metrics: Arc<Metrics>,
    under_way: Mutex<HashMap<PeerKey, usize>>,
    told: Seldom<Told>,
}

/// Of whom it is told that he was refused: users and machines, since processes are many.
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
    cut: Cut,
    rights: Rights,
    load: Arc<watch::Sender<Load>>,
}

/// What goes on in a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Load {
    /// Calls that have not come to their end.
    pub(in crate::api) under_way: usize,
    /// Whether there ever was one.
    pub(in crate::api) begun: bool,
}

/// The body of an answer. With it ends the call.
pub(in crate::api) struct Answer {
    body: tonic::body::Body,
    ending: Ending,
}

/// Counts a call when it is dropped.
struct Ending {
    gate: Arc<Gate>,
    load: Arc<watch::Sender<Load>>,
    call: Call,
    /// `None`: it has not come to its end, so the client must have gone away.
    code: Option<Code>,
    /// By whom a place among the requests under way is held.
    holder: Option<PeerKey>,
}

/// Which of a peer's rights a call needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Watch,
    Introspection,
    Either,
}

// === impl Gate ===

impl Gate {
    pub(in crate::api) fn new(
        access: Access,
        config: &crate::config::Api,
        patience: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            access,
            requests_per_peer: config.requests_per_peer,
            message_bytes: config.message_bytes.0,
            patience,
            metrics,
            under_way: Mutex::default(),
            told: Seldom::new(TELLING, Clock::system()),
        }
    }

    /// The metrics that this gate counts in.
    pub(in crate::api) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A place among the requests that `peer` may have under way.
    fn place(&self, peer: &Peer) -> Result<PeerKey, Status> {
        let key = peer.key();
        let mut under_way = self.under_way.lock();
        let count = under_way.entry(key.clone()).or_default();
        if *count >= self.requests_per_peer {
            let limit = self.requests_per_peer;
            drop(under_way);
            self.metrics.api.refused.inc(Refusal::Requests);
            return Err(Status::resource_exhausted(format!(
                "{peer} has {limit} requests under way, as many as are allowed; api.requests_per_peer sets this"
            )));
        }
        *count += 1;
        Ok(key)
    }

    fn leave(&self, key: &PeerKey) {
        let mut under_way = self.under_way.lock();
        if let Some(count) = under_way.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                under_way.remove(key);
            }
        }
    }

    fn denied(&self, peer: &Peer, call: Call, need: Need) -> Status {
        self.metrics.api.refused.inc(Refusal::Peer);
        let told = match peer {
            Peer::Process { uid, .. } => Told::User(*uid),
            Peer::Network { address, .. } => Told::Address(address.ip().to_canonical()),
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
        let admitted = |key: &str, principals: &Principals| format!("{key} admits {principals}");
        let (watch, introspection) = (&self.access.watch, &self.access.introspection);
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

/// What to write into the configuration to admit this one.
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
            // Health, reflection, and what plegd does not have.
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
    /// For a connection of `peer` that `cut` ends; what goes on in it can be followed.
    pub(in crate::api) fn new(
        services: Routes,
        gate: Arc<Gate>,
        peer: Peer,
        cut: Cut,
    ) -> (Self, watch::Receiver<Load>) {
        let (load, following) = watch::channel(Load::default());
        let rights = gate.access.rights(&peer);
        (Self { services, gate, peer, cut, rights, load: Arc::new(load) }, following)
    }

    /// Who may hold a place, if the call needs one. Watches have a limit of their own.
    fn admit(&self, path: &str, call: Call) -> Result<Option<PeerKey>, Status> {
        let need = Need::of(path);
        if !need.is_met(self.rights) {
            return Err(self.gate.denied(&self.peer, call, need));
        }
        if call == Call::Watch { Ok(None) } else { self.gate.place(&self.peer).map(Some) }
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
        let mut ending = Ending::new(self.gate.clone(), self.load.clone(), call);
        match self.admit(request.uri().path(), call) {
            Ok(holder) => ending.holder = holder,
            Err(status) => {
                let refusal = status.into_http::<tonic::body::Body>();
                return Box::pin(async move { Ok(ending.answered(refusal)) });
            }
        }
        request.extensions_mut().insert(self.peer.clone());
        request.extensions_mut().insert(self.cut.clone());
        // Reflection is a conversation; all others ask once.
        let patience = (call != Call::Reflection).then_some(self.gate.patience);
        let gate = self.gate.clone();
        let refused = Box::new(move || gate.metrics.api.refused.inc(Refusal::Message));
        let request = request.map(|body| Bounded::new(body, self.gate.message_bytes, patience, refused));
        let answer = self.services.clone().oneshot(request);
        Box::pin(async move { answer.await.map(|answer| ending.answered(answer)) })
    }
}

// === impl Ending ===

impl Ending {
    fn new(gate: Arc<Gate>, load: Arc<watch::Sender<Load>>, call: Call) -> Self {
        load.send_modify(|load| {
            load.under_way += 1;
            load.begun = true;
        });
        Self { gate, load, call, code: None, holder: None }
    }

    /// The answer has begun; an error has its code there already.
    fn answered(mut self, answer: Response<tonic::body::Body>) -> Response<Answer> {
        self.note(answer.headers());
        answer.map(|body| Answer { body, ending: self })
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(holder) = &self.holder {
            self.gate.leave(holder);
        }
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
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ending.note(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => self.ending.code = Some(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
