//! `plegd run` with its own configuration file, on a simulated runtime in this process.

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
    pub(crate) directory: tempfile::TempDir,
    _serving: SocketHandle,
}

impl Node {
    /// Starts plegd with a file that contains `text`.
    pub(crate) async fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plegd.toml");
        std::fs::write(&file, text).unwrap();
        Self::with(directory, &file).await
    }

    /// Starts plegd with an existing file.
    pub(crate) async fn with(directory: tempfile::TempDir, file: &Path) -> Self {
        let socket = directory.path().join("runtime.sock");
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
        let serving = sim.serve_uds(&socket).unwrap();
        let endpoint = format!("unix://{}", socket.display());
        let daemon = Daemon::configured(&endpoint, file).await.unwrap();
        Self { daemon, sim, directory, _serving: serving }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("plegd.toml")
    }

    /// Replaces the file by a rename, as an editor does.
    pub(crate) fn write(&self, text: &str) {
        let new = self.directory.path().join("plegd.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.file()).unwrap();
    }

    /// Replaces the file and sends SIGHUP. The reload must have this result.
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
        let what = format!("{count} reloads with result {result}");
        until(&what, async || self.reloads(result).await >= count).await;
    }

    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        self.daemon.metric(sample).await.unwrap()
    }

    /// The output of `plegd config running`.
    pub(crate) async fn prints_running(&self) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.env_clear().args(["config", "running", "--socket"]).arg(self.daemon.socket());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The daemon's status.
    pub(crate) async fn status(&self) -> plegd::api::v1::GetStatusResponse {
        let client = self.daemon.client();
        let request = plegd::api::v1::GetStatusRequest {};
        client.call(client.introspection().get_status(request)).await.unwrap()
    }

    /// The effective configuration, as the daemon reports it.
    pub(crate) async fn in_force(&self) -> String {
        let client = self.daemon.client();
        let request = plegd::api::v1::GetConfigRequest {};
        client.call(client.introspection().get_config(request)).await.unwrap().toml
    }
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let holding = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, holding).await.unwrap_or_else(|_| panic!("{what}: never"));
}
