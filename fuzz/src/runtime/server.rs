//! A CRI server that answers with bytes: each answer uses the next choices; without choices left, answers are
//! correct.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use plegd::{
    clock::Clock,
    model::{ContainerState, Pod, SandboxState},
};
use tokio::{io::DuplexStream, time::Sleep};

use super::super::{generated, input::Input, proto::Message};

/// gRPC's codes for an unknown id and an unknown call.
const NOT_FOUND: u8 = 5;
const UNIMPLEMENTED: u8 = 12;
/// Maximum number of events in one stream.
const EVENTS: usize = 24;
/// Capacity of a pipe.
const PIPE_BYTES: usize = 1 << 16;

/// The server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    clock: Clock,
    input: Mutex<Vec<u8>>,
}

/// The body of an answer.
struct Answer {
    steps: VecDeque<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
}

enum Step {
    /// A pause.
    Wait(Duration),
    /// These bytes.
    Data(Vec<u8>),
    /// The end, with this gRPC code.
    Status(u8),
    /// No end.
    Hang,
}

// === impl Server ===

impl Server {
    pub(super) fn new(input: &[u8], clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, input: Mutex::new(input.to_vec()) }))
    }

    /// Whether no choices are left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.0.input.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Answers correctly from now on.
    pub(super) fn answer_correctly(&self) {
        self.0.input.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The correct state: one ready sandbox with a running and an exited container. Lists show no more; a wrong
    /// detail of the same phase, such as another exit code, is corrected only by a read.
    pub(super) fn is_correct(&self, pods: &[Arc<Pod>]) -> bool {
        let [pod] = pods else { return false };
        let [sandbox] = &pod.sandboxes[..] else { return false };
        let mut containers: Vec<_> = pod.containers.iter().map(|it| (it.id.as_str(), it.state)).collect();
        containers.sort_by_key(|(id, _)| *id);
        sandbox.id.as_str() == "s0"
            && sandbox.state == SandboxState::Ready
            && containers == [("a", ContainerState::Running), ("b", ContainerState::Exited)]
    }

    /// A new connection.
    pub(super) fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<_>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            // Errors end the connection.
            let _ = builder.serve_connection(TokioIo::new(far), TowerToHyperService::new(service)).await;
        });
        near
    }

    async fn answer(&self, request: Request<impl Body<Data = Bytes> + Unpin>) -> Response<Answer> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let id = requested_id(request.into_body()).await;
        let steps = self.steps(&method, &id);
        let mut response = Response::new(Answer { steps, waiting: None });
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    }

    fn steps(&self, method: &str, id: &str) -> VecDeque<Step> {
        let now = self.0.clock.wall();
        let mut left = self.0.input.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_empty() {
            return correct(method, id, now.as_nanos() as u64);
        }
        // No runtime confuses the two kinds of ids.
        let unknown = match method {
            "ContainerStatus" => !generated::CONTAINERS.contains(&id),
            "PodSandboxStatus" => !generated::SANDBOXES.contains(&id),
            _ => false,
        };
        if unknown {
            return VecDeque::from([Step::Status(NOT_FOUND)]);
        }
        let mut input = Input::new(&left);
        let input = &mut input;
        let mut steps = VecDeque::new();
        if input.chance(16) {
            steps.push_back(Step::Wait(Duration::from_millis(input.pick(&[1, 50, 900, 2000]))));
        }
        if method == "GetContainerEvents" {
            for _ in 0..input.below(EVENTS) {
                steps.push_back(Step::Wait(Duration::from_millis(input.pick(&[0, 0, 1, 60, 400, 1500]))));
                let message = generated::event(input, now);
                steps.push_back(Step::Data(framed(input, &message)));
            }
        } else {
            let message = match method {
                "Version" => generated::version(input),
                "ListPodSandbox" | "StreamPodSandboxes" => generated::lists(input, now).0,
                "ListContainers" | "StreamContainers" => generated::lists(input, now).1,
                "PodSandboxStatus" => generated::sandbox_answer(input, id, now),
                "ContainerStatus" => generated::container_answer(input, id, now),
                _ => Vec::new(),
            };
            if !input.chance(48) {
                steps.push_back(Step::Data(framed(input, &message)));
            }
        }
        steps.push_back(match input.below(24) {
            0 => Step::Hang,
            1 => Step::Status(input.byte()),
            2 | 3 => Step::Status(NOT_FOUND),
            4 | 5 if method.starts_with("Stream") => Step::Status(UNIMPLEMENTED),
            _ => Step::Status(0),
        });
        let rest = input.rest().to_vec();
        *left = rest;
        steps
    }
}

/// A message in gRPC's frame, sometimes a wrong one.
fn framed(input: &mut Input<'_>, message: &[u8]) -> Vec<u8> {
    let mut length = message.len() as u32;
    let mut compressed = 0;
    if input.chance(3) {
        (length, compressed) =
            (input.pick(&[0, 1, length + 1, 1 << 30, u32::MAX]), input.pick(&[0, 1, 0xff]));
    }
    if input.chance(3) {
        return vec![input.byte(); input.byte().into()];
    }
    [&[compressed][..], &length.to_be_bytes(), message].concat()
}

/// The id in a status request.
async fn requested_id(mut body: impl Body<Data = Bytes> + Unpin) -> String {
    let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    let data = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()).unwrap_or_default();
    // gRPC's five bytes, the key of the first field, its length, and then the id.
    let id = data.get(7..).zip(data.get(6)).and_then(|(id, length)| id.get(..usize::from(*length)));
    String::from_utf8_lossy(id.unwrap_or_default()).into_owned()
}

/// The correct answer, see [`Server::is_correct`].
fn correct(method: &str, id: &str, now: u64) -> VecDeque<Step> {
    let ago = |seconds: u64| now - now % 1_000_000_000_000 - seconds * 1_000_000_000;
    let of_pod = Message::default().text(1, "pod").text(2, "u0").text(3, "ns");
    let sandbox =
        || Message::default().text(1, "s0").message(2, of_pod.clone()).number(3, 0).number(4, ago(100));
    let named = |id| Message::default().text(1, id);
    let state = |id| if id == "a" { 1 } else { 2 };
    let status = |id| {
        let status =
            named(id).message(2, named(id)).number(3, state(id)).number(4, ago(90)).number(5, ago(80));
        if id == "a" { status } else { status.number(6, ago(70)).number(7, 3).text(10, "Error") }
    };
    let listed = |id| named(id).text(2, "s0").message(3, named(id)).number(6, state(id)).number(7, ago(90));
    let message = match (method, id) {
        ("Version", _) => named("0.1.0").text(2, "containerd").text(3, "v2.3.0").text(4, "v1"),
        ("ListPodSandbox", _) => Message::default().message(1, sandbox()),
        ("ListContainers", _) => Message::default().message(1, listed("a")).message(1, listed("b")),
        ("PodSandboxStatus", "s0") => Message::default().message(1, sandbox()),
        ("ContainerStatus", "a" | "b") => Message::default().message(1, status(id)),
        ("PodSandboxStatus" | "ContainerStatus", _) => return VecDeque::from([Step::Status(NOT_FOUND)]),
        ("Status", _) => Message::default(),
        _ => return VecDeque::from([Step::Status(UNIMPLEMENTED)]),
    };
    let message = message.finish();
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    VecDeque::from([Step::Data(framed), Step::Status(0)])
}

// === impl Answer ===

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Wait(time)) => self.waiting = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Some(Step::Status(code)) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                // The client gives up, and the body is dropped.
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
            }
        }
    }
}
