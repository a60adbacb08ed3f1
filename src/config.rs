//! Configuration: defaults, then a TOML file, then `PLEGD_*` environment variables, then flags.
//!
//! Each key is described once, in the table below: its type, default, range and effect. Field, parser, file key, environment variable and
//! reference are generated from this table. The complete configuration is validated before plegd starts. All errors are reported
//! together, each with its place. This module reads only the file and the environment, and never changes a configuration after its
//! creation.

mod error;
mod file;
mod in_force;
mod key;
mod layers;
mod principals;
mod value;

pub use self::{
    error::{ConfigError, Place, Problem},
    in_force::{InForce, KeyChange},
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

/// The header of a file with all keys.
const HEADER: &str = "\
All configuration keys of plegd. An omitted key has its default value. An unknown key is an error.
Environment variables override this file, and flags override both. The variable for period in [relist] is PLEGD_RELIST_PERIOD.
plegd reloads this file at SIGHUP, and within about 10 seconds after a change. If the new configuration is invalid, plegd logs the
errors and keeps the previous values. Use `plegd config check --config FILE` to validate a file before plegd reads it.";

key::config! {
    /// The container runtime that plegd follows.
    runtime: Runtime {
        /// Socket of the runtime: a URL such as `unix:///run/containerd/containerd.sock`, or an absolute path. If empty, plegd
        /// tries the well-known sockets (containerd, k3s and RKE2, CRI-O) repeatedly until one answers as a CRI runtime. It
        /// then uses that socket until it is restarted.
        restart endpoint: Option<Endpoint> = None;
        /// Timeout of a unary CRI call. A call that exceeds it is cancelled and retried.
        live request_timeout: Duration = Duration::from_secs(5), in Duration::from_millis(100)..=5 * MINUTE;
    }
    /// The generic path: periodic relists, which list all pods and read the status of those that differ.
    relist: Relist {
        /// Relist period while there is no event stream. It is also the shortest period. The kubelet uses 1s.
        live period: Duration = Duration::from_secs(1), in Duration::from_millis(100)..=10 * MINUTE;
        /// Relist period while the event stream is trusted. Each relist that finds no missed event doubles the period, up to
        /// this value. It must not be less than `relist.period`.
        live max_period: Duration = MINUTE, in Duration::from_millis(100)..=HOUR;
        /// Random jitter of each relist period, as a fraction. It prevents the nodes of a cluster from relisting at the same
        /// time. With 0.1, a period of 1s becomes 0.9s to 1.1s.
        live jitter: f64 = 0.1, in 0.0..=0.5;
        /// Maximum number of pods that plegd reads in parallel. plegd starts with 4, and increases the number while the
        /// response time of the runtime does not increase.
        live parallelism: usize = 16, in 1..=64;
    }
    /// The evented path: the runtime's stream of container events (GetContainerEvents).
    stream: Stream {
        /// Whether to subscribe to the event stream. With `false`, plegd only relists: it does not detect containers that start
        /// and are removed between two relists.
        restart enabled: bool = true;
        /// Policy for runtimes that deliver each event to one subscriber only (containerd 1.7, CRI-O 1.26 and 1.27, unknown
        /// runtimes). It applies once missed events indicate another subscriber, such as a kubelet with EventedPLEG. yield: close
        /// the stream, so that the other subscriber receives all events; poll, and retry after 10 minutes to 1 hour. compete:
        /// keep the stream; both subscribers then miss events.
        live shared: SharedStream = SharedStream::Yield;
        /// Length of the queue of stream messages, in messages. Above this length, plegd strips the payload of messages and keeps
        /// only the lifecycle fields of the container or sandbox of the event. Above twice this length, it closes the stream and relists.
        restart queue_messages: usize = 65_536, in 64..=4_194_304;
        /// Size of the queue of stream messages, in bytes. The effects are those of `stream.queue_messages`.
        restart queue_bytes: Bytes = Bytes::mib(32), in Bytes::mib(1)..=Bytes::mib(1024);
    }
    /// The journal: a ring buffer of lifecycle events in memory, from which subscribers read and resume.
    journal: Journal {
        /// Maximum number of events in the journal. The oldest events are evicted first.
        restart events: usize = 65_536, in 64..=4_194_304;
        /// Maximum size of the journal in memory. Events are evicted if either limit is exceeded.
        restart bytes: Bytes = Bytes::mib(32), in Bytes::mib(1)..=Bytes::mib(1024);
    }
    /// The state on disk. After a restart, plegd restores it, so that subscribers resume without a gap. plegd writes each change
    /// before it delivers the change to subscribers. If the state is damaged or cannot be written, plegd continues without it and
    /// begins a new epoch.
    state: State {
        /// Whether to keep the state on disk.
        restart enabled: bool = true;
        /// Directory of the state. It should be on a tmpfs such as /run. plegd creates it if it does not exist (mode 0700). It must
        /// belong to the user of plegd, and only one plegd may use it. auto: the directory `state` beside `api.socket`, such as
        /// /run/plegd/state; if `api.socket` is off, no state is kept.
        restart directory: StateDirectory = StateDirectory::BesideSocket;
        /// Maximum size of the state on disk. plegd deletes the oldest entries first; a subscriber that needs a deleted entry gets a
        /// gap. The records of all pods (about 3 KiB per pod) are kept even if they exceed the limit.
        restart max_bytes: Bytes = Bytes::mib(16), in Bytes::mib(1)..=Bytes::mib(1024);
        /// Directory of a file with the state, for a reboot of the node without a gap. plegd writes the file when it is stopped, and
        /// reads and deletes it at the next start. The directory must be on a disk, such as /var/lib/plegd, and only one plegd may
        /// use it. off: no file; after a reboot, plegd begins a new epoch.
        restart persistent_directory: OptionalDirectory = OptionalDirectory(None);
    }
    /// The pod lifecycle API `plegd.v1` over gRPC. It is served on a UNIX socket for programs on this node, and on TCP if
    /// `api.tcp_address` is set.
    api: Api {
        /// Path of the UNIX socket, at most 107 bytes. plegd creates the directory of the socket if it does not exist (mode 0755; the
        /// mode of the socket controls access). The directory must belong to root or to the user of plegd. Other users may have
        /// write permission only if the sticky bit is set. plegd creates a file `<socket>.lock` beside the socket and keeps it.
        restart socket: Option<PathBuf> = Some("/run/plegd/plegd.sock".into());
        /// Mode of the socket. Users with write permission can connect; `api.allow_watch` and `api.allow_introspection` define which
        /// services they may use. Keep the permissions of others (the last digit) at 0, unless these lists name the users and
        /// groups to admit.
        restart socket_mode: FileMode = FileMode(0o660);
        /// Group of the socket: a name from /etc/group or a numeric id. In a container, use the numeric id. If empty, the group of
        /// the plegd process.
        restart socket_group: SocketGroup = SocketGroup::Own;
        /// Clients that may watch and read pods (PodLifecycleService). root: uid 0 and the user of plegd. group: processes that
        /// the mode and the group of the socket admit. uid:1000, gid:2000: processes of this user or group. loopback: TCP without
        /// TLS from this machine. tls: any client with a verified certificate. tls:NAME: a client whose certificate has this URI
        /// or DNS name as a subject alternative name, such as tls:spiffe://example.org/agent; the common name is ignored. any:
        /// every client that can connect.
        live allow_watch: Principals = Principals::of([Principal::Root, Principal::Group, Principal::Loopback, Principal::Tls]);
        /// Clients that may use IntrospectionService, in the notation of `api.allow_watch`. This service shows the status of plegd,
        /// disconnects subscribers and changes the log level. The default also admits the group of the socket; set "root" to
        /// exclude it. Clients in either list may use the health and reflection services.
        live allow_introspection: Principals = Principals::of([Principal::Root, Principal::Group]);
        /// Additional TCP address to listen on, such as "0.0.0.0:7535". It requires `api.tls_certificate`, `api.tls_key` and
        /// `api.tls_client_ca`, or `api.tcp_plaintext`.
        restart tcp_address: Option<SocketAddr> = None;
        /// Serve TCP without TLS. Every client that reaches the address can connect. Only allowed on a loopback address. The three
        /// TLS files are not used.
        restart tcp_plaintext: bool = false;
        /// PEM file with the server certificate and the intermediate certificates. plegd reloads it when it changes.
        restart tls_certificate: Option<PathBuf> = None;
        /// PEM file with the private key of the server certificate. plegd reloads it when it changes.
        restart tls_key: Option<PathBuf> = None;
        /// PEM file with the certificate authorities for client certificates. plegd reloads it when it changes; established
        /// connections stay open.
        restart tls_client_ca: Option<PathBuf> = None;
        /// Maximum number of concurrent watches. Further watches are rejected with RESOURCE_EXHAUSTED.
        live subscribers: usize = 1024, in 1..=65_536;
        /// Maximum number of concurrent connections. If both the UNIX socket and TCP are served, each has half of them. One user
        /// (including root) or one IP address may use at most half of those of a listener. Further connections are closed at once.
        /// Each connection needs a file descriptor: the effective limit is at most the limit of open files (LimitNOFILE) minus 128.
        restart connections: usize = 2048, in 2..=65_536;
        /// Maximum number of concurrent requests of one peer. A peer is a process, an IP address, or a connection from a process in
        /// another PID namespace. Established watches do not count; `api.subscribers` limits them. All peers together may have 16
        /// times as many requests. Further requests are rejected with RESOURCE_EXHAUSTED.
        live requests_per_peer: usize = 64, in 1..=65_536;
        /// Maximum size of a request. A larger request is rejected before it is read.
        restart message_bytes: Bytes = Bytes(64 * 1024), in Bytes(1024)..=Bytes::mib(64);
        /// Maximum number of reads of single pods per second that the requests of all clients together may cause at the runtime.
        live reads_per_second: usize = 20, in 1..=1000;
        /// Name of the Kubernetes node in responses, on the web page and in traces. In a pod, set PLEGD_API_NODE_NAME from the field
        /// spec.nodeName. If empty, the hostname is used.
        restart node_name: String = String::new();
    }
    /// Metrics, health checks and a web page over HTTP.
    http: Http {
        /// Address to listen on. There is no authentication: use an address other than loopback only on a trusted network. If empty
        /// or "off", HTTP is not served.
        restart address: Option<SocketAddr> = Some(SocketAddr::from(([127, 0, 0, 1], 7534)));
        /// Clients that may open the web page at `/`. The page shows the pods of this node live: names, namespaces, states, ids and
        /// images, but no labels, annotations or environment. loopback: browsers on this machine, including an SSH tunnel or
        /// `kubectl port-forward`. on: every client that reaches the address. off: no client.
        restart page: PageAccess = PageAccess::Loopback;
    }
    /// The log of plegd, on stderr.
    log: Log {
        /// Log level, optionally with levels for modules, such as `info,plegd::relister=debug`.
        live level: Filter = Filter::info();
        /// Log format. text: human-readable. json: one JSON object per line. journald: for the systemd journal, with its priority
        /// prefix and without a timestamp, which the journal adds. auto: journald if stderr is connected to the journal, otherwise
        /// text.
        restart format: LogFormat = LogFormat::Auto;
    }
    /// Lifecycle events on stdout.
    print: Print {
        /// Output format. none: no output. table: a human-readable table. json: one JSON object per line.
        restart format: PrintFormat = PrintFormat::None;
        /// Event types to print: a comma-separated list of started, died, removed, changed and sync, or all. The default is the set
        /// of events that the PLEG sends to the kubelet's sync loop.
        restart types: EventTypes = EventTypes::kubelet();
    }
}

// === impl Config ===

impl Config {
    /// All keys with their documentation as a TOML file, each with its value in this configuration. The file parses to this configuration
    /// again.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        comment(&mut text, HEADER);
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

    /// Validates a configuration that a program has created: each value must be possible in a file, and no values may contradict each
    /// other.
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

    /// Contradictions between keys that are valid on their own, each with the key that causes it.
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let Relist { period, max_period, .. } = &self.relist;
        if max_period < period {
            found.push((
                "relist.max_period",
                format!(
                    "relist.max_period ({}) is below relist.period ({}); increase relist.max_period or decrease relist.period",
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
    /// The directory of the state; `None` if no state is kept. By default it is beside the socket of the API.
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
                    "api.socket has {bytes} bytes, and a socket's path has at most {}; use a shorter path",
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
                         set the address to 127.0.0.1 or [::1], or set api.tls_certificate, api.tls_key and \
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
                        "api.tcp_address {address} requires {} for TLS; set the missing keys, or set api.tcp_plaintext on a loopback address",
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
