//! A node with a simulated runtime, one plegd after another on it, and the journal of each plegd.

use std::{io, sync::Arc};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use plegd::{
    app::App,
    client::Client,
    clock::{Clock, WallStepper},
    config::Config,
    journal::{Cursor, Record},
    sim::{Profile, SimRuntime},
    watch::Feed,
};
use tokio::{
    io::DuplexStream,
    sync::watch,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Uri};

use super::{
    record::{Published, Run},
    support::{NOON, link, pipes::Pipes},
};

/// HTTP/2 stream window of a client. Small, so that a client that does not read soon blocks its stream.
const WINDOW: u32 = 16 * 1024;

pub struct Node {
    pub sim: SimRuntime,
    pub config: Config,
    /// The wall clocks of the runtime and of each plegd.
    hands: Vec<WallStepper>,
    runs: Vec<Run>,
    now: watch::Sender<Option<Serving>>,
    app: Option<Running>,
}

/// The addresses of a plegd for subscribers.
#[derive(Clone)]
pub struct Serving {
    pub feed: Feed,
    pipes: Pipes,
}

struct Running {
    app: App,
    epoch: u64,
    ended: CancellationToken,
    reference: JoinHandle<Vec<Published>>,
    server: JoinHandle<()>,
}

/// The current plegd; none during a restart. The channel closes when the node ends.
pub type ServingReceiver = watch::Receiver<Option<Serving>>;

/// The connections of one client, which a test can cut.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Vec<AbortHandle>>>);

// === impl Node ===

impl Node {
    /// An empty runtime, and no plegd.
    pub fn new(profile: Profile, seed: u64, capacity: usize) -> Self {
        fastrand::seed(seed);
        let (clock, hand) = Clock::simulated(NOON);
        let sim = SimRuntime::new(profile, clock, seed);
        let mut config = Config::default();
        (config.http.address, config.journal.events) = (None, capacity);
        Self { sim, config, hands: vec![hand], runs: Vec::new(), now: watch::Sender::new(None), app: None }
    }

    /// Steps the machine's wall clock.
    #[allow(dead_code, reason = "used by the simulation only")]
    pub fn step_clock(&self, by_nanos: i64) {
        self.hands.iter().for_each(|hand| hand.step(by_nanos));
    }

    pub fn serving(&self) -> ServingReceiver {
        self.now.subscribe()
    }

    pub fn app(&self) -> &App {
        &self.app.as_ref().expect("a running plegd").app
    }

    /// Starts a plegd.
    pub fn start(&mut self) {
        let (clock, hand) = Clock::simulated(self.sim.clock().wall());
        self.hands.push(hand);
        let app = App::start(&self.config, link(&self.sim), clock);
        let (pipes, server) = Pipes::serve(&app, self.config.clone());
        let ended = CancellationToken::new();
        let reference = tokio::spawn(reference(app.journal().cursor(0), ended.clone()));
        self.now.send_replace(Some(Serving { feed: app.feed(), pipes }));
        let epoch = app.journal().epoch();
        self.app = Some(Running { app, epoch, ended, reference, server });
    }

    /// Stops the plegd and keeps its journal.
    pub async fn stop(&mut self) {
        let Running { app, epoch, ended, reference, server } = self.app.take().expect("a running plegd");
        self.now.send_replace(None);
        app.stop().await;
        ended.cancel();
        let published = reference.await.expect("the reference cursor never falls behind");
        self.runs.push(Run { epoch, capacity: self.config.journal.events as u64, published });
        // A client that does not read would keep the server alive without end.
        server.abort();
    }

    /// The journals of all stopped plegds.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}

async fn reference(mut cursor: Cursor, ended: CancellationToken) -> Vec<Published> {
    let mut published: Vec<Published> = Vec::new();
    let mut keep = |record: Arc<Record>| {
        let pod = record.pod.as_deref().map(|pod| Arc::new(pod.into()));
        published.push(Published { event: record.event.clone(), pod });
    };
    loop {
        tokio::select! {
            biased;
            record = cursor.next() => keep(record.expect("the reference cursor never falls behind")),
            () = ended.cancelled() => return published,
        }
    }
}

// === impl Connections ===

impl Connections {
    /// A client of the current plegd, over its own connections.
    pub fn client(&self, serving_rx: ServingReceiver) -> Client {
        let connections = self.clone();
        // The connection window keeps its default: in a small one, h2 treats many waiting small messages as an attack.
        let endpoint =
            Channel::builder(Uri::from_static("http://localhost")).initial_stream_window_size(WINDOW);
        Client::over(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connected = connections.connect(&serving_rx);
            async move { connected.map(TokioIo::new) }
        })))
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.0.lock().drain(..).for_each(|pipe| pipe.abort());
    }

    fn connect(&self, serving_rx: &ServingReceiver) -> io::Result<DuplexStream> {
        let serving = serving_rx.borrow().clone().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, mut near) = tokio::io::duplex(1 << 14);
        let mut far = serving.pipes.connect()?;
        let pipe = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        self.0.lock().push(pipe.abort_handle());
        Ok(here)
    }
}
