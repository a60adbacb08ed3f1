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
/// slewing, is a step. A smaller step is not noticed: a timestamp from before it is wrong by as much.
pub const STEP_MARGIN: Duration = Duration::from_millis(50);

/// Smaller changes of the offset are ignored.
const FOLLOWED: Duration = Duration::from_micros(100);

/// The first value of a clock. Moments up to a week before its creation, such as those of old events, are therefore representable.
const START: Duration = Duration::from_secs(7 * 86_400);

/// The monotonic moment of a runtime's wall-clock timestamp, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamped {
    /// At this moment, within [`STEP_MARGIN`].
    At(Mono),
    /// Before the last step of the wall clock, which was noticed at this moment.
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
    looked: AtomicU64,
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
    /// When the step before it was noticed; `None` for the first era.
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
            looked: AtomicU64::new(0),
            steps: AtomicU64::new(0),
        };
        let (mono, wall) = inner.read();
        let offset = wall.0.saturating_sub_unsigned(mono.0);
        inner.era.store(Arc::new(Era { offset, first: (offset, mono), began: None }));
        inner.looked.store(mono.0, Ordering::Relaxed);
        Self(Arc::new(inner))
    }

    /// Now, on the monotonic clock.
    pub fn now(&self) -> Mono {
        self.0.monotonic()
    }

    /// Now, on both clocks. Notices a step of the wall clock.
    pub fn now_both(&self) -> (Mono, Wall) {
        let (mono, wall) = self.0.read();
        let offset = wall.0.saturating_sub_unsigned(mono.0);
        let era = self.0.era.load();
        let last_look = Mono(self.0.looked.swap(mono.0, Ordering::Relaxed));
        if era.is_step(offset, mono, last_look) {
            self.0.era.store(Arc::new(Era { offset, first: (offset, mono), began: Some(mono) }));
            self.0.steps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                by_seconds = (offset as f64 - era.offset as f64) / 1e9,
                "The wall clock was stepped; runtime stamps from before are not compared with later ones."
            );
        } else if offset.abs_diff(era.offset) > nanos(FOLLOWED) {
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

    /// The moment at which so much time had passed since the boot; the earliest moment if that is more than a week before this clock was
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
                let since_made = nanos(mono.since(Mono::ZERO + START));
                let unstepped = start.0.saturating_add_unsigned(since_made);
                Wall(unstepped.saturating_add(stepped_by.load(Ordering::Relaxed)))
            }
        };
        (mono, wall)
    }
}

// === impl Era ===

impl Era {
    /// Whether an offset differs by more than slewing allows from the offset at the last read or at the first one: neither one large change
    /// is slewing, nor many small ones at once.
    fn is_step(&self, offset: i64, now: Mono, last_look: Mono) -> bool {
        let differs =
            |from: i64, since: Mono| offset.abs_diff(from) > nanos(STEP_MARGIN + slewed_in(now.since(since)));
        differs(self.offset, last_look) || differs(self.first.0, self.first.1)
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
    async fn a_stamp_maps_to_the_moment_it_was_made() {
        let (clock, _) = Clock::simulated(NOON);
        pass(10).await;
        let (made, stamp) = clock.now_both();
        pass(5).await;
        assert_eq!(clock.to_monotonic(stamp, clock.now()), Stamped::At(made));
        assert_eq!(clock.steps(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stamp_from_before_the_clock_was_made_has_its_place() {
        let (clock, _) = Clock::simulated(NOON);
        let made = clock.now();
        let placed = |seconds| clock.to_monotonic(Wall(NOON.0 - seconds * SECOND), made);
        assert_eq!(placed(300), Stamped::At(made - Duration::from_secs(300)));
        assert_eq!(placed(365 * 86_400), Stamped::At(Mono::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_from_both_sides_of_a_step_are_not_compared() {
        for step in [-3600 * SECOND, -SECOND, SECOND, 3600 * SECOND, 40 * 365 * 86_400 * SECOND] {
            let (clock, hand) = Clock::simulated(NOON);
            pass(100).await;
            let before = clock.wall();
            pass(10).await;
            hand.step(step);
            let (stepped, after) = clock.now_both();
            assert_eq!(clock.steps(), 1, "step of {step} ns");
            pass(1).await;
            assert_eq!(clock.to_monotonic(after, clock.now()), Stamped::At(stepped));
            match clock.to_monotonic(before, clock.now()) {
                Stamped::BeforeStep(at) => assert_eq!(at, stepped),
                // After a step back it may map to a moment after the step, but never to one that is older than it is.
                Stamped::At(_) | Stamped::Unknown => assert!(step < 0, "step of {step} ns"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_says_nothing() {
        let (clock, _) = Clock::simulated(NOON);
        pass(1).await;
        let now = clock.now();
        let in_seconds = NOON.0 / SECOND;
        for nonsense in
            [0, -1, i64::MIN, i64::MAX, -6_795_364_578_871_345_152, in_seconds, NOON.0 + 3600 * SECOND]
        {
            assert_eq!(clock.to_monotonic(Wall(nonsense), now), Stamped::Unknown, "{nonsense}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slewing_is_no_step_until_it_adds_up() {
        let (clock, hand) = Clock::simulated(NOON);
        for _ in 0..5 {
            hand.step(9_000_000);
            clock.wall();
        }
        assert_eq!(clock.steps(), 0);
        hand.step(9_000_000);
        clock.wall();
        assert_eq!(clock.steps(), 1);
    }

    /// 500 ppm for three hours.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_slewed_for_hours_is_followed() {
        for ppm in [-500, 500, 900] {
            let (clock, hand) = Clock::simulated(NOON);
            for _ in 0..180 {
                pass(60).await;
                hand.step(60 * SECOND * ppm / 1_000_000);
                clock.wall();
            }
            assert_eq!(clock.steps(), 0, "{ppm} ppm");
            let (made, stamp) = clock.now_both();
            let Stamped::At(at) = clock.to_monotonic(stamp, made) else { panic!("it has its place") };
            assert!(at.since(made).max(made.since(at)) <= FOLLOWED, "{ppm} ppm");
            // A step is noticed on a slewed clock too.
            hand.step(SECOND);
            clock.wall();
            assert_eq!(clock.steps(), 1, "{ppm} ppm");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_is_too_small_to_be_noticed_is_followed() {
        let (clock, hand) = Clock::simulated(NOON);
        for step in [1, -10, 30, -40] {
            pass(30).await;
            hand.step(step * 1_000_000);
            let (made, stamp) = clock.now_both();
            assert_eq!(clock.to_monotonic(stamp, made), Stamped::At(made), "{step} ms");
        }
        assert_eq!(clock.steps(), 0);
    }

    #[test]
    fn wall_time_is_written_as_rfc_3339() {
        assert_eq!(Wall(1_800_000_000_123_456_789).to_string(), "2027-01-15T08:00:00.123456789Z");
        assert_eq!(Wall(-5).to_string(), "1970-01-01T00:00:00.000000000Z");
    }
}
