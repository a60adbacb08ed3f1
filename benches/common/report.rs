//! The results, as an aligned table or as JSON lines.

// Each bench is its own crate and uses a part.
#![allow(dead_code)]

use std::{borrow::Cow, fmt, fs, io::Write as _, thread::available_parallelism};

use anyhow::Result;
use serde_json::json;

/// A measured value.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Its name, for people.
    pub(crate) what: String,
    /// Its key, for programs: never changes.
    pub(crate) key: Cow<'static, str>,
    pub(crate) target: Target,
    /// The kubelet's value; empty if there is none.
    pub(crate) kubelet: &'static str,
    pub(crate) unit: Unit,
    pub(crate) measured: f64,
    /// How it was measured, or further details.
    pub(crate) note: String,
}

/// The target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// No target, or not measured at the target's size.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Seconds,
    Milliseconds,
    /// 10^3 bytes.
    Kilobytes,
    /// 10^6 bytes.
    Megabytes,
    PerSecond,
    Microseconds,
    /// A ratio.
    Times,
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Reading>);

/// The conditions of the measurement.
#[derive(Debug)]
pub(crate) struct Conditions {
    runtime: String,
    kernel: String,
    cores: usize,
    load_before: String,
    load_after: String,
}

/// Sorted values, at least one.
#[derive(Debug)]
pub(crate) struct Distribution(Vec<f64>);

/// The column of the kubelet's values.
const KUBELET: usize = 2;

pub(crate) fn load_average() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split_whitespace().next().unwrap_or("unknown").to_owned()
}

// === impl Reading ===

impl Reading {
    pub(crate) fn new(
        key: impl Into<Cow<'static, str>>,
        what: impl Into<String>,
        unit: Unit,
        measured: f64,
    ) -> Self {
        Self {
            what: what.into(),
            key: key.into(),
            target: Target::None,
            kubelet: "",
            unit,
            measured,
            note: String::new(),
        }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target, ..self }
    }

    pub(crate) fn kubelet(self, kubelet: &'static str) -> Self {
        Self { kubelet, ..self }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// In one line, for progress messages.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", self.what, self.unit.show(self.measured))
    }

    fn is_ok(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(least) => Some(self.measured >= least),
            Target::AtMost(most) => Some(self.measured <= most),
            Target::None => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let target = match self.target {
            Target::AtLeast(least) if self.unit == Unit::Count => self.unit.show(least),
            Target::AtLeast(least) => format!("≥ {}", self.unit.show(least)),
            Target::AtMost(most) => format!("≤ {}", self.unit.show(most)),
            Target::None => "-".into(),
        };
        let kubelet = if self.kubelet.is_empty() { "-" } else { self.kubelet };
        let ok = match self.is_ok() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let measured = self.unit.show(self.measured);
        [self.what.clone(), target, kubelet.into(), measured, ok.into(), self.note.clone()]
    }

    fn json(&self) -> serde_json::Value {
        let (least, most) = match self.target {
            Target::AtLeast(least) => (Some(least), None),
            Target::AtMost(most) => (None, Some(most)),
            Target::None => (None, None),
        };
        json!({
            "figure": self.key,
            "what": self.what,
            "unit": self.unit.to_string(),
            "asked_at_least": least,
            "asked_at_most": most,
            "kubelet": (!self.kubelet.is_empty()).then_some(self.kubelet),
            "measured": self.measured,
            "ok": self.is_ok(),
            "note": self.note,
        })
    }
}

// === impl Unit ===

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Count => format!("{value}"),
            Unit::Seconds => format!("{value:.3} s"),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::Kilobytes => format!("{value:.1} kB"),
            Unit::Megabytes => format!("{value:.1} MB"),
            Unit::PerSecond => format!("{value:.0} /s"),
            Unit::Microseconds => format!("{value:.2} µs"),
            Unit::Times => format!("{value:.2} ×"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Count => "count",
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
            Unit::Kilobytes => "kilobytes",
            Unit::Megabytes => "megabytes",
            Unit::PerSecond => "per second",
            Unit::Microseconds => "microseconds",
            Unit::Times => "times",
        })
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn add(&mut self, readings: Vec<Reading>) {
        self.0.extend(readings);
    }

    /// `note` is printed below the table if it has values of the kubelet.
    pub(crate) fn print(&self, conditions: &Conditions, note: &str, as_json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if as_json {
            writeln!(out, "{}", conditions.json())?;
            for reading in &self.0 {
                writeln!(out, "{}", reading.json())?;
            }
            return Ok(());
        }
        let head = ["figure", "target", "kubelet's", "measured", "ok", "note"].map(str::to_owned);
        let rows: Vec<[String; 6]> = [head].into_iter().chain(self.0.iter().map(Reading::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        let quoted = self.0.iter().any(|reading| !reading.kubelet.is_empty());
        writeln!(out, "\n{conditions}\n")?;
        for row in &rows {
            let shown = row.iter().zip(widths).enumerate().filter(|(column, _)| quoted || *column != KUBELET);
            let cells = shown.map(|(column, (cell, width))| match column {
                0 | 5 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        if quoted {
            writeln!(out, "\n{note}")?;
        }
        Ok(())
    }
}

// === impl Conditions ===

impl Conditions {
    pub(crate) fn now(runtime: String, load_before: String) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            runtime,
            kernel: kernel.trim().to_owned(),
            cores: available_parallelism().map_or(0, Into::into),
            load_before,
            load_after: load_average(),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "plegd": plegd::version::VERSION,
            "runtime": self.runtime,
            "kernel": self.kernel,
            "cores": self.cores,
            "load_before": self.load_before,
            "load_after": self.load_after,
        })
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runtime, kernel, cores, load_before, load_after } = self;
        let plegd = plegd::version::VERSION;
        write!(
            f,
            "plegd {plegd} on {runtime}, Linux {kernel}, {cores} cores, load {load_before} before and {load_after} after"
        )
    }
}

// === impl Distribution ===

impl Distribution {
    /// None without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The quantile by nearest rank.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}
