//! What plegd makes of a runtime that is not there, is none, or does not speak: a sentence that says what to do, and patience.

// Clippy sees that a `#[test]` is one, and not that its helpers are.
#![allow(clippy::unwrap_used)]
// It looks at another process, in real time.
#![allow(clippy::disallowed_methods)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use plegd::{
    clock::Clock,
    sim::{Profile, SimRuntime},
};
use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything here takes; a machine under load is no failure.
const DEADLINE: Duration = Duration::from_secs(40);

/// A running plegd, killed when it is dropped.
struct Plegd {
    child: Child,
    stderr: Arc<Mutex<String>>,
}

impl Plegd {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        // Tests run side by side, and the node may have a plegd of its own.
        command.env("PLEGD_API_SOCKET", "off");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, text) = (child.stderr.take().unwrap(), stderr.clone());
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                *text.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, stderr }
    }

    /// `plegd run` on that socket, without HTTP.
    fn run(socket: &Path) -> Self {
        Self::start(&["run", "--http-address", "off", "--runtime-endpoint", socket.to_str().unwrap()])
    }

    fn said(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    #[track_caller]
    fn until_said(&mut self, sentences: &[&str]) {
        let deadline = Instant::now() + DEADLINE;
        while !sentences.iter().all(|sentence| self.said().contains(sentence)) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.said());
            assert!(Instant::now() < deadline, "no {sentences:?} in:\n{}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn signalled(mut self, signal: Signal) -> ExitStatus {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself: {}", self.said());
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.ended()
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Plegd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit code and stderr of `plegd check` on that socket.
fn check(socket: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
    command.args(["check", "--runtime-endpoint", socket.to_str().unwrap()]).env_clear();
    // A socket that never answers is given up after this.
    let output = command.env("PLEGD_RUNTIME_REQUEST_TIMEOUT", "1s").stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runtime.sock");
    (folder, path)
}

/// Says this to whoever connects, after having heard something, and hangs up.
fn blunt_server(path: &Path, answer: &'static [u8]) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(answer);
        }
    });
}

/// Speaks gRPC and offers nothing.
fn server_without_cri(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
            let routes = tonic::service::Routes::default();
            tonic::transport::Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    });
}

#[track_caller]
fn waits_and_ends(mut plegd: Plegd, sentences: &[&str]) {
    plegd.until_said(sentences);
    let began = Instant::now();
    let stderr = plegd.stderr.clone();
    let status = plegd.signalled(Signal::TERM);
    let took = began.elapsed();
    let said = stderr.lock().unwrap().clone();
    assert_eq!(status.code(), Some(0), "{said}");
    // It promises a second; the rest is the machine's.
    assert!(took < Duration::from_secs(5), "{took:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_missing_socket_is_waited_for() {
    let (_folder, path) = socket();
    let plegd = Plegd::run(&path);
    let sentences = ["waiting for it", "is the runtime running? Name another socket with --runtime-endpoint"];
    waits_and_ends(plegd, &sentences);
    let (code, said) = check(&path);
    assert_eq!(code, Some(1));
    assert!(said.contains(path.to_str().unwrap()) && said.contains(sentences[1]), "{said}");
    assert!(!said.contains("is this the socket"), "one hint is enough: {said}");
}

#[test]
fn a_socket_where_nobody_listens_is_waited_for() {
    let (_folder, path) = socket();
    drop(UnixListener::bind(&path).unwrap());
    let sentence = "no process listens on the socket: is the runtime down?";
    waits_and_ends(Plegd::run(&path), &["waiting for it", sentence]);
    let (code, said) = check(&path);
    assert_eq!(code, Some(1));
    assert!(said.contains(sentence), "{said}");
}

#[test]
fn a_runtime_that_comes_later_is_followed() {
    let (_folder, path) = socket();
    let mut plegd = Plegd::run(&path);
    plegd.until_said(&["waiting for it"]);
    let runtime = path.clone();
    thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
            let _socket = sim.serve_uds(&runtime).unwrap();
            std::future::pending::<()>().await;
        });
    });
    waits_and_ends(plegd, &["The runtime answers again.", "Following the runtime. runtime=containerd v2.1"]);
}

#[test]
fn a_socket_that_speaks_something_else_is_called_so() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", b"\0\xff\xfe garbage"] {
        let (_folder, path) = socket();
        blunt_server(&path, answer);
        let sentence = "is this the socket of a container runtime, and is it running?";
        waits_and_ends(Plegd::run(&path), &["waiting for it", sentence]);
        let (code, said) = check(&path);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("plegd: ") && said.contains(sentence), "{said}");
    }
}

#[test]
fn a_socket_that_never_answers_is_given_up_and_tried_again() {
    let (_folder, path) = socket();
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    waits_and_ends(Plegd::run(&path), &["Version was not answered within 5s"]);
    let (code, said) = check(&path);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Version was not answered within 1s"), "{said}");
}

#[test]
fn a_server_without_cri_is_told_from_a_runtime() {
    let (_folder, path) = socket();
    server_without_cri(&path);
    waits_and_ends(Plegd::run(&path), &["The relist failed", "the runtime does not implement Version"]);
    let (code, said) = check(&path);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not speak CRI v1"), "{said}");
}

#[test]
fn a_port_that_is_taken_ends_it_with_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_folder, path) = socket();
    let mut plegd =
        Plegd::start(&["run", "--http-address", &address, "--runtime-endpoint", path.to_str().unwrap()]);
    assert_eq!(plegd.ended().code(), Some(1));
    let deadline = Instant::now() + DEADLINE;
    while !(plegd.said().contains(&address) && plegd.said().contains("http.address")) {
        assert!(Instant::now() < deadline, "{}", plegd.said());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!plegd.said().contains("panicked"));
}

#[test]
fn sigint_ends_it_as_sigterm_does() {
    let (_folder, path) = socket();
    let mut plegd = Plegd::run(&path);
    plegd.until_said(&["waiting for it"]);
    assert_eq!(plegd.signalled(Signal::INT).code(), Some(0));
}
