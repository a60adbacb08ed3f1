//! The types of values, with their notation, parser and output.

mod access;

pub use self::access::{FileMode, OptionalDirectory, SocketGroup, StateDirectory};

use std::{net::SocketAddr, time::Duration};

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{Form, error::nearest};
use crate::{cri::Endpoint, model::EventType};

/// A value of the configuration.
pub trait Value: Sized {
    /// The form in a file.
    const FORM: Form;
    /// The expected notation, for messages.
    const WANTED: &'static str;

    /// Parses a value. The error is a clause with the reason, without the text itself.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value in the notation that [`Value::parse`] reads.
    fn text(&self) -> String;
}

/// A size in bytes, written with its unit: `16MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub usize);

/// Log levels, for all or by module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter(String);

/// A set of event types; never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventTypes(Vec<EventType>);

macro_rules! choice {
    ($(#[doc = $doc:literal])+ $name:ident, $wanted:literal { $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl Value for $name {
            const FORM: Form = Form::Text;
            const WANTED: &'static str = $wanted;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(unknown(other, &[$($text),+])),
                }
            }

            fn text(&self) -> String {
                match self {
                    $(Self::$variant => $text.into(),)+
                }
            }
        }
    };
}

choice! {
    /// The format of the log.
    LogFormat, "auto, text, json or journald" {
        /// Depends on the type of stderr.
        Auto = "auto",
        /// Human-readable text.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
        /// With priorities, for systemd's journal.
        Journald = "journald",
    }
}

choice! {
    /// The format of printed events.
    PrintFormat, "none, table or json" {
        /// Events are not printed.
        None = "none",
        /// A human-readable table.
        Table = "table",
        /// One JSON object per line.
        Json = "json",
    }
}

choice! {
    /// The clients to which the page at `/` is served.
    PageAccess, "off, loopback or on" {
        /// No client.
        Off = "off",
        /// Browsers on this machine.
        Loopback = "loopback",
        /// Any client that reaches the HTTP address.
        On = "on",
    }
}

choice! {
    /// The policy if the runtime delivers each event to only one of several subscribers.
    SharedStream, "yield or compete" {
        /// Close the stream, and poll, once another subscriber is detected.
        Yield = "yield",
        /// Keep the stream.
        Compete = "compete",
    }
}

fn unknown(text: &str, known: &[&str]) -> String {
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("unknown value; did you mean {near:?}"),
        None => "unknown value".into(),
    }
}

// === impl Value for std's types ===

impl Value for bool {
    const FORM: Form = Form::Boolean;
    const WANTED: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "it is neither true nor false".into())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    const FORM: Form = Form::Integer;
    const WANTED: &'static str = "an integer";

    fn parse(text: &str) -> Result<Self, String> {
        use std::num::IntErrorKind;
        // TOML allows 65_536. The other layers do too, so that a value can be copied between them.
        let digits: String = text.chars().filter(|&c| c != '_').collect();
        digits.parse::<usize>().map_err(|error| match error.kind() {
            IntErrorKind::PosOverflow => "it is too large".into(),
            _ if digits.parse::<i128>().is_ok() => "it is too small".into(),
            _ => "it is not an integer".into(),
        })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for f64 {
    const FORM: Form = Form::Number;
    const WANTED: &'static str = "a number";

    fn parse(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.parse().ok();
        number.filter(|number| number.is_finite()).ok_or_else(|| "it is not a number".into())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"a duration with its unit, such as "500ms" or "30s""#;

    fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err("the unit is missing".into());
        }
        if text.starts_with('-') {
            return Err("a duration cannot be negative".into());
        }
        humantime::parse_duration(text).map_err(|_| "it is not a duration".into())
    }

    fn text(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Value for Option<SocketAddr> {
    const FORM: Form = Form::Text;
    const WANTED: &'static str =
        r#"an IP address and a port, such as "127.0.0.1:7534" or "[::1]:7534", or "off""#;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "off" {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| match text.rsplit_once(':') {
            _ if text.parse::<std::net::IpAddr>().is_ok() => "the port is missing".into(),
            Some(("", _)) => "the IP address is missing; use 0.0.0.0 or [::] for all addresses".into(),
            Some((host, port)) if port.parse::<u16>().is_ok() => format!("{host:?} is not an IP address"),
            Some((_, port)) => format!("{port:?} is not a port (0 to 65535)"),
            None => "it is not an address".into(),
        })
    }

    fn text(&self) -> String {
        self.map_or_else(|| "off".into(), |address| address.to_string())
    }
}

// === impl Bytes ===

impl Bytes {
    const UNITS: [(&'static str, usize); 4] =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// A size in MiB.
    pub const fn mib(count: usize) -> Self {
        Self(count << 20)
    }
}

impl Value for Bytes {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"a size with its unit (B, KiB, MiB or GiB), such as "16MiB""#;

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) =
            text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len()));
        let number = usize::parse(number).map_err(|_| "it is not a size")?;
        let unit = unit.trim();
        if unit.is_empty() {
            return Err("the unit is missing".into());
        }
        let (_, factor) = Self::UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("{unit:?} is not a unit"))?;
        number.checked_mul(*factor).map(Self).ok_or_else(|| "it is too large".into())
    }

    fn text(&self) -> String {
        let fits = Self::UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        fits.map_or_else(|| "0B".into(), |(unit, factor)| format!("{}{unit}", self.0 / factor))
    }
}

impl Value for Option<Endpoint> {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"a socket such as "unix:///run/containerd/containerd.sock" or its absolute path, or "" to detect it"#;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
    }

    fn text(&self) -> String {
        self.as_ref().map(Endpoint::to_string).unwrap_or_default()
    }
}

// === impl Filter ===

impl Filter {
    const LEVELS: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    /// `info` for everything.
    pub fn info() -> Self {
        Self("info".into())
    }

    /// The filter for the log's subscriber. A parsed value is always valid; the fallback is `info`.
    pub fn to_targets(&self) -> Targets {
        Self::targets(&self.0).unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO))
    }

    fn targets(text: &str) -> Result<Targets, String> {
        text.split(',').map(str::trim).try_fold(Targets::new(), |targets, directive| {
            match directive.split_once('=') {
                None => Ok(targets.with_default(Self::level(directive)?)),
                Some((module, level)) => Ok(targets.with_target(Self::module(module)?, Self::level(level)?)),
            }
        })
    }

    fn level(word: &str) -> Result<LevelFilter, String> {
        let level = word.trim().to_ascii_lowercase();
        // The parser of levels would accept numbers too.
        match level.parse() {
            Ok(parsed) if Self::LEVELS.contains(&level.as_str()) => Ok(parsed),
            _ => Err(match nearest(&level, Self::LEVELS) {
                Some(near) => format!("{level:?} is not a level; did you mean {near:?}"),
                None => format!("{level:?} is not a level"),
            }),
        }
    }

    fn module(word: &str) -> Result<&str, String> {
        let module = word.trim();
        let named = module.split("::").all(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        if named { Ok(module) } else { Err(format!("{module:?} is not a module")) }
    }
}

impl Value for Filter {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"off, error, warn, info, debug or trace, for all or by module, such as "info,plegd::relister=debug""#;

    fn parse(text: &str) -> Result<Self, String> {
        Self::targets(text).map(|_| Self(text.into()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

// === impl EventTypes ===

impl EventTypes {
    const NAMES: [(&'static str, EventType); 5] = [
        ("started", EventType::ContainerStarted),
        ("died", EventType::ContainerDied),
        ("removed", EventType::ContainerRemoved),
        ("changed", EventType::ContainerChanged),
        ("sync", EventType::PodSync),
    ];

    /// The three types that the kubelet's PLEG sends: started, died and removed.
    pub fn kubelet() -> Self {
        Self(vec![EventType::ContainerStarted, EventType::ContainerDied, EventType::ContainerRemoved])
    }

    /// All types.
    pub fn all() -> Self {
        Self(EventType::ALL.to_vec())
    }

    /// The types of the set.
    pub fn iter(&self) -> impl Iterator<Item = EventType> + '_ {
        self.0.iter().copied()
    }

    /// Whether the set contains this type.
    pub fn contains(&self, kind: EventType) -> bool {
        self.0.contains(&kind)
    }
}

impl Value for EventTypes {
    const FORM: Form = Form::List;
    const WANTED: &'static str = "started, died, removed, changed and sync, separated by commas, or all";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(r#"the list is empty; to print no events, set print.format to "none""#.into());
        }
        let mut kinds = Vec::new();
        for name in text.split(',').map(str::trim) {
            match Self::NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, kind)) => kinds.push(*kind),
                None if name == "all" => kinds.extend(EventType::ALL),
                None => {
                    return Err(match nearest(name, Self::NAMES.map(|(known, _)| known)) {
                        Some(near) => format!("{name:?} is not an event; did you mean {near:?}"),
                        None => format!("{name:?} is not an event"),
                    });
                }
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        Ok(Self(kinds))
    }

    fn text(&self) -> String {
        let names: Vec<&str> =
            Self::NAMES.iter().filter(|(_, kind)| self.contains(*kind)).map(|(name, _)| *name).collect();
        if names.len() == Self::NAMES.len() { "all".into() } else { names.join(",") }
    }
}
