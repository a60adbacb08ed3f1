//! A node that subscribers watch: a simulated runtime, one plegd after another on it, and the journal of each.

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
    record::{Run, Told},
    support::{NOON, link, pipes::Pipes},
};

/// What a client may be sent ahead of reading it: little, so that it is easily too slow.
const WINDOW: u32 = 16 * 1024;

/// The node.
pub struct Node {
    pub sim: SimRuntime,
    pub config: Config,
    /// The wall clock, as the runtime and every plegd that was see it.
    hands: Vec<WallStepper>,
    runs: Vec<Run>,
    now: watch::Sender<Option<Serving>>,
    app: Option<Running>,
}

/// A plegd, as subscribers reach it.
#[derive(Clone)]
pub struct Serving {
    pub feed: Feed,
    pipes: Pipes,
}

struct Running {
    app: App,
    epoch: u64,
    over: CancellationToken,
    reference: JoinHandle<Vec<Told>>,
    server: JoinHandle<()>,
}

/// How subscribers find the plegd there is now; none while it is restarted. The end of the channel is the end of the node.
pub type Finding = watch::Receiver<Option<Serving>>;

/// The connections of one client, which can be cut.
#[derive(Clone, Default)]
pub struct Cables(Arc<Mutex<Vec<AbortHandle>>>);

// === impl Node ===

impl Node {
    /// A runtime with nothing on it, and no plegd.
    pub fn new(profile: Profile, seed: u64, capacity: usize) -> Self {
        fastrand::seed(seed);
        let (clock, hand) = Clock::simulated(NOON);
        let sim = SimRuntime::new(profile, clock, seed);
        let mut config = Config::default();
        (config.http.address, config.journal.events) = (None, capacity);
        Self { sim, config, hands: vec![hand], runs: Vec::new(), now: watch::Sender::new(None), app: None }
    }

    /// Steps the machine's wall clock.
    #[allow(dead_code, reason = "the simulation's")]
    pub fn step_clock(&self, by_nanos: i64) {
        self.hands.iter().for_each(|hand| hand.step(by_nanos));
    }

    pub fn find(&self) -> Finding {
        self.now.subscribe()
    }

    pub fn app(&self) -> &App {
        &self.app.as_ref().expect("a plegd runs").app
    }

    /// Starts a plegd.
    pub fn start(&mut self) {
        let (clock, hand) = Clock::simulated(self.sim.clock().wall());
        self.hands.push(hand);
        let app = App::start(&self.config, link(&self.sim), clock);
        let (pipes, server) = Pipes::serve(&app, self.config.clone());
        let over = CancellationToken::new();
        let reference = tokio::spawn(reference(app.journal().cursor(0), over.clone()));
        self.now.send_replace(Some(Serving { feed: app.feed(), pipes }));
        let epoch = app.journal().epoch();
        self.app = Some(Running { app, epoch, over, reference, server });
    }

    /// Stops it, and keeps its journal.
    pub async fn stop(&mut self) {
        let Running { app, epoch, over, reference, server } = self.app.take().expect("a plegd runs");
        self.now.send_replace(None);
        app.stop().await;
        over.cancel();
        let told = reference.await.expect("the reference keeps up");
        self.runs.push(Run { epoch, capacity: self.config.journal.events as u64, told });
        // A client that does not read would hold it for ever.
        server.abort();
    }

    /// The journals of all plegds that were.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}

async fn reference(mut cursor: Cursor, over: CancellationToken) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    let mut keep = |record: Arc<Record>| {
        let pod = record.pod.as_deref().map(|pod| Arc::new(pod.into()));
        told.push(Told { event: record.event.clone(), pod });
    };
    loop {
        tokio::select! {
            biased;
            record = cursor.next() => keep(record.expect("the reference keeps up")),
            () = over.cancelled() => return told,
        }
    }
}

// === impl Cables ===

impl Cables {
    /// A client that reaches whatever plegd there is, over cables of its own.
    pub fn client(&self, finding: Finding) -> Client {
        let cables = self.clone();
        // The connection's window stays as it is: h2 takes many small messages that wait in a small one for an attack.
        let endpoint =
            Channel::builder(Uri::from_static("http://localhost")).initial_stream_window_size(WINDOW);
        Client::over(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connected = cables.connect(&finding);
            async move { connected.map(TokioIo::new) }
        })))
    }

    /// Cuts all there are.
    pub fn cut(&self) {
        self.0.lock().drain(..).for_each(|pipe| pipe.abort());
    }

    fn connect(&self, finding: &Finding) -> io::Result<DuplexStream> {
        let serving = finding.borrow().clone().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, mut near) = tokio::io::duplex(1 << 14);
        let mut far = serving.pipes.connect()?;
        let pipe = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        self.0.lock().push(pipe.abort_handle());
        Ok(here)
    }
}
