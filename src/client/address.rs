//! The address at which plegd listens.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::socket_path;

/// The default socket of plegd.
pub const DEFAULT_SOCKET: &str = "/run/plegd/plegd.sock";

/// The address of a plegd.
///
/// Written as `unix:///run/plegd/plegd.sock`, as the absolute path of a socket, or as `http://127.0.0.1:7535`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A UNIX socket.
    Unix(PathBuf),
    /// TCP on a loopback address, in plain text.
    Loopback {
        /// A loopback address or `localhost`; an IPv6 address without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A text is not a valid address. The field is a clause with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; an address is unix:///run/plegd/plegd.sock, the absolute path of a socket, or http://127.0.0.1:PORT"
)]
pub struct ParseAddressError(String);

// === impl Address ===

impl Address {
    /// The socket's path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Unix(path) => Some(path),
            Address::Loopback { .. } => None,
        }
    }

    fn unix(path: &str) -> Result<Self, String> {
        socket_path::check(path)?;
        Ok(Self::Unix(path.into()))
    }

    fn loopback(authority: &str) -> Result<Self, String> {
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let Some((host, port)) = authority.rsplit_once(':') else { return Err("the port is missing".into()) };
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(format!("{port:?} is not a port (1 to 65535)")),
            Ok(port) => port,
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            return Err(format!(
                "{host:?} is not a loopback address; plain text is allowed on loopback only"
            ));
        }
        Ok(Self::Loopback { host: host.into(), port })
    }
}

impl Default for Address {
    /// [`DEFAULT_SOCKET`].
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Loopback { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Address::Loopback { host, port } => write!(f, "http://{host}:{port}"),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        match text.split_once("://") {
            Some(("unix", path)) => Self::unix(path),
            Some(("http", authority)) => Self::loopback(authority),
            Some(("https", _)) => Err("https is not supported yet".into()),
            Some((scheme, _)) => Err(format!("{scheme:?} is not supported")),
            // `unix:/run/x.sock` is an old spelling that gRPC and crictl still accept.
            None => Self::unix(text.strip_prefix("unix:").unwrap_or(text)),
        }
        .map_err(ParseAddressError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_parsed_from_its_notation() {
        for (text, shown) in [
            ("unix:///run/plegd/plegd.sock", "unix:///run/plegd/plegd.sock"),
            ("/run/plegd/plegd.sock", "unix:///run/plegd/plegd.sock"),
            ("unix:/tmp/x", "unix:///tmp/x"),
            ("http://127.0.0.1:7535", "http://127.0.0.1:7535"),
            ("http://localhost:1/", "http://localhost:1"),
            ("http://[::1]:7535", "http://[::1]:7535"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        assert_eq!(Address::default().to_string(), "unix:///run/plegd/plegd.sock");
    }

    #[test]
    fn an_invalid_address_is_rejected_with_the_reason() {
        for (text, why) in [
            ("", "is not absolute"),
            ("run/plegd.sock", "is not absolute"),
            ("unix://plegd.sock", "is not absolute"),
            ("/run/plegd/", "a directory"),
            ("tcp://127.0.0.1:1", "\"tcp\" is not supported"),
            ("https://127.0.0.1:1", "https is not supported yet"),
            ("http://127.0.0.1", "the port is missing"),
            ("http://127.0.0.1:0", "\"0\" is not a port"),
            ("http://127.0.0.1:x", "\"x\" is not a port"),
            ("http://192.0.2.1:80", "\"192.0.2.1\" is not a loopback address"),
            ("http://example.com:80", "\"example.com\" is not a loopback address"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("; an address is unix:///run"), "{text}: {error}");
        }
        let long = format!("/{}", "x".repeat(107));
        assert!(long.parse::<Address>().unwrap_err().to_string().contains("longer than the 107 bytes"));
    }
}
