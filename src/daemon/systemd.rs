//! Notifies the service manager of readiness, status, liveness (watchdog), reloads and shutdown.
//!
//! Uses systemd's notification protocol over the datagram socket that `NOTIFY_SOCKET` names. Owns that socket and the timing of the
//! watchdog. Decides nothing: [`Health`] defines liveness. Without a service manager, it does nothing.
//!
//! The crate `sd-notify` does not support abstract sockets, and reads the environment again for each message.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::Counts,
    health::{Check, Health, Report},
    model::FollowerStatus,
    printable::visible,
};

/// Interval of status updates. The status is sent only if it has changed.
const STATUS_PERIOD: Duration = Duration::from_secs(5);

/// Timeout of a message to a busy service manager.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// The connection to the service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<NotifySocket>>);

#[derive(Debug)]
struct NotifySocket {
    socket: UnixDatagram,
    /// Watchdog timeout: without a keep-alive message for this time, the manager kills plegd.
    watchdog: Option<Duration>,
}

/// While this value exists, the service manager shows plegd as reloading.
#[must_use = "the reload ends when this is dropped"]
#[derive(Debug)]
pub struct Reloading(Notifier);

// === impl Notifier ===

impl Notifier {
    /// The connection to the manager of this process, if it has set `NOTIFY_SOCKET`.
    pub fn of_process() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let for_us = env::var("WATCHDOG_PID")
            .map_or(true, |pid| pid.parse() == Ok(rustix::process::getpid().as_raw_nonzero().get()));
        let micros = env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse::<u64>().ok());
        let watchdog = micros.filter(|&micros| for_us && micros > 0).map(Duration::from_micros);
        Self::at(&name, watchdog).unwrap_or_else(|error| {
            tracing::warn!(
                %error, socket = %name.display(),
                "Cannot notify the service manager, which may therefore stop plegd. Check NOTIFY_SOCKET."
            );
            Self::default()
        })
    }

    /// The connection to the manager that listens at `name`: a path, or an abstract socket name after an `@`.
    ///
    /// # Errors
    ///
    /// If no process listens there.
    pub fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self(Some(Arc::new(NotifySocket { socket, watchdog }))))
    }

    pub fn ready(&self) {
        self.send("READY=1");
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Stopping.");
    }

    /// Reports a reload, which lasts until the returned value is dropped.
    pub fn reloading(&self) -> Reloading {
        // The timestamp distinguishes this reload from one that the manager requests in the meantime.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        Reloading(self.clone())
    }

    /// Until `stop`, sends `status` when it changes, and keep-alive messages while `health` reports that all parts are live.
    pub async fn run(self, health: Health, status: impl Fn() -> String, stop: CancellationToken) {
        let Some(socket) = &self.0 else { return };
        // Twice as often as required, as sd_watchdog_enabled(3) recommends.
        let mut watchdog_tick = interval(socket.watchdog.map_or(STATUS_PERIOD, |watchdog| watchdog / 2));
        let mut status_tick = interval(STATUS_PERIOD);
        watchdog_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        status_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut stalled) = (String::new(), false);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = watchdog_tick.tick(), if socket.watchdog.is_some() => {
                    let report = health.live();
                    if report.ok {
                        self.send("WATCHDOG=1");
                    } else if !stalled {
                        let stuck: Vec<String> =
                            report.checks.iter().filter(|check| !check.ok).map(Check::to_string).collect();
                        tracing::error!(
                            stuck = stuck.join("; "),
                            "A part of plegd is stuck. No watchdog messages are sent, so the service manager will kill and restart \
                             plegd. This is a bug in plegd: please report it with the log up to this line."
                        );
                    }
                    stalled = !report.ok;
                }
                _ = status_tick.tick() => {
                    let status = visible(&status().replace('\n', " ")).into_owned();
                    if status != sent {
                        self.send(&format!("STATUS={status}"));
                        sent = status;
                    }
                }
            }
        }
    }

    fn send(&self, message: &str) {
        let Some(NotifySocket { socket, .. }) = self.0.as_deref() else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, message, "Failed to notify the service manager.");
        }
    }
}

/// plegd's status in one line: the mode with its reason, and the number of pods, containers and subscribers.
pub fn status(
    ready: &Report,
    follower_status: &FollowerStatus,
    counts: &Counts,
    subscribers: usize,
) -> String {
    let wrong = |name| ready.checks.iter().find(|check| check.name == name && !check.ok);
    if let Some(relist) = wrong("initial-relist") {
        return format!("Not ready: the first relist is {}", relist.text);
    }
    let (mode, period) = (follower_status.mode, humantime::format_duration(follower_status.period));
    let pods = counts.ready_pods + counts.not_ready_pods;
    let containers: usize = counts.containers.iter().sum();
    let counts = format!("{pods} pods, {containers} containers, {subscribers} subscribers");
    if let Some(it) = follower_status.failures.as_ref().filter(|failures| failures.persist()) {
        let (count, since, error) = (it.count, it.since, &it.last_error);
        return format!(
            "{mode}, but the runtime cannot be listed since {since}: {count} relists in a row failed, the last with: {error}. \
             State as of then: {counts}"
        );
    }
    let mut status = format!("{mode}, a relist every {period}: {counts}");
    if let Some(runtime) = wrong("runtime") {
        status = format!("{status}. The runtime does not answer: {}", runtime.text);
    } else if follower_status.stream_up.is_none() {
        status = format!("{status}. No event stream: {}", follower_status.stream);
    }
    status
}

// === impl Reloading ===

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, Wall},
        model::{FollowerStatus, Mode, RelistFailures},
    };

    /// The socket of a service manager, and the connection to it.
    fn notifier(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Notifier::at(path.as_os_str(), watchdog).unwrap();
        (directory, socket, manager)
    }

    /// All messages received so far.
    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let message = || {
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        };
        std::iter::from_fn(message).collect()
    }

    fn count(messages: &[String], message: &str) -> usize {
        messages.iter().filter(|it| *it == message).count()
    }

    #[test]
    fn the_status_has_the_mode_the_counts_and_the_problems() {
        let clock = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0;
        let health = Health::new(clock.clone());
        let relist = health.readiness_gate("initial-relist", "not yet complete: waiting for the runtime");
        let runtime = health.note("runtime", "not yet reached");
        let mut follower_status = FollowerStatus {
            ready: false,
            mode: Mode::Polling,
            mode_since: clock.now_both().1,
            period: Duration::from_secs(1),
            runtime: None,
            stream_up: None,
            stream_since: clock.now_both().1,
            stream: "the runtime ended it at once".into(),
            failures: None,
            yielded: None,
        };
        let counts = Counts { ready_pods: 40, not_ready_pods: 2, ..Counts::default() };
        let line = |follower_status: &FollowerStatus| status(&health.ready(), follower_status, &counts, 3);
        assert_eq!(
            line(&follower_status),
            "Not ready: the first relist is not yet complete: waiting for the runtime"
        );
        relist.open();
        runtime.set_ok("containerd v2.1.9");
        assert_eq!(
            line(&follower_status),
            "polling, a relist every 1s: 42 pods, 0 containers, 3 subscribers. No event stream: the runtime ended it at once"
        );
        (follower_status.mode, follower_status.period) = (Mode::Evented, Duration::from_secs(60));
        follower_status.stream_up = Some(clock.now());
        assert_eq!(
            line(&follower_status),
            "evented, a relist every 1m: 42 pods, 0 containers, 3 subscribers"
        );
        runtime.set_failed("connection refused");
        assert!(
            line(&follower_status)
                .ends_with("3 subscribers. The runtime does not answer: connection refused")
        );
        let failures = |count| RelistFailures {
            count,
            since: Wall::from_nanos(1_800_000_000_000_000_000),
            last_error: "connection refused".into(),
        };
        follower_status.failures = Some(failures(1));
        assert!(line(&follower_status).contains("a relist every 1m"), "one failure may be a passing error");
        follower_status.failures = Some(failures(8));
        assert_eq!(
            line(&follower_status),
            "evented, but the runtime cannot be listed since 2027-01-15T08:00:00.000000000Z: 8 relists in a row failed, the last \
             with: connection refused. State as of then: 42 pods, 0 containers, 3 subscribers"
        );
    }

    #[test]
    fn without_a_service_manager_nothing_is_sent() {
        let notifier = Notifier::default();
        notifier.ready();
        drop(notifier.reloading());
        notifier.stopping();
        assert!(Notifier::at(OsStr::new("/no/such/notify"), None).is_err());
        assert!(Notifier::at(OsStr::new("@plegd-no-such-notify"), None).is_err());
    }

    #[test]
    fn abstract_socket_names_are_supported() {
        let name = format!("plegd-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Notifier::at(OsStr::new(&format!("@{name}")), None).unwrap().ready();
        assert_eq!(received(&socket), ["READY=1"]);
    }

    #[test]
    fn a_reload_is_reported_with_its_start_time_and_its_end() {
        let (_directory, socket, notifier) = notifier(None);
        let reloading = notifier.reloading();
        let begun = received(&socket);
        let micros = begun[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0 && begun.len() == 1, "{begun:?}");
        drop(reloading);
        assert_eq!(received(&socket), ["READY=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_messages_stop_when_the_receiver_hangs() {
        let (_directory, socket, notifier) = notifier(Some(Duration::from_secs(30)));
        let health = Health::new(Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0);
        let receiver = health.heartbeat("receiver", Duration::from_secs(60));
        let relister = health.heartbeat("relister", Duration::from_secs(60));
        let stop = CancellationToken::new();
        let running = tokio::spawn(notifier.run(health, String::new, stop.clone()));
        let second = Duration::from_secs(1);
        for _ in 0..120 {
            tokio::time::sleep(second).await;
            receiver.beat();
            relister.beat();
        }
        let sent = count(&received(&socket), "WATCHDOG=1");
        assert!((8..=9).contains(&sent), "every 15 seconds of 120: {sent}");
        // The receiver hangs; the relister does not.
        for _ in 0..61 {
            tokio::time::sleep(second).await;
            relister.beat();
        }
        received(&socket);
        for _ in 0..300 {
            tokio::time::sleep(second).await;
            relister.beat();
        }
        assert_eq!(received(&socket), [""; 0]);
        receiver.beat();
        tokio::time::sleep(15 * second).await;
        assert_eq!(received(&socket), ["WATCHDOG=1"]);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_is_sent_only_if_it_changes_and_at_most_every_five_seconds() {
        let (_directory, socket, notifier) = notifier(None);
        let health = Health::new(Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0);
        let pods = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let of = pods.clone();
        let status = move || format!("{} pods\nhere", of.load(std::sync::atomic::Ordering::Relaxed));
        let stop = CancellationToken::new();
        let running = tokio::spawn(notifier.run(health, status, stop.clone()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(received(&socket), ["STATUS=0 pods here"]);
        for _ in 0..100 {
            pods.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let sent = received(&socket);
        assert!((1..=3).contains(&sent.len()), "in ten seconds: {sent:?}");
        stop.cancel();
        running.await.unwrap();
    }
}
