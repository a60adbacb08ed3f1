//! plegd with a missing, wrong or silent runtime: it waits and reconnects, and its message names the cause and a remedy.

// Clippy recognizes `#[test]` functions, but not their helpers.
#![allow(clippy::unwrap_used)]
// These tests watch another process, in real time.
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

/// Deadline of one step; long, because the machine may be under load.
const DEADLINE: Duration = Duration::from_secs(40);

/// A running plegd, killed on drop.
struct Plegd {
    child: Child,
    stderr: Arc<Mutex<String>>,
}

impl Plegd {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        // Tests run in parallel, and the node may run its own plegd.
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

    /// `plegd run` with this runtime socket, without HTTP.
    fn run(socket: &Path) -> Self {
        Self::start(&["run", "--http-address", "off", "--runtime-endpoint", socket.to_str().unwrap()])
    }

    fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for_log(&mut self, sentences: &[&str]) {
        let deadline = Instant::now() + DEADLINE;
        while !sentences.iter().all(|sentence| self.log().contains(sentence)) {
            assert!(self.child.try_wait().unwrap().is_none(), "plegd ended: {}", self.log());
            assert!(Instant::now() < deadline, "no {sentences:?} in:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn end_by(mut self, signal: Signal) -> ExitStatus {
        assert!(self.child.try_wait().unwrap().is_none(), "plegd ended by itself: {}", self.log());
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.wait()
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "plegd does not end: {}", self.log());
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

/// Exit code and stderr of `plegd check` with this runtime socket.
fn check(socket: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
    command.args(["check", "--runtime-endpoint", socket.to_str().unwrap()]).env_clear();
    // The deadline of a call that is never answered.
    let output = command.env("PLEGD_RUNTIME_REQUEST_TIMEOUT", "1s").stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runtime.sock");
    (dir, path)
}

/// A server that reads once, answers with these bytes and closes the connection.
fn raw_server(path: &Path, answer: &'static [u8]) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(answer);
        }
    });
}

/// A gRPC server without services.
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
    plegd.wait_for_log(sentences);
    let began = Instant::now();
    let stderr = plegd.stderr.clone();
    let status = plegd.end_by(Signal::TERM);
    let took = began.elapsed();
    let output = stderr.lock().unwrap().clone();
    assert_eq!(status.code(), Some(0), "{output}");
    // plegd promises 1 s; the rest allows for a machine under load.
    assert!(took < Duration::from_secs(5), "{took:?}: {output}");
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn plegd_waits_for_a_missing_socket() {
    let (_dir, path) = socket();
    let plegd = Plegd::run(&path);
    let sentences =
        ["does not respond; retrying", "is the runtime running? Name another socket with --runtime-endpoint"];
    waits_and_ends(plegd, &sentences);
    let (code, output) = check(&path);
    assert_eq!(code, Some(1));
    assert!(output.contains(path.to_str().unwrap()) && output.contains(sentences[1]), "{output}");
    assert!(!output.contains("is this the socket"), "only one hint: {output}");
}

#[test]
fn plegd_waits_for_a_socket_without_a_listener() {
    let (_dir, path) = socket();
    drop(UnixListener::bind(&path).unwrap());
    let sentence = "no process listens on the socket: is the runtime down?";
    waits_and_ends(Plegd::run(&path), &["does not respond; retrying", sentence]);
    let (code, output) = check(&path);
    assert_eq!(code, Some(1));
    assert!(output.contains(sentence), "{output}");
}

#[test]
fn a_runtime_that_starts_later_is_followed() {
    let (_dir, path) = socket();
    let mut plegd = Plegd::run(&path);
    plegd.wait_for_log(&["does not respond; retrying"]);
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
fn the_message_names_a_socket_that_is_not_a_runtimes() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", b"\0\xff\xfe garbage"] {
        let (_dir, path) = socket();
        raw_server(&path, answer);
        let sentence = "is this the socket of a container runtime, and is it running?";
        waits_and_ends(Plegd::run(&path), &["does not respond; retrying", sentence]);
        let (code, output) = check(&path);
        assert_eq!(code, Some(1), "{output}");
        assert!(output.starts_with("plegd: ") && output.contains(sentence), "{output}");
    }
}

#[test]
fn a_call_that_is_never_answered_times_out_and_is_retried() {
    let (_dir, path) = socket();
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    waits_and_ends(Plegd::run(&path), &["Version was not answered within 5s"]);
    let (code, output) = check(&path);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("Version was not answered within 1s"), "{output}");
}

#[test]
fn a_server_without_cri_is_distinguished_from_a_runtime() {
    let (_dir, path) = socket();
    server_without_cri(&path);
    waits_and_ends(Plegd::run(&path), &["The relist failed", "the runtime does not implement Version"]);
    let (code, said) = check(&path);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not serve CRI v1"), "{said}");
}

#[test]
fn an_address_in_use_ends_plegd_with_its_key_in_the_message() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_dir, path) = socket();
    let mut plegd =
        Plegd::start(&["run", "--http-address", &address, "--runtime-endpoint", path.to_str().unwrap()]);
    assert_eq!(plegd.wait().code(), Some(1));
    let deadline = Instant::now() + DEADLINE;
    while !(plegd.log().contains(&address) && plegd.log().contains("http.address")) {
        assert!(Instant::now() < deadline, "{}", plegd.log());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!plegd.log().contains("panicked"));
}

#[test]
fn sigint_ends_plegd_like_sigterm() {
    let (_dir, path) = socket();
    let mut plegd = Plegd::run(&path);
    plegd.wait_for_log(&["does not respond; retrying"]);
    assert_eq!(plegd.end_by(Signal::INT).code(), Some(0));
}
