//! Configuration: defaults, then a TOML file, then `PLEGD_*` environment variables, then flags.
//!
//! Each key is described once, in the table below: its type, default, range and effect. Field, parser, file key, environment variable and
//! reference are generated from there. Everything is checked before anything is started, and all errors are reported at once, each with its
//! place. This module reads only the file and the environment, and never changes a configuration after its creation.

mod error;
mod file;
mod in_force;
mod key;
mod layers;
mod principals;
mod value;

pub use self::{
    error::{ConfigError, Place, Problem},
    in_force::{Difference, InForce},
    key::{Change, Form, Key},
    layers::{DEFAULT_FILE, Flag, Inputs, Loaded, SOCKET_VARIABLE, load},
    principals::{Principal, Principals},
    value::{
        Bytes, EventTypes, FileMode, Filter, LogFormat, OptionalDirectory, PageAccess, PrintFormat,
        SharedStream, SocketGroup, StateDirectory, Value,
    },
};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use crate::live::Live;
use crate::{cri::Endpoint, socket_path};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The head of a file with all keys.
const HEAD: &str = "\
Every key of plegd. What is left out has its default; a key that does not exist is refused.
An environment variable, such as PLEGD_RELIST_PERIOD for period in [relist], goes before this file, and a flag before both.
plegd reads this file again at SIGHUP and a few seconds after it has changed. If the new one is not valid, the old values
hold on and the log says why. `plegd config check --config FILE` says so beforehand.";

key::config! {
    /// The container runtime that is followed.
    runtime: Runtime {
        /// Socket of the runtime: `unix:///run/containerd/containerd.sock`, or just its path. Empty: the first of the
        /// well-known sockets (containerd, k3s and RKE2, CRI-O) that answers as a CRI runtime. Until one does, all are
        /// tried again; then plegd stays with that one until it is restarted.
        restart endpoint: Option<Endpoint> = None;
        /// How long one unary CRI call may take before it is given up and tried again.
        live request_timeout: Duration = Duration::from_secs(5), in Duration::from_millis(100)..=5 * MINUTE;
    }
    /// The generic path: lists everything every so often and reads what differs.
    relist: Relist {
        /// Time between two relists while the event stream is down or not there; also the shortest there is. The
        /// kubelet's is 1s.
        live period: Duration = Duration::from_secs(1), in Duration::from_millis(100)..=10 * MINUTE;
        /// Time between two relists once the event stream has earned trust. The period grows up to here, doubling with
        /// each relist that finds nothing the stream has missed. Not below `relist.period`.
        live max_period: Duration = MINUTE, in Duration::from_millis(100)..=HOUR;
        /// By which part of itself a period is varied at random in both directions, so that the nodes of a fleet do not
        /// relist in step: 0.1 makes 1s anything from 0.9s to 1.1s.
        live jitter: f64 = 0.1, in 0.0..=0.5;
        /// How many pods may be read at the same time: four at first, and more, up to this, for as long as the runtime answers
        /// them as fast.
        live parallelism: usize = 16, in 1..=64;
    }
    /// The evented path: the runtime's stream of container events.
    stream: Stream {
        /// Whether to subscribe at all. `false` leaves the relist alone, which then sees nothing that comes and goes
        /// between two of its runs.
        restart enabled: bool = true;
        /// What to do on runtimes that deliver each event to one subscriber only (containerd 1.7, CRI-O 1.26 and 1.27, unknown
        /// ones) once missed events show another subscriber, such as a kubelet with EventedPLEG. yield: close the stream, so
        /// that the other one receives all events, poll, and try again after 10 minutes to 1 hour. compete: keep the stream,
        /// so that both miss events.
        live shared: SharedStream = SharedStream::Yield;
        /// Messages that may wait between the stream and the arbiter. Past it they are cut down to what tells the life of the
        /// one container they are about and, past twice as many, the stream is dropped and everything is listed.
        restart queue_messages: usize = 65_536, in 64..=4_194_304;
        /// The same in bytes that they take.
        restart queue_bytes: Bytes = Bytes::mib(32), in Bytes::mib(1)..=Bytes::mib(1024);
    }
    /// The journal of lifecycle events, from which subscribers read and resume.
    journal: Journal {
        /// How many of the newest events are kept.
        restart events: usize = 65_536, in 64..=4_194_304;
        /// How many bytes of them at most; whichever of both limits is met first.
        restart bytes: Bytes = Bytes::mib(32), in Bytes::mib(1)..=Bytes::mib(1024);
    }
    /// The state on disk, with which a restarted plegd continues without a gap for its subscribers. Each change is written before
    /// subscribers see it. If the state cannot be written or is damaged, plegd continues without it and begins a new epoch.
    state: State {
        /// Whether the state is kept.
        restart enabled: bool = true;
        /// Directory of the state. It should be on tmpfs, as /run is. It is created if it is missing (mode 0700), must belong to
        /// plegd's user, and is used by one plegd alone. "auto": the directory `state` beside `api.socket`, such as
        /// /run/plegd/state; without that socket no state is kept.
        restart directory: StateDirectory = StateDirectory::BesideSocket;
        /// Size limit of the state, in bytes. Older entries are deleted first; a subscriber that needs them gets a gap. The records of
        /// all pods (about 3 KiB a pod) are kept even if they alone are larger.
        restart max_bytes: Bytes = Bytes::mib(16), in Bytes::mib(1)..=Bytes::mib(1024);
        /// Directory for one file that is written when plegd is stopped, and read and deleted at the next start, so that subscribers get
        /// no gap after a reboot of the machine. It must be on a disk, such as /var/lib/plegd, and is used by one plegd alone. "off":
        /// no file is written; a reboot then begins a new epoch.
        restart persistent_directory: OptionalDirectory = OptionalDirectory(None);
    }
    /// The pod lifecycle API, `plegd.v1`, over gRPC: for other programs of this node over a UNIX socket, and over TCP if an
    /// address is set.
    api: Api {
        /// Path of the UNIX socket. Its folder is made if it is not there (mode 0755: the socket's own mode decides who
        /// connects). It must belong to root or to plegd's user, and others may write to it only if it is sticky. A file
        /// `<socket>.lock` stays beside the socket. At most 107 bytes.
        restart socket: Option<PathBuf> = Some("/run/plegd/plegd.sock".into());
        /// Mode of the socket. Whoever may write to it can connect; `api.allow_watch` and `api.allow_introspection` then
        /// decide what for. Leave others (the last digit) at 0 unless these lists name whom they are to admit.
        restart socket_mode: FileMode = FileMode(0o660);
        /// Group of the socket: a name in /etc/group or a number. In a container a number is best. Empty: plegd's own.
        restart socket_group: SocketGroup = SocketGroup::Own;
        /// Who may follow and read pods (PodLifecycleService). root: uid 0 and the user that plegd runs as. group: whom the
        /// socket's mode and group let in. uid:1000, gid:2000: processes of this user or group. loopback: TCP without TLS
        /// from this machine. tls: any client with a verified certificate. tls:NAME: one whose certificate has this URI or
        /// DNS name among its subject's alternative names, as tls:spiffe://example.org/agent; common names do not count.
        /// any: whoever connects.
        live allow_watch: Principals = Principals::of([Principal::Root, Principal::Group, Principal::Loopback, Principal::Tls]);
        /// Who may use IntrospectionService; as `api.allow_watch`. That is to look at plegd itself, but also to disconnect
        /// subscribers and to change the log's level, which the default lets the socket's group do as well; name root alone
        /// if it should not. Health and reflection are for whoever is in either list.
        live allow_introspection: Principals = Principals::of([Principal::Root, Principal::Group]);
        /// TCP address to listen on as well, such as "0.0.0.0:7535". It needs `api.tls_certificate`, `api.tls_key` and
        /// `api.tls_client_ca`, or `api.tcp_plaintext`.
        restart tcp_address: Option<SocketAddr> = None;
        /// TCP without TLS, so that whoever reaches the address can connect. For a loopback address only. The three TLS
        /// files are then not used.
        restart tcp_plaintext: bool = false;
        /// File with the server's certificate and those between it and its authority, as PEM. Read again when it changes.
        restart tls_certificate: Option<PathBuf> = None;
        /// File with the key of that certificate, as PEM. Read again when it changes.
        restart tls_key: Option<PathBuf> = None;
        /// File with the authorities, as PEM, one of which must have signed a client's certificate. Read again when it
        /// changes; connections there are stay.
        restart tls_client_ca: Option<PathBuf> = None;
        /// Watches at the same time. Past it the next is refused with RESOURCE_EXHAUSTED.
        live subscribers: usize = 1024, in 1..=65_536;
        /// Connections at the same time. If both are listened on, TCP has half of them and the UNIX socket the other half.
        /// Of either's, one user (root, too) or one IP address has at most half. Past it the next is closed at once. Each
        /// takes a file descriptor: there are 128 fewer at most than files that may be open (LimitNOFILE).
        restart connections: usize = 2048, in 2..=65_536;
        /// Requests that one peer (a process, or an IP address; for a process of another process namespace a connection) may
        /// have under way at the same time, without Watch calls that were answered, which `api.subscribers` bounds. All
        /// peers together may have 16 times as many. Past it the next is refused with RESOURCE_EXHAUSTED.
        live requests_per_peer: usize = 64, in 1..=65_536;
        /// The largest request. One that is larger is refused before it is read.
        restart message_bytes: Bytes = Bytes(64 * 1024), in Bytes(1024)..=Bytes::mib(64);
        /// Reads of single pods from the runtime that all clients together may cause in a second.
        live reads_per_second: usize = 20, in 1..=1000;
        /// The node's name, as Kubernetes knows it, in what is served. In a pod, set PLEGD_API_NODE_NAME from the field
        /// spec.nodeName. Empty: the host's name.
        restart node_name: String = String::new();
    }
    /// Metrics, health and a page for browsers over HTTP.
    http: Http {
        /// Address to listen on. It is not authenticated: choose more than loopback only where the network is yours.
        /// Empty or "off": none.
        restart address: Option<SocketAddr> = Some(SocketAddr::from(([127, 0, 0, 1], 7534)));
        /// Whom the page at `/` answers, which shows this node's pods as they come and go: names, namespaces, states, ids and
        /// images, no labels, annotations or environment. loopback: browsers on this machine, also through an SSH tunnel or
        /// `kubectl port-forward`. on: whoever reaches the address. off: nobody.
        restart page: PageAccess = PageAccess::Loopback;
    }
    /// plegd's own log, which goes to stderr.
    log: Log {
        /// Level, or levels by module, as `info,plegd::relister=debug`.
        live level: Filter = Filter::info();
        /// text is for people, json one object a line for collectors, journald for systemd's journal: with the priority that
        /// it shows and filters by, and without the time, which it keeps itself. auto: journald if systemd has connected
        /// stderr to its journal, else text.
        restart format: LogFormat = LogFormat::Auto;
    }
    /// Lifecycle events on stdout.
    print: Print {
        /// As a table for people, as one JSON object a line, or not at all.
        restart format: PrintFormat = PrintFormat::None;
        /// Which events: any of started, died, removed, changed and sync, with commas between them, or all. The default
        /// is what the kubelet's sync loop is sent.
        restart types: EventTypes = EventTypes::kubelet();
    }
}

// === impl Config ===

impl Config {
    /// All keys with their documentation as a TOML file, each with its value in this configuration. The file parses to this configuration
    /// again.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        comment(&mut text, HEAD);
        for section in SECTIONS {
            text.push('\n');
            comment(&mut text, section.doc);
            text.push_str(&format!("[{}]\n", section.name));
            for key in KEYS.iter().filter(|key| key.section == section.name) {
                text.push('\n');
                comment(&mut text, key.doc);
                let (allowed, default) = (key.allowed(), key.default_toml());
                let change = key.change.sentence();
                comment(&mut text, &format!("Allowed: {allowed}. Default: {default}. {change}"));
                text.push_str(&format!("{} = {}\n", key.name, key.toml(self)));
            }
        }
        text
    }

    /// Checks that a file could have each value and that no values contradict each other: for a configuration that a program has created.
    ///
    /// # Errors
    ///
    /// All errors in it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut checked = Config::default();
        let refused = |key: &Key| {
            let text = key.text(self);
            let why = (key.set)(&mut checked, &text).err()?;
            Some(format!("{} = {text}: {why}. Allowed: {}", key.path(), key.allowed()))
        };
        let mut messages: Vec<String> = KEYS.iter().filter_map(refused).collect();
        messages.extend(self.contradictions().into_iter().map(|(_, message)| message));
        let problems: Vec<Problem> =
            messages.into_iter().map(|message| Problem { place: Place::Program, message }).collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }

    /// Contradictions between valid keys; each with the key that causes it.
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let Relist { period, max_period, .. } = &self.relist;
        if max_period < period {
            found.push((
                "relist.max_period",
                format!(
                    "relist.max_period ({}) is below relist.period ({}); raise the one or lower the other",
                    max_period.text(),
                    period.text()
                ),
            ));
        }
        found.extend(self.api.contradictions());
        found
    }
}

// === impl State ===

impl State {
    /// The directory of the state, which by default is beside the socket of the API; none if no state is kept.
    pub fn place(&self, api: &Api) -> Option<PathBuf> {
        if !self.enabled {
            return None;
        }
        match &self.directory {
            StateDirectory::At(path) => Some(path.clone()),
            StateDirectory::BesideSocket => Some(api.socket.as_ref()?.parent()?.join("state")),
        }
    }
}

// === impl Api ===

impl Api {
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(socket) = &self.socket
            && socket.as_os_str().len() > socket_path::MAX_LENGTH
        {
            let bytes = socket.as_os_str().len();
            found.push((
                "api.socket",
                format!(
                    "api.socket has {bytes} bytes, and a socket's path has at most {}; choose a shorter one",
                    socket_path::MAX_LENGTH
                ),
            ));
        }
        if let Some(address) = self.tcp_address {
            if self.tcp_plaintext && !address.ip().to_canonical().is_loopback() {
                found.push((
                    "api.tcp_plaintext",
                    format!(
                        "api.tcp_plaintext would serve without TLS on api.tcp_address {address}, which is not loopback; \
                         set the address to 127.0.0.1 or [::1], or give api.tls_certificate, api.tls_key and \
                         api.tls_client_ca instead"
                    ),
                ));
            }
            let files = [
                ("api.tls_certificate", &self.tls_certificate),
                ("api.tls_key", &self.tls_key),
                ("api.tls_client_ca", &self.tls_client_ca),
            ];
            let missing: Vec<&'static str> =
                files.iter().filter(|(_, file)| file.is_none()).map(|(key, _)| *key).collect();
            if let (false, Some(first)) = (self.tcp_plaintext, missing.first()) {
                found.push((
                    first,
                    format!(
                        "api.tcp_address {address} needs {} too, for TLS; set it, or api.tcp_plaintext on a loopback address",
                        missing.join(" and ")
                    ),
                ));
            }
        }
        found
    }
}

fn comment(text: &mut String, doc: &str) {
    for line in doc.lines() {
        text.push_str(&format!("# {}\n", line.trim()));
    }
}

#[cfg(test)]
mod tests;
