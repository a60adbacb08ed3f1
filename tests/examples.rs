//! The examples work, against the `plegd demo` of this build.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use plegd::{
    api::v1,
    client::{Address, Client},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
    time::timeout,
};

/// Deadline of one step of a test.
const DEADLINE: Duration = Duration::from_secs(120);

/// A demo in its own temporary directory.
struct Demo {
    dir: TempDir,
    api: String,
    runtime: String,
    _child: Child,
}

/// A running example.
struct Example {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

// === impl Demo ===

impl Demo {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_plegd"))
            .args(["demo", "--seed", "11", "--http-address", "off", "--print", "none"])
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let api = timeout(DEADLINE, socket(dir.path())).await.expect("the demo serves its API");
        let runtime = api.with_file_name("runtime.sock").display().to_string();
        Self { dir, api: format!("unix://{}", api.display()), runtime, _child: child }
    }

    /// A pod of kube-system, which stays for the whole demo.
    async fn daemon(&self) -> v1::Pod {
        let client = Client::connect(&self.api.parse::<Address>().unwrap()).await.unwrap();
        let filter = v1::Filter { namespaces: vec!["kube-system".into()], ..Default::default() };
        let daemon = async {
            loop {
                let pods = client.list_pods(filter.clone()).await.map(|list| list.pods).unwrap_or_default();
                if let Some(pod) = pods.into_iter().find(|pod| !pod.containers.is_empty()) {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(DEADLINE, daemon).await.expect("a pod of kube-system")
    }
}

/// The API's socket in a subdirectory of `dir`, once it accepts connections; the file exists before that.
async fn socket(dir: &Path) -> PathBuf {
    loop {
        let sockets = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().join("plegd.sock"));
        if let Some(socket) = sockets.into_iter().find(|socket| UnixStream::connect(socket).is_ok()) {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// === impl Example ===

impl Example {
    async fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(built(name).await)
            .args(arguments)
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { stdin: child.stdin.take(), child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line()).await.expect("a line within the deadline");
        line.unwrap().expect("the example is running")
    }

    /// Reads lines until `is_enough` returns true.
    async fn until(&mut self, mut is_enough: impl FnMut(&[String]) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        while !is_enough(&lines) {
            lines.push(self.line().await);
        }
        lines
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The example's program. `cargo test` builds it; if only this test was selected, it is built here.
async fn built(name: &str) -> PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async {
        let this = std::env::current_exe().unwrap();
        let profile = this.parent().and_then(Path::parent).expect("target/<profile>/deps");
        let examples = profile.join("examples");
        if ["embedded", "first_agent", "id_to_pod", "log_shipper", "oom_watcher"]
            .iter()
            .any(|name| !examples.join(name).exists())
        {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            if profile.file_name() == Some(OsStr::new("release")) {
                build.arg("--release");
            }
            assert!(build.status().await.unwrap().success(), "the examples do not build");
        }
        examples
    };
    BUILT.get_or_init(build).await.join(name)
}

/// The logs in the lines that begin with `verb`.
fn logs(lines: &[String], verb: &str) -> BTreeSet<String> {
    let paths: Vec<String> =
        lines.iter().filter_map(|line| line.strip_prefix(verb)).map(str::to_owned).collect();
    let all: BTreeSet<String> = paths.iter().cloned().collect();
    assert_eq!(all.len(), paths.len(), "{verb}twice: {lines:#?}");
    assert!(all.iter().all(|path| path.starts_with("/var/log/pods/") && path.ends_with(".log")), "{all:#?}");
    all
}

#[tokio::test]
async fn the_log_shipper_resumes_at_its_position_or_reports_a_gap() {
    let demo = Demo::start().await;
    let file = demo.dir.path().join("state");
    let arguments = [&demo.api, file.to_str().unwrap()];
    let (open, end) = ("open ", "read to the end ");
    let has = |lines: &[String], verb: &str| lines.iter().any(|line| line.starts_with(verb));

    let mut first = Example::start("log_shipper", &arguments).await;
    let mut lines = first.until(|lines| has(lines, open) && has(lines, end) && file.exists()).await;
    first.kill().await;
    let kept = fs::read_to_string(&file).unwrap();
    let position = kept.lines().next().unwrap();

    let mut second = Example::start("log_shipper", &arguments).await;
    assert_eq!(second.line().await, format!("resume after {position}"));
    // Lines that the first one printed before it stored its position may appear again.
    let known = logs(&lines, open);
    let more = second.until(|lines| !logs(lines, open).is_subset(&known) && has(lines, end)).await;
    second.kill().await;
    lines.extend(more);
    let opened: BTreeSet<&str> = lines.iter().filter_map(|line| line.strip_prefix(open)).collect();
    let ended: BTreeSet<&str> = lines.iter().filter_map(|line| line.strip_prefix(end)).collect();
    assert!(ended.is_subset(&opened), "read to the end, but never opened: {lines:#?}");

    let other = Demo::start().await;
    let mut third = Example::start("log_shipper", &[&other.api, arguments[1]]).await;
    assert!(third.line().await.starts_with("resume after "));
    assert_eq!(third.line().await, "gap: look at all pods");
    third.until(|lines| has(lines, open)).await;
}

#[tokio::test]
async fn the_first_agent_prints_each_exited_container() {
    let demo = Demo::start().await;
    let mut example = Example::start("first_agent", &[&demo.api]).await;
    let line = example.line().await;
    let [_namespace, _pod, _container, reason, code] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("namespace, pod, container, reason and exit code: {line}")
    };
    assert!(!reason.is_empty() && code.parse::<i32>().is_ok(), "{line}");
}

#[tokio::test]
async fn the_oom_watcher_prints_a_killed_container_with_its_pod() {
    let demo = Demo::start().await;
    let mut example = Example::start("oom_watcher", &[&demo.api]).await;
    let line = example.line().await;
    let (pod, rest) = line.strip_prefix("OOMKilled ").and_then(|rest| rest.split_once(' ')).expect("a line");
    assert!(pod.starts_with("shop/cache-"), "{line}");
    assert!(rest.starts_with("redis (attempt 0, image \"docker.io/library/redis:7.4\", ran for "), "{line}");
}

#[tokio::test]
async fn an_id_is_looked_up_once_or_line_by_line() {
    let demo = Demo::start().await;
    let pod = demo.daemon().await;
    let identity = pod.identity.unwrap();
    let container = &pod.containers[0];
    let short = &container.id[..12];
    let name = format!("{}/{} {} {}", identity.namespace, identity.name, identity.uid, container.name);

    let mut one = Example::start("id_to_pod", &[short, &demo.api]).await;
    assert_eq!(one.line().await, format!("{short} {name}"));
    assert!(one.child.wait().await.unwrap().success());

    let mut all = Example::start("id_to_pod", &["-", &demo.api]).await;
    let mut stdin = all.stdin.take().unwrap();
    let whole = format!("containerd://{}", container.id);
    stdin.write_all(format!("{whole}\n\nno-such-id\n{short}\n").as_bytes()).await.unwrap();
    assert_eq!(all.line().await, format!("{whole} {name}"));
    assert_eq!(all.line().await, "no-such-id unknown");
    assert_eq!(all.line().await, format!("{short} {name}"));
    drop(stdin);
    assert!(all.child.wait().await.unwrap().success());
}

#[tokio::test]
async fn the_embedded_example_follows_the_runtime_by_itself() {
    let demo = Demo::start().await;
    let mut example = Example::start("embedded", &[&demo.runtime]).await;
    assert!(example.line().await.contains(" pods as of "));
    let line = example.line().await;
    assert!(line.contains(" died with code ") && line.contains("; the pod has "), "{line}");
}
