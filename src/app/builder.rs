//! The builder of an app that is embedded in another program.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{App, AppDeps, OnFailure};
use crate::{
    clock::Clock,
    config::{Bytes, Config, ConfigError, InForce},
    cri::{Endpoint, Link},
};

/// Creates an [`App`] in a program that embeds plegd; from [`App::builder`].
///
/// The app reads no file and no environment variable, opens no port, handles no signal and changes no process state. It consists of tokio
/// tasks and a connection to the runtime. If one of the tasks panics, which is a bug in plegd, the process goes on. The app then stops,
/// and its watches end with [`crate::watch::WatchError::Ending`].
///
/// ```no_run
/// use futures::StreamExt as _;
/// use plegd::{app::App, watch};
///
/// # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
/// let app = App::builder().endpoint("/run/containerd/containerd.sock".parse()?).start()?;
///
/// // What is there, then what changes.
/// let request = watch::Request { wait_ready: true, ..Default::default() };
/// let mut updates = std::pin::pin!(app.watch(request)?.into_stream());
/// while let Some(update) = updates.next().await {
///     match update? {
///         watch::Update::Pod(pod) => println!("there is {}/{}", pod.identity.namespace, pod.identity.name),
///         watch::Update::Event { record, .. } => {
///             let pod = &record.event.pod;
///             println!("{}/{} {}: {}", pod.namespace, pod.name, record.container_name, record.kind.as_str());
///             // As it is now; and as it is at some moment after this one, from the runtime if need be.
///             let held = app.cache().get(&pod.uid);
///             let fresh = app.fresh().pod(&pod.uid, app.clock().now()).await?;
///         }
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is followed before it is started"]
pub struct Builder {
    config: Config,
    link: Option<Link>,
    clock: Option<Clock>,
    receiver: Option<Handle>,
}

// === impl Builder ===

impl Builder {
    /// Sets the runtime's socket. The default is the first well-known socket (containerd, k3s and RKE2, CRI-O) that answers as a CRI
    /// runtime.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.config.runtime.endpoint = Some(endpoint);
        self
    }

    /// Connects to the runtime by another link, such as the simulated runtime of [`crate::sim`] in a test.
    pub fn link(self, link: Link) -> Self {
        Self { link: Some(link), ..self }
    }

    /// Sets the timeout of a runtime call, after which it is retried: 100 ms to 5 min, by default 5 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.runtime.request_timeout = timeout;
        self
    }

    /// Sets the time between two relists. `period` applies without a stream: 100 ms to 10 min, by default 1 s. `at_most` applies while
    /// the stream is trusted: from `period` to 1 h, by default 1 min.
    pub fn relist_every(mut self, period: Duration, at_most: Duration) -> Self {
        self.config.relist.period = period;
        self.config.relist.max_period = at_most;
        self
    }

    /// Disables the runtime's event stream. With relists alone, a container that starts and is removed between two relists is missed.
    pub fn without_stream(mut self) -> Self {
        self.config.stream.enabled = false;
        self
    }

    /// Sets how many of the newest events are kept for watches that lag or resume, and their size limit. The defaults are 65536 events
    /// (64 to 4194304) and 32 MiB (1 MiB to 1 GiB).
    pub fn journal(mut self, events: usize, bytes: usize) -> Self {
        self.config.journal.events = events;
        self.config.journal.bytes = Bytes(bytes);
        self
    }

    /// Changes any other key of the configuration. The keys of `http`, `log` and `print` have no effect here. Those of `api` affect only
    /// [`crate::serve::Grpc::embedded`].
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Uses this clock, for example in a test with paused time.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Drains the runtime's event stream on this tokio runtime, for a program that may block all threads of its own. On containerd 2.x, a
    /// subscriber that stops reading blocks the whole node.
    pub fn receiver_on(self, runtime: Handle) -> Self {
        Self { receiver: Some(runtime), ..self }
    }

    /// Starts to follow the runtime. Must be called in a tokio runtime. Does not wait for the container runtime and does not fail without
    /// it. The connection is retried until it succeeds, and [`App::health`] reports the state.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all errors of the configuration.
    pub fn start(self) -> Result<App, ConfigError> {
        self.config.check()?;
        let endpoint = self.config.runtime.endpoint.clone();
        let link = self.link.unwrap_or_else(|| endpoint.map_or_else(Link::well_known, Link::unix));
        let clock = self.clock.unwrap_or_else(Clock::system);
        let receiver = self.receiver.unwrap_or_else(Handle::current);
        let (receiver_runtime, in_force) = (&receiver, &InForce::of_program(self.config));
        let (state, on_failure) = (None, OnFailure::StopApp);
        Ok(App::assemble(AppDeps { receiver_runtime, in_force, link, clock, state, on_failure }))
    }
}
