//! Discovery among sockets: left over, without CRI, hanging, without permission, and with a runtime.

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use super::*;
use crate::sim::{CallFault, Dose, Method, Profile, SimRuntime, serve::SocketHandle};

struct Node {
    directory: TempDir,
}

// === impl Node ===

impl Node {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint(self.directory.path().join(name))
    }

    fn discovery(&self, names: &[&str]) -> Discovery {
        Discovery::among(names.iter().map(|name| self.endpoint(name)).collect(), Clock::system())
    }

    fn runtime(&self, name: &str, profile: Profile) -> (SimRuntime, SocketHandle) {
        let sim = SimRuntime::new(profile, Clock::system(), 1);
        let serving = sim.serve_uds(self.endpoint(name).path()).unwrap();
        (sim, serving)
    }

    /// A gRPC server without CRI, like a containerd whose CRI plugin is disabled.
    fn without_cri(&self, name: &str) {
        let listener = UnixListener::bind(self.endpoint(name).path()).unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let server = tonic::transport::Server::builder().add_service(health);
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    }

    fn left_over(&self, name: &str) {
        drop(UnixListener::bind(self.endpoint(name).path()).unwrap());
    }

    async fn unfit(&self, name: &str) -> Unfit {
        probe(self.endpoint(name)).await.answer.expect_err("no runtime")
    }
}

#[tokio::test]
async fn each_unfit_socket_has_its_own_error() {
    let node = Node::new();
    assert_eq!(node.unfit("missing").await, Unfit::Missing);
    node.left_over("left-over");
    assert_eq!(node.unfit("left-over").await, Unfit::Refused);
    std::fs::write(node.endpoint("file").path(), "").unwrap();
    assert_eq!(node.unfit("file").await, Unfit::NotASocket);
    node.without_cri("no-cri");
    assert_eq!(node.unfit("no-cri").await, Unfit::NoCri);
    let _accepts_and_is_silent = UnixListener::bind(node.endpoint("silent").path()).unwrap();
    assert_eq!(node.unfit("silent").await, Unfit::Silent);
    let hangs_up = UnixListener::bind(node.endpoint("hangs-up").path()).unwrap();
    tokio::spawn(async move { while hangs_up.accept().await.is_ok() {} });
    assert!(matches!(node.unfit("hangs-up").await, Unfit::Failed(_)));
    let (sim, _serving) = node.runtime("starting", Profile::CONTAINERD_2_1);
    sim.faults().calls(
        Method::Version,
        CallFault::Fail(tonic::Code::Unavailable, "starting".into()),
        Dose::Next(1),
    );
    assert!(matches!(node.unfit("starting").await, Unfit::Failed(_)));
    let answer = probe(node.endpoint("starting")).await.answer.unwrap();
    assert_eq!(answer.name, "containerd");
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    assert_eq!(unfit(&node.endpoint("denied"), &denied), Unfit::Denied);
}

#[tokio::test]
async fn the_first_socket_that_answers_is_chosen_despite_earlier_socket_files() {
    let node = Node::new();
    node.without_cri("docker");
    let _silent = UnixListener::bind(node.endpoint("silent").path()).unwrap();
    let _k3s = node.runtime("k3s", Profile::CONTAINERD_2_1);
    let _crio = node.runtime("crio", Profile::CRI_O_1_34);
    let discovery = node.discovery(&["docker", "silent", "k3s", "crio"]);
    assert_eq!(discovery.endpoint().await.unwrap(), node.endpoint("k3s"));
}

#[tokio::test]
async fn all_sockets_are_tried_until_one_answers_and_the_choice_is_kept() {
    let node = Node::new();
    node.left_over("containerd");
    let discovery = node.discovery(&["containerd", "crio"]);
    let none = discovery.endpoint().await.unwrap_err().to_string();
    for part in [
        &format!("no container runtime answers: {}: refused", node.endpoint("containerd")),
        &format!("; {}: no socket. Start containerd or CRI-O", node.endpoint("crio")),
    ] {
        assert!(none.contains(part), "{none}");
    }
    let crio = node.runtime("crio", Profile::CRI_O_1_34);
    assert_eq!(discovery.endpoint().await.unwrap(), node.endpoint("crio"));
    // From now on the first one may start, and this one may stop.
    std::fs::remove_file(node.endpoint("containerd").path()).unwrap();
    let _containerd = node.runtime("containerd", Profile::CONTAINERD_2_1);
    assert_eq!(discovery.endpoint().await.unwrap(), node.endpoint("crio"));
    drop(crio);
    assert_eq!(discovery.endpoint().await.unwrap(), node.endpoint("crio"));
    // Another process chooses anew.
    assert_eq!(
        node.discovery(&["containerd", "crio"]).endpoint().await.unwrap(),
        node.endpoint("containerd")
    );
}

#[tokio::test]
async fn a_link_connects_once_a_runtime_answers() {
    let node = Node::new();
    node.without_cri("docker");
    let link = Link::to_first_of(node.discovery(&["docker", "k3s"]));
    let mut service = RuntimeServiceClient::new(link.channel(Use::Unary));
    let mut version = async || service.version(v1::VersionRequest::default()).await;
    let error = CriError::of(crate::model::Method::Version, &version().await.unwrap_err());
    assert!(error.runtime_is_away(), "{error}");
    assert!(
        error.to_string().contains("docker: no CRI v1") && error.to_string().contains("k3s: no socket"),
        "{error}"
    );
    let _k3s = node.runtime("k3s", Profile::CONTAINERD_2_1);
    assert_eq!(version().await.unwrap().into_inner().runtime_name, "containerd");
}

#[tokio::test(start_paused = true)]
async fn a_socket_with_a_wrong_answer_is_paused_and_a_missing_one_is_not() {
    let mut failures = 0;
    let pauses: Vec<u64> =
        (0..7).map(|_| u64::try_from(Unfit::NoCri.pause(&mut failures).as_millis()).unwrap()).collect();
    assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
    assert_eq!(Unfit::Refused.pause(&mut failures), Duration::ZERO);
    assert_eq!(Unfit::Silent.pause(&mut failures), FIRST_PAUSE, "counted anew");

    let node = Node::new();
    let clock = Clock::simulated(crate::clock::Wall::from_nanos(1_800_000_000_000_000_000)).0;
    let discovery = Discovery::among(vec![node.endpoint("a"), node.endpoint("b")], clock);
    let note = |a: Unfit| {
        let probed = |name: &str, unfit| Probed { endpoint: node.endpoint(name), answer: Err(unfit) };
        discovery.none_answers(vec![probed("a", a), probed("b", Unfit::Missing)]);
    };
    note(Unfit::NoCri);
    // During the pause the last result is returned; afterwards the socket is probed.
    assert_eq!(discovery.probe(0).await.answer, Err(Unfit::NoCri));
    assert_eq!(discovery.probe(1).await.answer, Err(Unfit::Missing));
    tokio::time::advance(FIRST_PAUSE).await;
    assert_eq!(discovery.probe(0).await.answer, Err(Unfit::Missing));
}
