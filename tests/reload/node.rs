//! `plegd run` with a file of its own, on a simulated runtime in this process.

use std::path::{Path, PathBuf};

use plegd::{
    clock::Clock,
    sim::{Profile, SimRuntime, serve::SocketHandle},
};
use rustix::process::Signal;
use tokio::time::{Duration, sleep, timeout};

use crate::binary::{DEADLINE, Daemon};

pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) sim: SimRuntime,
    pub(crate) folder: tempfile::TempDir,
    _serving: SocketHandle,
}

impl Node {
    /// With this text in its file.
    pub(crate) async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plegd.toml");
        std::fs::write(&file, text).unwrap();
        Self::with(folder, &file).await
    }

    /// With a file that is there already.
    pub(crate) async fn with(folder: tempfile::TempDir, file: &Path) -> Self {
        let socket = folder.path().join("runtime.sock");
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
        let serving = sim.serve_uds(&socket).unwrap();
        let endpoint = format!("unix://{}", socket.display());
        let daemon = Daemon::configured(&endpoint, file).await.unwrap();
        Self { daemon, sim, folder, _serving: serving }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("plegd.toml")
    }

    /// Writes another file, as an editor does that replaces it whole.
    pub(crate) fn write(&self, text: &str) {
        let new = self.folder.path().join("plegd.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.file()).unwrap();
    }

    /// Has it read another file at SIGHUP, which must come to this result.
    pub(crate) async fn reload(&self, text: &str, result: &str) {
        self.write(text);
        let before = self.reloads(result).await;
        self.daemon.signal(Signal::HUP).unwrap();
        self.until_reloads(result, before + 1.0).await;
    }

    pub(crate) async fn reloads(&self, result: &str) -> f64 {
        self.metric(&format!("plegd_config_reloads_total{{result=\"{result}\"}}")).await
    }

    pub(crate) async fn until_reloads(&self, result: &str, count: f64) {
        let what = format!("{count} reloads that are a {result}");
        until(&what, async || self.reloads(result).await >= count).await;
    }

    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        self.daemon.metric(sample).await.unwrap()
    }

    /// What `plegd config running` prints.
    pub(crate) async fn prints_running(&self) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.env_clear().args(["config", "running", "--socket"]).arg(self.daemon.socket());
        let answer = command.output().await.unwrap();
        assert!(answer.status.success(), "{answer:?}");
        String::from_utf8(answer.stdout).unwrap()
    }

    /// What it says of itself.
    pub(crate) async fn status(&self) -> plegd::api::v1::GetStatusResponse {
        let client = self.daemon.client();
        let request = plegd::api::v1::GetStatusRequest {};
        client.call(client.introspection().get_status(request)).await.unwrap()
    }

    /// The configuration in force, as the daemon tells it.
    pub(crate) async fn in_force(&self) -> String {
        let client = self.daemon.client();
        let request = plegd::api::v1::GetConfigRequest {};
        client.call(client.introspection().get_config(request)).await.unwrap().toml
    }
}

/// Awaits until this holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let holding = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, holding).await.unwrap_or_else(|_| panic!("{what}: never"));
}
