//! A node with a simulated runtime, one plegd after another on it, and the journal of each plegd.

use std::{collections::BTreeMap, io, sync::Arc};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use plegd::{
    app::App,
    client::Client,
    clock::{Clock, WallStepper},
    config::Config,
    journal::{Cursor, Record},
    sim::{Profile, SimRuntime},
    state::{PersistentFile, StatePlace, storage::Disk},
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
/// Number of segments, one for each start, from which on the oldest may be deleted.
const SEGMENTS: usize = 7;
/// Size limit of the state on disk.
const MAX_BYTES: u64 = 1 << 20;

pub struct Node {
    pub sim: SimRuntime,
    pub config: Config,
    /// The wall clocks of the runtime and of each plegd.
    hands: Vec<WallStepper>,
    runs: Vec<Run>,
    /// The heads at which earlier processes of this epoch have ended.
    ends: Vec<u64>,
    /// As [`Run::forgotten`].
    forgotten: u64,
    now: watch::Sender<Option<Serving>>,
    app: Option<Running>,
    /// The disk, if plegd keeps its state there.
    pub state: Option<StateOnDisk>,
    /// What a restarted plegd has restored wrongly.
    pub restored_wrongly: Vec<String>,
}

/// The disk of a machine, and its clock.
pub struct StateOnDisk {
    clock: Clock,
    pub disk: Disk,
    file: PersistentFile,
    boot: u32,
    /// Whether the log may lack events that the journal had: the machine has booted since.
    is_fresh_boot: bool,
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
        Self {
            sim,
            config,
            hands: vec![hand],
            runs: Vec::new(),
            ends: Vec::new(),
            forgotten: 0,
            now: watch::Sender::new(None),
            app: None,
            state: None,
            restored_wrongly: Vec::new(),
        }
    }

    /// From now on plegd keeps its state on disk.
    #[allow(dead_code, reason = "used by the simulation only")]
    pub fn keep_state(&mut self) {
        let (clock, hand) = Clock::simulated(self.sim.clock().wall());
        self.hands.push(hand);
        let file = PersistentFile::Memory(Arc::default());
        self.state = Some(StateOnDisk { clock, disk: Disk::default(), file, boot: 1, is_fresh_boot: false });
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
        let may_forget = self.state.as_mut().is_none_or(StateOnDisk::may_forget);
        let app = match &self.state {
            Some(state) => {
                App::start_with_state(&self.config, link(&self.sim), state.clock.restarted(), state.place())
            }
            None => {
                let (clock, hand) = Clock::simulated(self.sim.clock().wall());
                self.hands.push(hand);
                App::start(&self.config, link(&self.sim), clock)
            }
        };
        let (pipes, server) = Pipes::serve(&app, self.config.clone());
        let ended = CancellationToken::new();
        let epoch = app.journal().epoch();
        let published = self.continued(&app, may_forget);
        let reference =
            tokio::spawn(reference(app.journal().cursor(published.len() as u64), published, ended.clone()));
        self.now.send_replace(Some(Serving { feed: app.feed(), pipes }));
        self.app = Some(Running { app, epoch, ended, reference, server });
    }

    /// The events that the earlier plegd of the same epoch has published. The journal must have them all, as far as it reaches back.
    fn continued(&mut self, app: &App, may_forget: bool) -> Vec<Published> {
        let journal = app.journal();
        if self.runs.last().is_none_or(|run| run.epoch != journal.epoch()) {
            return Vec::new();
        }
        let Run { mut published, ends, forgotten, capacity, .. } = self.runs.pop().unwrap_or_default();
        self.ends = ends;
        let restored = journal.recent(u64::MAX, usize::MAX);
        let oldest = restored.first().map_or(journal.head() + 1, |record| record.event.sequence);
        self.forgotten = forgotten.max(oldest - 1);
        if !may_forget && self.forgotten > forgotten.max(journal.head().saturating_sub(capacity)) {
            self.restored_wrongly.push(format!("event {} was not restored", self.forgotten));
        }
        for record in restored {
            let restored = Published::of(&record);
            let at = usize::try_from(record.event.sequence - 1).expect("a small number");
            match published.get(at) {
                Some(before) if before.event == restored.event && before.pod == restored.pod => {}
                // Written, and not published before the kill.
                None if at == published.len() => published.push(restored),
                before => {
                    self.restored_wrongly.push(format!("{restored:?} was restored, {before:?} published"))
                }
            }
        }
        if journal.head() != published.len() as u64 {
            let wrong = format!("event {} was restored, {} were published", journal.head(), published.len());
            self.restored_wrongly.push(wrong);
        }
        published
    }

    /// Ends the plegd at once: what is not written is lost.
    #[allow(dead_code, reason = "used by the simulation only")]
    pub async fn kill(&mut self) {
        self.state.as_ref().expect("state on disk").disk.kill();
        self.end(false).await;
    }

    /// Stops the plegd and keeps its journal.
    pub async fn stop(&mut self) {
        self.end(true).await;
    }

    async fn end(&mut self, in_order: bool) {
        let Running { app, epoch, ended, reference, server } = self.app.take().expect("a running plegd");
        self.now.send_replace(None);
        if in_order {
            app.stop().await
        } else {
            app.kill().await
        }
        ended.cancel();
        let published = reference.await.expect("the reference cursor never falls behind");
        let ends = std::mem::take(&mut self.ends).into_iter().chain([published.len() as u64]).collect();
        let forgotten = std::mem::take(&mut self.forgotten);
        self.runs.push(Run {
            epoch,
            capacity: self.config.journal.events as u64,
            published,
            ends,
            forgotten,
        });
        // A client that does not read would keep the server alive without end.
        server.abort();
    }

    /// The journals of all stopped plegds.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}

async fn reference(
    mut cursor: Cursor,
    mut published: Vec<Published>,
    ended: CancellationToken,
) -> Vec<Published> {
    let mut keep = |record: Arc<Record>| published.push(Published::of(&record));
    loop {
        tokio::select! {
            biased;
            record = cursor.next() => keep(record.expect("the reference cursor never falls behind")),
            () = ended.cancelled() => return published,
        }
    }
}

// === impl StateOnDisk ===

impl StateOnDisk {
    fn place(&self) -> StatePlace {
        StatePlace {
            storage: Ok(Box::new(self.disk.open())),
            persistent: Some(self.file.clone()),
            max_bytes: MAX_BYTES,
            boot_id: self.boot.to_string(),
            endpoint: String::new(),
        }
    }

    /// Whether the log may lack events that the journal had, because the machine has booted or because it is near its limit.
    fn may_forget(&mut self) -> bool {
        let files = self.disk.files();
        let bytes: u64 = files.values().map(|file| file.len() as u64).sum();
        std::mem::take(&mut self.is_fresh_boot) || bytes > MAX_BYTES / 4 || files.len() >= SEGMENTS
    }

    /// The machine boots again: tmpfs is empty.
    #[allow(dead_code, reason = "used by the simulation only")]
    pub fn reboot(&mut self) {
        self.boot += 1;
        self.is_fresh_boot = true;
        self.disk.set_files(BTreeMap::new());
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
