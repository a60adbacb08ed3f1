//! Metrics of the process, with the names that all Prometheus clients use. Read from `/proc/self` at a scrape; a
//! value that cannot be read stays unchanged.

use std::{fs, time::Duration};

use prometheus::{Counter, Gauge, IntGauge};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::family::Registry;

pub(super) struct Process {
    cpu: Counter,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start_time: Gauge,
    /// When the machine was booted, in seconds since 1970; `/proc/self/stat` counts from there.
    booted: f64,
}

/// The used fields of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: i64,
    start_ticks: u64,
    virtual_bytes: i64,
    resident_pages: i64,
}

// === impl Process ===

impl Process {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            cpu: registry.seconds_counter(
                "process_cpu_seconds_total",
                "User and system CPU time of plegd, in seconds.",
            ),
            resident: registry.gauge("process_resident_memory_bytes", "Resident memory of plegd, in bytes."),
            virtual_memory: registry
                .gauge("process_virtual_memory_bytes", "Virtual memory of plegd, in bytes."),
            open_fds: registry.gauge("process_open_fds", "File descriptors that plegd has open."),
            max_fds: registry.gauge("process_max_fds", "File descriptors that plegd may have open."),
            threads: registry.gauge("process_threads", "Threads of plegd."),
            start_time: registry.seconds_gauge(
                "process_start_time_seconds",
                "When plegd was started, in seconds since 1970.",
            ),
            booted: boot_time(),
        }
    }

    /// Updates the metrics. Must not run twice concurrently: CPU time is added up.
    pub(super) fn update(&self) {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text)) {
            self.cpu.inc_by((stat.cpu_ticks as f64 / ticks_per_second - self.cpu.get()).max(0.0));
            self.threads.set(stat.threads);
            self.virtual_memory.set(stat.virtual_bytes);
            let page = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
            self.resident.set(stat.resident_pages.saturating_mul(page));
            self.start_time.set(self.booted + stat.start_ticks as f64 / ticks_per_second);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            self.open_fds.set(i64::try_from(open.count().saturating_sub(1)).unwrap_or(i64::MAX));
        }
        let limit = getrlimit(Resource::Nofile).current;
        self.max_fds.set(limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX)));
    }

    /// Resident memory in bytes, and the CPU time used.
    pub(super) fn figures(&self) -> (u64, Duration) {
        let resident = u64::try_from(self.resident.get()).unwrap_or_default();
        (resident, Duration::try_from_secs_f64(self.cpu.get()).unwrap_or_default())
    }
}

/// Boot time in seconds since 1970, as in `/proc/stat`, which a sandboxed service may not be able to read.
fn boot_time() -> f64 {
    let seconds = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    seconds(ClockId::Realtime) - seconds(ClockId::Boottime)
}

// === impl Stat ===

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses, which may contain spaces and parentheses.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        // proc(5) counts from 1, and the first field here is its third.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_ticks: field(14)?.parse::<u64>().ok()?.saturating_add(field(15)?.parse().ok()?),
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            virtual_bytes: field(23)?.parse().ok()?,
            resident_pages: field(24)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_parsed_for_any_process_name() {
        let line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 700 50 0 0 20 0 9 0 12345 67108864 2048 18446744073709551615 1 1";
        let stat = Stat {
            cpu_ticks: 750,
            threads: 9,
            start_ticks: 12345,
            virtual_bytes: 67_108_864,
            resident_pages: 2048,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("42 (short) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn the_boot_time_agrees_with_the_kernel() {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let kernels = stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap();
        let kernels: f64 = kernels.trim().parse().unwrap();
        // The kernel's value is in whole seconds, and each value is computed from two clocks.
        assert!((boot_time() - kernels).abs() < 2.0, "{} {kernels}", boot_time());
    }
}
