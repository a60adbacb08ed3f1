//! Anyone who may create a pod chooses its names, and a runtime does not check them. Whatever a name contains, no output of
//! plegd controls a terminal, in any verb, format or log line.

#![allow(missing_docs, unreachable_pub)]

mod binary;

use std::{ffi::OsString, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use binary::{DEADLINE, Plegd};
use plegd::{
    clock::Clock,
    sim::{
        CallFault, Dose, Method, Profile, SimRuntime,
        serve::SocketHandle,
        truth::{ContainerSpec, SandboxSpec},
    },
};
use tokio::{process::Command, time::timeout};

const HOSTILE: &str =
    "a\u{1b}[31mRED\u{1b}]0;owned\u{7}\r\nb\u{202e}evil\u{2066}\u{9b}2J\u{2028}\u{e0041}\u{200b}x";

/// `HOSTILE` as plegd prints it.
const SHOWN: &str =
    r"a\u{1b}[31mRED\u{1b}]0;owned\u{7}\r\nb\u{202e}evil\u{2066}\u{9b}2J\u{2028}\u{e0041}\u{200b}x";

/// A daemon on a runtime with one hostile pod.
struct Node {
    sim: SimRuntime,
    sandbox: String,
    plegd: Plegd,
    socket: PathBuf,
    _directory: tempfile::TempDir,
    _runtime: SocketHandle,
}

struct Printed {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

// === impl Node ===

impl Node {
    async fn start(log_format: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
        let spec = hostile_pod();
        let sandbox = sim.change(|truth| truth.run_sandbox(spec.clone()))?;
        sim.change(|truth| {
            let id =
                truth.create_container(&sandbox, ContainerSpec::of_pod(&spec, HOSTILE, 0, "i\u{202e}:1"))?;
            truth.start_container(&id)
        })?;
        let (runtime, socket) = (directory.path().join("runtime.sock"), directory.path().join("plegd.sock"));
        let serving = sim.serve_uds(&runtime)?;
        let arguments = ["run", "--config", "/dev/null", "--http-address", "off", "--log-format", log_format]
            .into_iter()
            .map(OsString::from)
            .chain(["--runtime-endpoint".into(), runtime.into()]);
        let (plegd, _) = Plegd::spawn(arguments, [("PLEGD_API_SOCKET", socket.clone().into())])?;
        let node = Self { sim, sandbox, plegd, socket, _directory: directory, _runtime: serving };
        node.plegd
            .wait_for_line("API over gRPC", |line| line.contains("API over gRPC").then_some(()))
            .await?;
        // plegd answers once the first relist is complete.
        while node.run(&["get", "pods", "-o", "name"]).await?.code != Some(0) {
            tokio::task::yield_now().await;
        }
        Ok(node)
    }

    /// Runs a verb. Fails if its output is unsafe.
    async fn run(&self, arguments: &[&str]) -> Result<Printed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.args(arguments).env_clear().env("PLEGD_SOCKET", &self.socket);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(DEADLINE, output).await.with_context(|| format!("{arguments:?} hangs"))??;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        for text in [&stdout, &stderr] {
            ensure!(is_safe(text), "{arguments:?} prints {text:?}");
        }
        Ok(Printed { code: output.status.code(), stdout, stderr })
    }
}

fn hostile_pod() -> SandboxSpec {
    SandboxSpec::of_pod("n\u{9b}2Js", HOSTILE, "u\u{1b}[2Jid")
}

fn is_safe(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !(c.is_control() || HOSTILE.contains(c) && !c.is_ascii()))
}

#[tokio::test]
async fn no_output_format_lets_a_name_control_the_terminal() -> Result<()> {
    let node = Node::start("text").await?;
    let pod = format!("n\u{9b}2Js/{HOSTILE}");
    for format in ["table", "wide", "json", "yaml", "name"] {
        for resource in ["pods", "containers"] {
            let printed = node.run(&["get", resource, "-o", format]).await?;
            ensure!(
                printed.code == Some(0) && (format == "name" || printed.stdout.contains("evil")),
                "{}",
                printed.stdout
            );
        }
        ensure!(node.run(&["get", "pod", &pod, "-o", format]).await?.stdout.contains("evil"));
        ensure!(
            node.run(&["get", "pod", HOSTILE, "no\u{202e}such", "-o", format])
                .await?
                .stderr
                .contains(r"no\u{202e}such")
        );
    }
    ensure!(node.run(&["get", "pods", "-o", "name"]).await?.stdout == format!("n\\u{{9b}}2Js/{SHOWN}\n"));
    let json: serde_json::Value =
        serde_json::from_str(&node.run(&["get", "pods", "-o", "json"]).await?.stdout)?;
    ensure!(json["pods"][0]["identity"]["name"] == HOSTILE, "{json}");

    let waited = node.run(&["wait", "--for", "running", &pod, "-c", HOSTILE]).await?;
    ensure!(waited.stdout == format!("n\\u{{9b}}2Js/{SHOWN}: {SHOWN} is running\n"), "{}", waited.stdout);
    let late = node.run(&["wait", "--for", "exited", &pod, "-c", HOSTILE, "--timeout", "100ms"]).await?;
    ensure!(late.code == Some(1) && late.stderr.contains(SHOWN), "{}", late.stderr);
    ensure!(node.run(&["wait", "--for", "gone\u{202e}", &pod]).await?.code == Some(64));

    // A table has one line for what was there before plegd, and one for each event after that.
    node.sim.change(|truth| {
        let again = ContainerSpec::of_pod(&hostile_pod(), HOSTILE, 1, "i\u{202e}:1");
        let id = truth.create_container(&node.sandbox, again)?;
        truth.start_container(&id)
    })?;
    for format in ["table", "json"] {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_plegd"));
        watch
            .args(["watch", "--since", "oldest", "-o", format])
            .env_clear()
            .env("PLEGD_SOCKET", &node.socket);
        let mut watch = watch.stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut lines = tokio::io::BufReader::new(watch.stdout.take().context("stdout")?);
        let mut printed = String::new();
        while !printed.contains("Started") || !printed.ends_with('\n') {
            timeout(DEADLINE, tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut printed)).await??;
        }
        ensure!(is_safe(&printed), "{printed:?}");
    }
    for verb in [&["status"][..], &["status", "-o", "json"], &["top", "--once"], &["subscribers"]] {
        node.run(verb).await?;
    }
    Ok(())
}

#[tokio::test]
async fn no_error_of_the_runtime_forges_a_log_line() -> Result<()> {
    for format in ["text", "json", "journald"] {
        let node = Node::start(format).await?;
        let error = || CallFault::Fail(tonic::Code::Unknown, format!("{HOSTILE}\nERROR plegd: forged"));
        for method in [Method::ListPodSandbox, Method::StreamPodSandboxes] {
            node.sim.faults().calls(method, error(), Dose::Always);
        }
        let evil = node
            .plegd
            .wait_for_line("the runtime's error", |line| line.contains("evil").then(|| line.to_owned()));
        let line = evil.await?;
        ensure!(is_safe(&line) && line.contains("forged"), "{format}: {line:?}");
        ensure!(node.plegd.log().lines().iter().all(|line| is_safe(line)), "{format}:\n{}", node.plegd.log());
    }
    Ok(())
}

#[tokio::test]
async fn wait_accepts_sandbox_ready_and_warns_about_the_deprecated_ready() -> Result<()> {
    let node = Node::start("text").await?;
    let pod = format!("n\u{9b}2Js/{HOSTILE}");
    let waited = node.run(&["wait", "--for", "sandbox-ready", &pod]).await?;
    ensure!(waited.code == Some(0) && waited.stderr.is_empty(), "{}", waited.stderr);
    let deprecated = node.run(&["wait", "--for", "ready", &pod]).await?;
    ensure!(deprecated.code == Some(0) && deprecated.stdout == waited.stdout);
    ensure!(
        deprecated.stderr.starts_with("plegd: warning: --for ready is deprecated")
            && deprecated.stderr.contains("sandbox-ready")
    );
    Ok(())
}
