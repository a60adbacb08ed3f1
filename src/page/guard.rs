//! The access rules of the page.
//!
//! A check of the peer's address is not enough. A foreign page can let its own host name resolve to 127.0.0.1, and the browser then sends
//! requests to plegd from this machine (DNS rebinding). Such a request contains the foreign host name. So with access for loopback only,
//! the host must be an IP address or `localhost`. An attacker can own neither.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header, uri::Authority};

use crate::config::PageAccess;

/// The reason why a client may not see the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The client is not on this machine.
    #[error(
        "This page is available only to browsers on the same machine. Use an SSH tunnel or kubectl port-forward, or set \
         http.page = \"on\" to allow every client of this address."
    )]
    NotLoopback,
    /// The requested host may be a foreign name for this machine.
    #[error(
        "This page is available only under an IP address or the name localhost: open http://localhost with plegd's port."
    )]
    ForeignHost,
}

/// Whether a client with this address and these headers may see the page.
pub(super) fn admits(
    access: PageAccess,
    from: Option<SocketAddr>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    match access {
        PageAccess::On => Ok(()),
        // Does not occur: if the page is off, it has no route.
        PageAccess::Off => Err(Refusal::NotLoopback),
        PageAccess::Loopback if !from.is_some_and(|from| from.ip().to_canonical().is_loopback()) => {
            Err(Refusal::NotLoopback)
        }
        PageAccess::Loopback if !names_this_machine(headers) => Err(Refusal::ForeignHost),
        PageAccess::Loopback => Ok(()),
    }
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Whether the client accepts HTML, as a browser does.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
}

/// Whether the request comes from plegd's own page, as far as the browser reports it. Another page could not read the answer, but could
/// use up the page limit.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().unwrap())])
    }

    fn from(address: &str) -> Option<SocketAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn loopback_admits_only_this_machine_under_its_own_name() {
        let admits = |peer, headers: &HeaderMap| admits(PageAccess::Loopback, peer, headers);
        for own in
            ["localhost", "LOCALHOST:7534", "127.0.0.1", "127.0.0.1:7534", "[::1]:7534", "10.0.0.7:7534"]
        {
            for peer in ["127.0.0.1:5", "127.8.9.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
                assert_eq!(admits(from(peer), &host(own)), Ok(()), "{own} from {peer}");
            }
            for peer in ["10.0.0.7:5", "[::ffff:10.0.0.7]:5", "[fe80::1]:5"] {
                assert_eq!(admits(from(peer), &host(own)), Err(Refusal::NotLoopback), "{own} from {peer}");
            }
        }
        for foreign in [
            "evil.example",
            "evil.example:7534",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "",
            "node-1:7534",
        ] {
            assert_eq!(admits(from("127.0.0.1:5"), &host(foreign)), Err(Refusal::ForeignHost), "{foreign}");
        }
        assert_eq!(admits(from("127.0.0.1:5"), &HeaderMap::new()), Err(Refusal::ForeignHost));
        assert_eq!(admits(None, &host("localhost")), Err(Refusal::NotLoopback));
        let mut two = host("localhost");
        two.append(header::HOST, "evil.example".parse().unwrap());
        assert_eq!(admits(from("127.0.0.1:5"), &two), Err(Refusal::ForeignHost));
    }

    #[test]
    fn on_admits_every_client_and_off_admits_none() {
        assert_eq!(admits(PageAccess::On, from("10.0.0.7:5"), &host("node-1")), Ok(()));
        assert!(admits(PageAccess::Off, from("127.0.0.1:5"), &host("localhost")).is_err());
    }

    #[test]
    fn curl_is_not_a_browser() {
        let accepts =
            |value: &str| is_browser(&HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())]));
        assert!(accepts("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(accepts("application/xml, Text/HTML;q=0.9"));
        assert!(!accepts("*/*") && !accepts("text/plain") && !is_browser(&HeaderMap::new()));
    }

    #[test]
    fn requests_of_another_site_are_refused_if_the_browser_reports_the_site() {
        let ours = |value: &str| {
            is_same_origin(&HeaderMap::from_iter([(
                "sec-fetch-site".parse().unwrap(),
                value.parse().unwrap(),
            )]))
        };
        assert!(ours("same-origin") && ours("none") && is_same_origin(&HeaderMap::new()));
        assert!(!ours("cross-site") && !ours("same-site"));
    }
}
