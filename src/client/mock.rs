//! A mock of plegd for tests: it sends scripted messages and disconnects as scripted.

use std::{collections::VecDeque, io, sync::Arc};

use futures::{StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{io::DuplexStream, sync::mpsc, task::AbortHandle};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, Uri},
};

use super::Client;
use crate::{
    api::{
        server::pod_lifecycle_service_server::{PodLifecycleService, PodLifecycleServiceServer},
        wire::Encoded,
    },
    v1::{self, watch_response::Update as Wire},
};

/// One step of a watch's connection. After the last step the connection is silent.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Step {
    Send(v1::WatchResponse),
    Fail(Status),
    /// Ends the stream like a server that has sent everything.
    End,
    /// Cuts the connection and all streams on it.
    Cut,
}

/// The mock. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct Mock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    scripts: VecDeque<Vec<Step>>,
    watches: Vec<v1::WatchRequest>,
    pods: Vec<v1::Pod>,
    answers: VecDeque<Result<v1::WaitForResponse, Status>>,
    lists: Vec<v1::ListPodsRequest>,
    gets: Vec<v1::GetPodRequest>,
    waits: Vec<v1::WaitForRequest>,
    pipes: Vec<AbortHandle>,
    refuses: u32,
}

pub(crate) const EPOCH: u64 = 0xabc;

pub(crate) fn position(epoch: u64, sequence: u64) -> Option<v1::Position> {
    Some(v1::Position { epoch, sequence })
}

fn send(update: Wire) -> Step {
    Step::Send(v1::WatchResponse { update: Some(update), skipped: 0 })
}

pub(crate) fn hello(epoch: u64, oldest: u64, head: u64) -> Step {
    send(Wire::Hello(v1::Hello { head: position(epoch, head), oldest, ..Default::default() }))
}

pub(crate) fn event(sequence: u64) -> Step {
    send(Wire::Event(v1::Event { sequence, r#type: 1, subject: 1, source: 1, ..Default::default() }))
}

pub(crate) fn send_event(event: v1::Event) -> Step {
    send(Wire::Event(event))
}

pub(crate) fn bookmark(epoch: u64, sequence: u64) -> Step {
    send(Wire::Bookmark(v1::Bookmark { position: position(epoch, sequence) }))
}

pub(crate) fn gap(reason: v1::GapReason, from: u64, to: Option<u64>) -> Step {
    send(Wire::Gap(v1::Gap { reason: reason.into(), from, to }))
}

pub(crate) fn pod(name: &str) -> Step {
    let identity = v1::PodIdentity { name: name.into(), namespace: "default".into(), uid: name.into() };
    send(Wire::Pod(v1::Pod { identity: Some(identity), ..Default::default() }))
}

pub(crate) fn snapshot_end(epoch: u64, sequence: u64, pods: u32) -> Step {
    send(Wire::SnapshotEnd(v1::SnapshotEnd { position: position(epoch, sequence), pods }))
}

// === impl Mock ===

impl Mock {
    /// A mock that answers watches with these scripts, one after the other.
    pub(crate) fn watched(scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let mock = Self::default();
        mock.0.lock().scripts = scripts.into_iter().collect();
        mock
    }

    /// A mock that has these pods.
    pub(crate) fn with(pods: Vec<v1::Pod>) -> Self {
        let mock = Self::default();
        mock.0.lock().pods = pods;
        mock
    }

    /// Answers waits with these answers, one after the other; further waits get no answer.
    pub(crate) fn answering(self, answers: Vec<Result<v1::WaitForResponse, Status>>) -> Self {
        self.0.lock().answers = answers.into();
        self
    }

    /// Refuses this many connections before it accepts one.
    pub(crate) fn refusing(self, count: u32) -> Self {
        self.0.lock().refuses = count;
        self
    }

    pub(crate) fn watches(&self) -> Vec<v1::WatchRequest> {
        self.0.lock().watches.clone()
    }

    pub(crate) fn lists(&self) -> Vec<v1::ListPodsRequest> {
        self.0.lock().lists.clone()
    }

    pub(crate) fn gets(&self) -> Vec<v1::GetPodRequest> {
        self.0.lock().gets.clone()
    }

    pub(crate) fn waits(&self) -> Vec<v1::WaitForRequest> {
        self.0.lock().waits.clone()
    }

    /// A client of this mock, over memory.
    pub(crate) fn client(&self) -> Client {
        let (sender, receiver) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
        let incoming =
            stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let service = PodLifecycleServiceServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let mock = self.clone();
        Client::over(Channel::builder(Uri::from_static("http://localhost")).connect_with_connector_lazy(
            tower::service_fn(move |_: Uri| {
                let connected = mock.connection(&sender);
                async move { connected.map(TokioIo::new) }
            }),
        ))
    }

    pub(crate) fn serve_unix(&self, path: &std::path::Path) {
        let incoming =
            tokio_stream::wrappers::UnixListenerStream::new(tokio::net::UnixListener::bind(path).unwrap());
        let service = PodLifecycleServiceServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    }

    /// Serves it on a loopback port, which is returned.
    pub(crate) async fn serve_tcp(&self) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = PodLifecycleServiceServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        port
    }

    /// A pipe of two parts, which can be cut in the middle.
    fn connection(
        &self,
        server: &mpsc::UnboundedSender<io::Result<DuplexStream>>,
    ) -> io::Result<DuplexStream> {
        let mut state = self.0.lock();
        if state.refuses > 0 {
            state.refuses -= 1;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (client_end, mut client_side) = tokio::io::duplex(1 << 16);
        let (server_end, mut server_side) = tokio::io::duplex(1 << 16);
        let pipe = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut client_side, &mut server_side).await;
        });
        state.pipes.push(pipe.abort_handle());
        server.send(Ok(server_end)).map_err(io::Error::other)?;
        Ok(client_end)
    }

    fn find(&self, wanted: &v1::PodReference) -> Option<v1::Pod> {
        use v1::pod_reference::Pod;
        let state = self.0.lock();
        let is_meant = |pod: &&v1::Pod| {
            let identity = pod.identity.clone().unwrap_or_default();
            match wanted.pod.as_ref().unwrap() {
                Pod::Uid(uid) => identity.uid == *uid,
                Pod::Name(name) => {
                    (identity.namespace, identity.name) == (name.namespace.clone(), name.name.clone())
                }
                Pod::ContainerId(id) => pod.containers.iter().any(|container| container.id.starts_with(id)),
            }
        };
        state.pods.iter().find(is_meant).cloned()
    }
}

#[tonic::async_trait]
impl PodLifecycleService for Mock {
    type WatchStream = stream::BoxStream<'static, Result<Encoded, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut state = self.0.lock();
        state.watches.push(request.into_inner());
        let script = VecDeque::from(state.scripts.pop_front().unwrap_or_default());
        if let Some(Step::Fail(status)) = script.front() {
            return Err(status.clone());
        }
        let mock = self.clone();
        let steps = stream::unfold(script, move |mut script| {
            let mock = mock.clone();
            async move {
                let item = match script.pop_front() {
                    Some(Step::Send(message)) => Ok(Encoded(message.encode_to_vec().into())),
                    Some(Step::Fail(status)) => Err(status),
                    Some(Step::End) => return None,
                    Some(Step::Cut) => {
                        // Messages sent before must arrive.
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                        mock.0.lock().pipes.drain(..).for_each(|pipe| pipe.abort());
                        std::future::pending().await
                    }
                    None => std::future::pending().await,
                };
                Some((item, script))
            }
        });
        Ok(Response::new(steps.boxed()))
    }

    /// In pages of two.
    async fn list_pods(
        &self,
        request: Request<v1::ListPodsRequest>,
    ) -> Result<Response<v1::ListPodsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.lock();
        let filter = request.filter.clone().unwrap_or_default();
        if filter.label_selector == "!!" {
            return Err(Status::invalid_argument("label_selector: it cannot be parsed"));
        }
        let from: usize = request.page_token.parse().unwrap_or(0);
        state.lists.push(request);
        let passes = |pod: &&v1::Pod| {
            let identity = pod.identity.clone().unwrap_or_default();
            let among = |names: &[String], name: &String| names.is_empty() || names.contains(name);
            among(&filter.namespaces, &identity.namespace)
                && among(&filter.pod_names, &identity.name)
                && among(&filter.pod_uids, &identity.uid)
        };
        let pods: Vec<v1::Pod> = state.pods.iter().filter(passes).cloned().collect();
        let next_page_token = if from + 2 < pods.len() { (from + 2).to_string() } else { String::new() };
        let page = pods.into_iter().skip(from).take(2).collect();
        Ok(Response::new(v1::ListPodsResponse { pods: page, next_page_token, position: position(EPOCH, 7) }))
    }

    async fn get_pod(
        &self,
        request: Request<v1::GetPodRequest>,
    ) -> Result<Response<v1::GetPodResponse>, Status> {
        let request = request.into_inner();
        self.0.lock().gets.push(request.clone());
        let pod = self.find(&request.pod.unwrap()).ok_or(Status::not_found("there is no such pod"))?;
        Ok(Response::new(v1::GetPodResponse { pod: Some(pod), position: position(EPOCH, 7) }))
    }

    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        let wanted = v1::PodReference { pod: Some(v1::pod_reference::Pod::ContainerId(id.clone())) };
        let pod = self.find(&wanted).ok_or(Status::not_found("there is no such container"))?;
        let container = pod.containers.iter().find(|container| container.id.starts_with(&id)).cloned();
        let answer = v1::GetContainerResponse { container, pod: pod.identity, position: position(EPOCH, 7) };
        Ok(Response::new(answer))
    }

    async fn wait_for(
        &self,
        request: Request<v1::WaitForRequest>,
    ) -> Result<Response<v1::WaitForResponse>, Status> {
        let answer = {
            let mut state = self.0.lock();
            state.waits.push(request.into_inner());
            state.answers.pop_front()
        };
        match answer {
            Some(answer) => answer.map(Response::new),
            None => std::future::pending().await,
        }
    }

    async fn request_read(
        &self,
        _: Request<v1::RequestReadRequest>,
    ) -> Result<Response<v1::RequestReadResponse>, Status> {
        Ok(Response::new(v1::RequestReadResponse { position: position(EPOCH, 8) }))
    }
}
