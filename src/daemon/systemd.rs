//! Notifies the service manager: plegd serves, its status, a sign of life, a reload, the end.
//!
//! Uses systemd's notification protocol over the datagram socket that `NOTIFY_SOCKET` names. Owns that socket and the timing of the
//! watchdog. Decides nothing: [`Health`] defines progress. Without such a manager, it does nothing.
//!
//! The crate `sd-notify` does not support sockets in the abstract name space, and reads the environment again for each message.

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

/// Period at which the status is checked; it is sent only if it has changed.
const STATUS_PERIOD: Duration = Duration::from_secs(5);

/// Limit for the time that a message waits for a busy service manager.
const PATIENCE: Duration = Duration::from_millis(500);

/// The connection to the service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Manager(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    /// Without a sign of life for this time, the manager kills plegd.
    watchdog: Option<Duration>,
}

/// While it is held, plegd counts as reloading.
#[must_use = "the reload counts as over when this is dropped"]
#[derive(Debug)]
pub struct Reloading(Manager);

// === impl Manager ===

impl Manager {
    /// The manager of this process, if it has set `NOTIFY_SOCKET`.
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
                "The service manager cannot be told that plegd has started, and may end it: look at NOTIFY_SOCKET."
            );
            Self::default()
        })
    }

    /// The manager that listens at `name`: a path, or a name in the abstract name space after an `@`.
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
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Some(Arc::new(Line { socket, watchdog }))))
    }

    pub fn ready(&self) {
        self.say("READY=1");
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=Ending.");
    }

    /// Reports a reload, which lasts until the returned value is dropped.
    pub fn reloading(&self) -> Reloading {
        // The moment distinguishes this reload from one that the manager requests meanwhile.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        Reloading(self.clone())
    }

    /// Until `stop`: sends `status` when it changes, and feeds the watchdog while `health` reports progress of all parts.
    pub async fn follow(self, health: Health, status: impl Fn() -> String, stop: CancellationToken) {
        let Some(line) = &self.0 else { return };
        // Twice as often as required, as sd_watchdog_enabled(3) recommends.
        let mut feeding = interval(line.watchdog.map_or(STATUS_PERIOD, |watchdog| watchdog / 2));
        let mut looking = interval(STATUS_PERIOD);
        feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut shown, mut hungry) = (String::new(), false);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = feeding.tick(), if line.watchdog.is_some() => {
                    let report = health.live();
                    if report.ok {
                        self.say("WATCHDOG=1");
                    } else if !hungry {
                        let stuck: Vec<String> =
                            report.checks.iter().filter(|check| !check.ok).map(Check::to_string).collect();
                        tracing::error!(
                            stuck = stuck.join("; "),
                            "A part of plegd hangs: the watchdog is not fed, and the service manager will kill plegd and start it \
                             again. This is a bug in plegd: please report it with the log until here."
                        );
                    }
                    hungry = !report.ok;
                }
                _ = looking.tick() => {
                    let status = visible(&status().replace('\n', " ")).into_owned();
                    if status != shown {
                        self.say(&format!("STATUS={status}"));
                        shown = status;
                    }
                }
            }
        }
    }

    fn say(&self, message: &str) {
        let Some(line) = &self.0 else { return };
        if let Err(error) = line.socket.send(message.as_bytes()) {
            tracing::debug!(%error, message, "The service manager could not be told.");
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
    let held = format!("{pods} pods, {containers} containers, {subscribers} subscribers");
    if let Some(it) = follower_status.failures.as_ref().filter(|failures| failures.persist()) {
        let (count, since, error) = (it.count, it.since, &it.last_error);
        return format!(
            "{mode}, but the runtime cannot be listed since {since}: {count} relists in a row failed, the last with: {error}. \
             {held} as of then"
        );
    }
    let mut status = format!("{mode}, a relist every {period}: {held}");
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

    /// A service manager, and the connection to it.
    fn manager(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Manager) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Manager::at(path.as_os_str(), watchdog).unwrap();
        (folder, socket, manager)
    }

    /// All messages until now.
    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let message = || {
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        };
        std::iter::from_fn(message).collect()
    }

    fn count(messages: &[String], message: &str) -> usize {
        messages.iter().filter(|said| *said == message).count()
    }

    #[test]
    fn the_status_says_the_mode_what_is_held_and_what_is_wrong() {
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
        let said = |follower_status: &FollowerStatus| status(&health.ready(), follower_status, &counts, 3);
        assert_eq!(
            said(&follower_status),
            "Not ready: the first relist is not yet complete: waiting for the runtime"
        );
        relist.open();
        runtime.set_ok("containerd v2.1.9");
        assert_eq!(
            said(&follower_status),
            "polling, a relist every 1s: 42 pods, 0 containers, 3 subscribers. No event stream: the runtime ended it at once"
        );
        (follower_status.mode, follower_status.period) = (Mode::Evented, Duration::from_secs(60));
        follower_status.stream_up = Some(clock.now());
        assert_eq!(
            said(&follower_status),
            "evented, a relist every 1m: 42 pods, 0 containers, 3 subscribers"
        );
        runtime.set_failed("connection refused");
        assert!(
            said(&follower_status)
                .ends_with("3 subscribers. The runtime does not answer: connection refused")
        );
        let failures = |count| RelistFailures {
            count,
            since: Wall::from_nanos(1_800_000_000_000_000_000),
            last_error: "connection refused".into(),
        };
        follower_status.failures = Some(failures(1));
        assert!(said(&follower_status).contains("a relist every 1m"), "one failure may be a passing error");
        follower_status.failures = Some(failures(8));
        assert_eq!(
            said(&follower_status),
            "evented, but the runtime cannot be listed since 2027-01-15T08:00:00.000000000Z: 8 relists in a row failed, the last \
             with: connection refused. 42 pods, 0 containers, 3 subscribers as of then"
        );
    }

    #[test]
    fn nobody_is_told_where_nobody_asked() {
        let manager = Manager::default();
        manager.ready();
        drop(manager.reloading());
        manager.stopping();
        assert!(Manager::at(OsStr::new("/no/such/notify"), None).is_err());
        assert!(Manager::at(OsStr::new("@plegd-no-such-notify"), None).is_err());
    }

    #[test]
    fn names_in_the_abstract_name_space_are_found() {
        let name = format!("plegd-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager::at(OsStr::new(&format!("@{name}")), None).unwrap().ready();
        assert_eq!(heard(&socket), ["READY=1"]);
    }

    #[test]
    fn a_reload_has_a_beginning_with_its_moment_and_an_end() {
        let (_folder, socket, manager) = manager(None);
        let reloading = manager.reloading();
        let begun = heard(&socket);
        let micros = begun[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0 && begun.len() == 1, "{begun:?}");
        drop(reloading);
        assert_eq!(heard(&socket), ["READY=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_while_all_make_progress_and_not_when_the_receiver_hangs() {
        let (_folder, socket, manager) = manager(Some(Duration::from_secs(30)));
        let health = Health::new(Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0);
        let receiver = health.heartbeat("receiver", Duration::from_secs(60));
        let relister = health.heartbeat("relister", Duration::from_secs(60));
        let stop = CancellationToken::new();
        let following = tokio::spawn(manager.follow(health, String::new, stop.clone()));
        let second = Duration::from_secs(1);
        for _ in 0..120 {
            tokio::time::sleep(second).await;
            receiver.beat();
            relister.beat();
        }
        let fed = count(&heard(&socket), "WATCHDOG=1");
        assert!((8..=9).contains(&fed), "every 15 seconds of 120: {fed}");
        // The receiver hangs; the relister does not.
        for _ in 0..61 {
            tokio::time::sleep(second).await;
            relister.beat();
        }
        heard(&socket);
        for _ in 0..300 {
            tokio::time::sleep(second).await;
            relister.beat();
        }
        assert_eq!(heard(&socket), [""; 0]);
        receiver.beat();
        tokio::time::sleep(15 * second).await;
        assert_eq!(heard(&socket), ["WATCHDOG=1"]);
        stop.cancel();
        following.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_is_sent_only_when_it_is_another_and_never_more_often_than_every_few_seconds() {
        let (_folder, socket, manager) = manager(None);
        let health = Health::new(Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0);
        let pods = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let of = pods.clone();
        let status = move || format!("{} pods\nhere", of.load(std::sync::atomic::Ordering::Relaxed));
        let stop = CancellationToken::new();
        let following = tokio::spawn(manager.follow(health, status, stop.clone()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(heard(&socket), ["STATUS=0 pods here"]);
        for _ in 0..100 {
            pods.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let said = heard(&socket);
        assert!((1..=3).contains(&said.len()), "in ten seconds: {said:?}");
        stop.cancel();
        following.await.unwrap();
    }
}
