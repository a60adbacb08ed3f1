//! Addresses, endpoints, positions, versions and configuration values: parsing and printing round-trip.

use std::{fmt::Debug, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use plegd::{
    api::access::Principals,
    client::Address,
    config::{Bytes, EventTypes, FileMode, Filter, LogFormat, PrintFormat, SocketGroup, Value},
    cri::{
        Endpoint,
        quirks::{Quirks, RuntimeVersion},
    },
    model::Position,
};

/// Parses the text as each type.
pub fn check(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    round_trips::<Address>(text);
    round_trips::<Endpoint>(text);
    round_trips::<Position>(text);
    if let Some(version) = RuntimeVersion::parse(text) {
        assert_eq!(RuntimeVersion::parse(&version.to_string()), Some(version), "{text:?}");
    }
    let (name, version) = text.split_once(' ').unwrap_or(("containerd", text));
    let quirks = Quirks::of(name, version);
    if RuntimeVersion::parse(version).is_none() {
        assert_eq!(quirks, Quirks::careful(), "{text:?}");
    }
    value::<bool>(text);
    value::<usize>(text);
    value::<f64>(text);
    value::<Duration>(text);
    value::<String>(text);
    value::<Bytes>(text);
    value::<Filter>(text);
    value::<EventTypes>(text);
    value::<LogFormat>(text);
    value::<PrintFormat>(text);
    value::<FileMode>(text);
    value::<SocketGroup>(text);
    value::<Principals>(text);
    value::<Option<SocketAddr>>(text);
    value::<Option<PathBuf>>(text);
    value::<Option<Endpoint>>(text);
}

/// One example of each type.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_texts(&[
        "unix:///run/plegd/plegd.sock",
        "http://[::1]:7535",
        "unix:/tmp/x",
        "1f2e3d4c5b6a7988:42",
        "containerd v2.1.4",
        "cri-o 1.27.0-rc.1",
        "65_536",
        "1m 30s 5ms",
        "16MiB",
        "info,plegd::relister=debug, h2 = off",
        "started,died, sync",
        "0660",
        "root,uid:1000,gid:5,tls:spiffe://example.org/x",
        "-0.5e-3",
        "off",
    ])
}

fn round_trips<T: FromStr<Err: Debug> + ToString + PartialEq + Debug>(text: &str) {
    if let Ok(it) = text.parse::<T>() {
        let written = it.to_string();
        assert_eq!(written.parse::<T>().ok(), Some(it), "{text:?} is written {written:?}");
    }
}

fn value<T: Value + PartialEq + Debug>(text: &str) {
    match T::parse(text) {
        Ok(it) => assert_eq!(T::parse(&it.text()), Ok(it), "{text:?}"),
        Err(why) => assert!(!why.is_empty(), "{text:?} is refused without a reason"),
    }
}
