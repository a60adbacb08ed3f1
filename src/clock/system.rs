//! The clock: the machine's two clocks, or a simulated one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use super::{
    Mono, Wall,
    moment::{nanos, slewed_in},
};

/// Timestamps less than this apart have no order. An offset between the wall clock and the monotonic clock that changes by more, beyond
/// slewing, is a step. A smaller step is not detected: a timestamp from before it is wrong by the size of the step.
pub const STEP_MARGIN: Duration = Duration::from_millis(50);

/// Smaller changes of the offset are ignored.
const MIN_OFFSET_CHANGE: Duration = Duration::from_micros(100);

/// The first value of a clock. Moments up to a week before its creation, such as those of old events, are therefore representable.
const START: Duration = Duration::from_secs(7 * 86_400);

/// The monotonic moment of a runtime's wall-clock timestamp, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamped {
    /// At this moment, within [`STEP_MARGIN`].
    At(Mono),
    /// Before the last step of the wall clock, which was detected at this moment.
    BeforeStep(Mono),
    /// Unknown: the timestamp is zero, negative, in the future, or in seconds instead of nanoseconds.
    Unknown,
}

/// The clock. Cheap to clone; all clones share their state.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

/// Steps the wall clock of [`Clock::simulated`].
#[derive(Clone, Debug)]
pub struct WallStepper(Arc<AtomicI64>);

struct Inner {
    origin: tokio::time::Instant,
    wall: WallSource,
    era: ArcSwap<Era>,
    /// When both clocks were last read.
    last_read: AtomicU64,
    steps: AtomicU64,
}

enum WallSource {
    System,
    Simulated { start: Wall, stepped_by: Arc<AtomicI64>, booted: tokio::time::Instant },
}

/// The time between two steps of the wall clock, in which `wall = monotonic + offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Era {
    /// Wall time minus monotonic time, in nanoseconds, at the last read: a clock may be slewed.
    offset: i64,
    /// The offset at the beginning of the era, and when that was.
    first: (i64, Mono),
    /// When the step before this era was detected; `None` for the first era.
    began: Option<Mono>,
}

// === impl Clock ===

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self::new(WallSource::System)
    }

    /// A wall clock that starts at `start` and follows tokio's clock, which a test may pause. `WallStepper` steps it.
    #[allow(clippy::disallowed_methods)]
    pub fn simulated(start: Wall) -> (Self, WallStepper) {
        let stepped_by = Arc::new(AtomicI64::new(0));
        let booted = tokio::time::Instant::now();
        let clock = Self::new(WallSource::Simulated { start, stepped_by: stepped_by.clone(), booted });
        (clock, WallStepper(stepped_by))
    }

    /// The clock of a process that starts now on the same machine.
    pub fn restarted(&self) -> Self {
        Self::new(match &self.0.wall {
            WallSource::System => WallSource::System,
            WallSource::Simulated { start, stepped_by, booted } => WallSource::Simulated {
                start: Wall(start.0.saturating_add_unsigned(nanos(self.now().since(Mono::ZERO + START)))),
                stepped_by: stepped_by.clone(),
                booted: *booted,
            },
        })
    }

    #[allow(clippy::disallowed_methods)]
    fn new(wall: WallSource) -> Self {
        let origin = tokio::time::Instant::now();
        let inner = Inner {
            origin,
            wall,
            era: ArcSwap::from_pointee(Era::default()),
            last_read: AtomicU64::new(0),
            steps: AtomicU64::new(0),
        };
        let (mono, wall) = inner.read();
        let offset = wall.0.saturating_sub_unsigned(mono.0);
        inner.era.store(Arc::new(Era { offset, first: (offset, mono), began: None }));
        inner.last_read.store(mono.0, Ordering::Relaxed);
        Self(Arc::new(inner))
    }

    /// Now, on the monotonic clock.
    pub fn now(&self) -> Mono {
        self.0.monotonic()
    }

    /// Now, on both clocks. Detects a step of the wall clock.
    pub fn now_both(&self) -> (Mono, Wall) {
        let (mono, wall) = self.0.read();
        let offset = wall.0.saturating_sub_unsigned(mono.0);
        let era = self.0.era.load();
        let previous_read = Mono(self.0.last_read.swap(mono.0, Ordering::Relaxed));
        if era.is_step(offset, mono, previous_read) {
            self.0.era.store(Arc::new(Era { offset, first: (offset, mono), began: Some(mono) }));
            self.0.steps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                by_seconds = (offset as f64 - era.offset as f64) / 1e9,
                "The wall clock was stepped. Timestamps of the runtime from before the step are not compared with later ones."
            );
        } else if offset.abs_diff(era.offset) > nanos(MIN_OFFSET_CHANGE) {
            self.0.era.store(Arc::new(Era { offset, ..**era }));
        }
        (mono, wall)
    }

    /// Now, on the wall clock.
    pub fn wall(&self) -> Wall {
        self.now_both().1
    }

    /// The moment `after` from now, for tokio's timers.
    #[allow(clippy::disallowed_methods)]
    pub fn timer(&self, after: Duration) -> tokio::time::Instant {
        tokio::time::Instant::now() + after
    }

    /// The monotonic moment of a timestamp that was received at `received`.
    pub fn to_monotonic(&self, stamp: Wall, received: Mono) -> Stamped {
        self.0.era.load().map(stamp, received)
    }

    /// The time since the machine was booted, which includes suspension: it is the same for all processes.
    #[allow(clippy::disallowed_methods)]
    pub fn since_boot(&self) -> Duration {
        match &self.0.wall {
            WallSource::System => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
                Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
            }
            WallSource::Simulated { booted, .. } => START + booted.elapsed(),
        }
    }

    /// The moment at which this time had passed since the boot; the earliest moment if that is more than a week before this clock was
    /// created.
    pub fn at_since_boot(&self, since_boot: Duration) -> Mono {
        self.now() - self.since_boot().saturating_sub(since_boot)
    }

    /// The wall clock was stepped before this clock was created: timestamps from before cannot be mapped.
    pub fn set_stepped_before(&self) {
        let now = self.now();
        self.0.era.rcu(|era| Era { began: Some(now), ..**era });
    }

    /// The number of steps of the wall clock since this clock was created.
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.0.era.load()).finish()
    }
}

// === impl WallStepper ===

impl WallStepper {
    /// Steps the wall clock forward, or back for a negative number of nanoseconds.
    pub fn step(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

// === impl Inner ===

impl Inner {
    #[allow(clippy::disallowed_methods)]
    fn monotonic(&self) -> Mono {
        Mono(nanos(START + tokio::time::Instant::now().saturating_duration_since(self.origin)))
    }

    #[allow(clippy::disallowed_methods)]
    fn read(&self) -> (Mono, Wall) {
        let mono = self.monotonic();
        let wall = match &self.wall {
            WallSource::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Wall(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
            }
            WallSource::Simulated { start, stepped_by, .. } => {
                let since_creation = nanos(mono.since(Mono::ZERO + START));
                let unstepped = start.0.saturating_add_unsigned(since_creation);
                Wall(unstepped.saturating_add(stepped_by.load(Ordering::Relaxed)))
            }
        };
        (mono, wall)
    }
}

// === impl Era ===

impl Era {
    /// Whether an offset differs from that of the last read or of the first read by more than slewing allows. One large change is a step,
    /// and so are many small changes in a short time.
    fn is_step(&self, offset: i64, now: Mono, previous_read: Mono) -> bool {
        let differs =
            |from: i64, since: Mono| offset.abs_diff(from) > nanos(STEP_MARGIN + slewed_in(now.since(since)));
        differs(self.offset, previous_read) || differs(self.first.0, self.first.1)
    }

    fn map(&self, stamp: Wall, received: Mono) -> Stamped {
        let Some(stamp) = Wall::from_cri(stamp.0) else { return Stamped::Unknown };
        let at = i128::from(stamp.0) - i128::from(self.offset);
        if at > i128::from((received + STEP_MARGIN).0) {
            return Stamped::Unknown;
        }
        // Timestamps from more than a week before the creation of the clock map to zero, before every other moment.
        let at = Mono(u64::try_from(at).unwrap_or(0));
        match self.began {
            // A timestamp of this era cannot map to a moment before it, so this one is from an earlier era.
            Some(began) if at < began => Stamped::BeforeStep(began),
            _ => Stamped::At(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const NOON: Wall = Wall(1_800_000_000 * SECOND);

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_timestamp_maps_to_the_moment_of_its_creation() {
        let (clock, _) = Clock::simulated(NOON);
        pass(10).await;
        let (now, stamp) = clock.now_both();
        pass(5).await;
        assert_eq!(clock.to_monotonic(stamp, clock.now()), Stamped::At(now));
        assert_eq!(clock.steps(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timestamp_from_before_the_creation_of_the_clock_is_mapped() {
        let (clock, _) = Clock::simulated(NOON);
        let now = clock.now();
        let placed = |seconds| clock.to_monotonic(Wall(NOON.0 - seconds * SECOND), now);
        assert_eq!(placed(300), Stamped::At(now - Duration::from_secs(300)));
        assert_eq!(placed(365 * 86_400), Stamped::At(Mono::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timestamp_from_before_a_step_is_recognized() {
        for step in [-3600 * SECOND, -SECOND, SECOND, 3600 * SECOND, 40 * 365 * 86_400 * SECOND] {
            let (clock, stepper) = Clock::simulated(NOON);
            pass(100).await;
            let before = clock.wall();
            pass(10).await;
            stepper.step(step);
            let (stepped, after) = clock.now_both();
            assert_eq!(clock.steps(), 1, "step of {step} ns");
            pass(1).await;
            assert_eq!(clock.to_monotonic(after, clock.now()), Stamped::At(stepped));
            match clock.to_monotonic(before, clock.now()) {
                Stamped::BeforeStep(at) => assert_eq!(at, stepped),
                // After a step back, it may map to a moment after the step, but never to a moment before its own.
                Stamped::At(_) | Stamped::Unknown => assert!(step < 0, "step of {step} ns"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalid_timestamp_is_unknown() {
        let (clock, _) = Clock::simulated(NOON);
        pass(1).await;
        let now = clock.now();
        let in_seconds = NOON.0 / SECOND;
        for invalid in
            [0, -1, i64::MIN, i64::MAX, -6_795_364_578_871_345_152, in_seconds, NOON.0 + 3600 * SECOND]
        {
            assert_eq!(clock.to_monotonic(Wall(invalid), now), Stamped::Unknown, "{invalid}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_changes_in_a_short_time_are_a_step() {
        let (clock, stepper) = Clock::simulated(NOON);
        for _ in 0..5 {
            stepper.step(9_000_000);
            clock.wall();
        }
        assert_eq!(clock.steps(), 0);
        stepper.step(9_000_000);
        clock.wall();
        assert_eq!(clock.steps(), 1);
    }

    /// 500 ppm for three hours.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_slewed_for_hours_is_tracked() {
        for ppm in [-500, 500, 900] {
            let (clock, stepper) = Clock::simulated(NOON);
            for _ in 0..180 {
                pass(60).await;
                stepper.step(60 * SECOND * ppm / 1_000_000);
                clock.wall();
            }
            assert_eq!(clock.steps(), 0, "{ppm} ppm");
            let (now, stamp) = clock.now_both();
            let Stamped::At(at) = clock.to_monotonic(stamp, now) else {
                panic!("the timestamp is not mapped")
            };
            assert!(at.since(now).max(now.since(at)) <= MIN_OFFSET_CHANGE, "{ppm} ppm");
            // A step of a slewed clock is detected as well.
            stepper.step(SECOND);
            clock.wall();
            assert_eq!(clock.steps(), 1, "{ppm} ppm");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_step_is_tracked_like_slewing() {
        let (clock, stepper) = Clock::simulated(NOON);
        for step in [1, -10, 30, -40] {
            pass(30).await;
            stepper.step(step * 1_000_000);
            let (now, stamp) = clock.now_both();
            assert_eq!(clock.to_monotonic(stamp, now), Stamped::At(now), "{step} ms");
        }
        assert_eq!(clock.steps(), 0);
    }

    #[test]
    fn wall_time_is_formatted_as_rfc_3339() {
        assert_eq!(Wall(1_800_000_000_123_456_789).to_string(), "2027-01-15T08:00:00.123456789Z");
        assert_eq!(Wall(-5).to_string(), "1970-01-01T00:00:00.000000000Z");
    }
}
