//! Resource usage of a process, from `/proc`.

// Each bench is its own crate and uses a part.
#![allow(dead_code)]

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// CPU time since the process was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// Of the live threads, in nanoseconds.
    exact: Duration,
    /// User and system time of all threads, including ended ones, in clock ticks.
    ticks: Duration,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident, including the program's pages.
    pub(crate) resident: u64,
    /// Anonymous: heap and stacks.
    pub(crate) anonymous: u64,
    /// Peak, in total or since [`forget_peak`].
    pub(crate) peak: u64,
}

/// Resets the peak of a process's memory.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// Number of voluntary context switches of a process's threads: how often they were woken up.
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
    /// Zero, at the start of a process.
    pub(crate) const NONE: Self = Self { exact: Duration::ZERO, ticks: Duration::ZERO };

    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut exact = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the two reads; its time is then only in the ticks.
            let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let on_cpu = schedstat.split_whitespace().next().context("schedstat is empty")?;
            exact += Duration::from_nanos(on_cpu.parse()?);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields 14 and 15; the second field is the name in parentheses.
        let mut fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().skip(11);
        let mut field = || -> Result<u64> { Ok(fields.next().context("stat is too short")?.parse()?) };
        let ticks = (field()? + field()?) as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Self { exact, ticks: Duration::from_secs_f64(ticks) })
    }

    /// CPU time since `earlier`: exact, or by ticks if these show clearly more because threads have ended.
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
