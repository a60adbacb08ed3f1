//! What a process has used, from `/proc`.

// Each user is a crate of its own and uses a part.
#![allow(dead_code)]

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// CPU time since the process was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// Of the threads that live, to the nanosecond.
    exact: Duration,
    /// User and system time of all threads there ever were, in the kernel's clock ticks.
    ticks: Duration,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// In RAM, with the pages of the program itself.
    pub(crate) resident: u64,
    /// Of that, what no file backs: heap and stacks.
    pub(crate) anonymous: u64,
    /// The most that ever was in RAM, or since [`forget_peak`].
    pub(crate) peak: u64,
}

/// Begins to look for the peak of a process's memory anew.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// How often the threads of a process went to sleep of their own accord, and so were woken up.
pub(crate) fn wake_ups(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.context("no voluntary_ctxt_switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

// === impl Cpu ===

impl Cpu {
    /// When it was started.
    pub(crate) const NONE: Self = Self { exact: Duration::ZERO, ticks: Duration::ZERO };

    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut exact = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the two; its time is then in the ticks alone.
            let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let on_cpu = schedstat.split_whitespace().next().context("schedstat is empty")?;
            exact += Duration::from_nanos(on_cpu.parse()?);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields 14 and 15, of which the name in brackets is the second.
        let mut fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().skip(11);
        let mut field = || -> Result<u64> { Ok(fields.next().context("stat is too short")?.parse()?) };
        let ticks = (field()? + field()?) as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Self { exact, ticks: Duration::from_secs_f64(ticks) })
    }

    /// The time used since `earlier`: exact, or by the ticks where they say clearly more, since threads have ended.
    pub(crate) fn since(&self, earlier: &Cpu) -> Duration {
        let exact = self.exact.saturating_sub(earlier.exact);
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        let tick =
            Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
        if ticks > exact + 2 * tick { ticks } else { exact }
    }
}

// === impl Memory ===

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bytes = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| format!("no {name}"))?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Self { resident: bytes("VmRSS")?, anonymous: bytes("RssAnon")?, peak: bytes("VmHWM")? })
    }
}
