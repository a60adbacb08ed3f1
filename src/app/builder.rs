//! A plegd inside another program: what it is to follow, and how, in the program's own words.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{App, OnFailure};
use crate::{
    clock::Clock,
    config::{Bytes, Config, ConfigError, InForce},
    cri::{Endpoint, Link},
};

/// Makes an [`App`] for a program that follows the runtime itself; from [`App::builder`].
///
/// What it makes reads neither file nor environment, opens no port, takes no signal and changes nothing of the process: it
/// is some tasks on tokio and a connection to the runtime. If one of them fails, which is a bug in plegd, the process goes
/// on: the app stops, and with it its watches, with [`crate::watch::WatchError::Ending`].
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
    /// The runtime's socket. By default the first of the well-known ones (containerd, k3s and RKE2, CRI-O) that answers
    /// as a CRI runtime.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.config.runtime.endpoint = Some(endpoint);
        self
    }

    /// Reaches the runtime in another way, such as the simulated one of [`crate::sim`] in a test.
    pub fn link(self, link: Link) -> Self {
        Self { link: Some(link), ..self }
    }

    /// How long one call of the runtime may take before it is given up and tried again: 100 ms to 5 min, by default 5 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.runtime.request_timeout = timeout;
        self
    }

    /// Time between two relists while there is no stream, and `at_most` between two once the stream is trusted; by default
    /// 1 s and 1 min. The first is from 100 ms to 10 min, the second from the first to 1 h.
    pub fn relist_every(mut self, period: Duration, at_most: Duration) -> Self {
        self.config.relist.period = period;
        self.config.relist.max_period = at_most;
        self
    }

    /// Relists alone, without the runtime's event stream: misses what comes and goes between two relists.
    pub fn without_stream(mut self) -> Self {
        self.config.stream.enabled = false;
        self
    }

    /// How many of the newest events are kept for watches that lag or resume, and how many bytes of them at most; by
    /// default 65536 (of 64 to 4194304) and 32 MiB (of 1 MiB to 1 GiB).
    pub fn journal(mut self, events: usize, bytes: usize) -> Self {
        self.config.journal.events = events;
        self.config.journal.bytes = Bytes(bytes);
        self
    }

    /// Changes any other key of the configuration. Those of `http`, `log` and `print` have no effect here, and those of
    /// `api` only on [`crate::serve::Grpc::embedded`].
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Goes by this clock, as a test with paused time does.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Drains the runtime's event stream on this tokio runtime. For a program that at times keeps all threads of its own
    /// busy: a subscriber that stops reading holds up the whole node on containerd 2.x.
    pub fn receiver_on(self, runtime: Handle) -> Self {
        Self { receiver: Some(runtime), ..self }
    }

    /// Starts to follow. Must be called in a tokio runtime. Does not wait for the container runtime, nor does it fail if
    /// that is not there: it is tried again for ever, and [`App::health`] says how it goes.
    ///
    /// # Errors
    ///
    /// All that is wrong with the configuration.
    pub fn start(self) -> Result<App, ConfigError> {
        self.config.check()?;
        let endpoint = self.config.runtime.endpoint.clone();
        let link = self.link.unwrap_or_else(|| endpoint.map_or_else(Link::well_known, Link::unix));
        let clock = self.clock.unwrap_or_else(Clock::system);
        let receiver = self.receiver.unwrap_or_else(Handle::current);
        Ok(App::assemble(&receiver, &InForce::of_program(self.config), link, clock, OnFailure::StopApp))
    }
}
