//! Which principals a peer matches.

use super::*;
use crate::config::Value as _;

const OWN_UID: u32 = 900;
const SOCKET_GID: u32 = 2000;

fn process(uid: u32, gid: u32) -> Peer {
    Peer::Process { uid, gid, pid: None }
}

fn network(address: &str, names: Option<&[&str]>) -> Peer {
    let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    Peer::Network { address: address.parse().unwrap(), certificate_names: names }
}

/// Whether a server with these principals and a socket of this mode admits the peer.
fn admits(principals: &str, mode: u32, peer: &Peer) -> bool {
    let rules = AccessRules {
        watch: Principals::parse(principals).unwrap(),
        introspection: Principals::of([Principal::Root]),
        own_uid: OWN_UID,
        socket: Some(SocketBits { gid: SOCKET_GID, mode }),
    };
    rules.rights(peer).watch
}

#[test]
fn each_principal_matches_its_peers_only() {
    let tls = |names: &[&str]| network("10.0.0.1:5", Some(names));
    let spiffe = "spiffe://example.org/agent";
    let cases: [(&str, &[Peer], &[Peer]); 9] = [
        (
            "root",
            &[process(0, 5), process(OWN_UID, 5)],
            &[process(1, 0), network("127.0.0.1:5", None), tls(&[])],
        ),
        ("uid:7", &[process(7, 0)], &[process(0, 7), process(8, 7), network("127.0.0.1:5", None)]),
        ("gid:7", &[process(9, 7)], &[process(7, 9), process(0, 0)]),
        (
            "loopback",
            &[network("127.0.0.1:5", None), network("[::1]:5", None), network("[::ffff:127.9.9.9]:5", None)],
            &[network("10.0.0.1:5", None), network("127.0.0.1:5", Some(&[spiffe])), process(0, 0)],
        ),
        ("tls", &[tls(&[]), tls(&[spiffe])], &[network("127.0.0.1:5", None), process(0, 0)]),
        (
            "tls:spiffe://example.org/agent",
            &[tls(&[spiffe]), tls(&["x", spiffe])],
            &[tls(&[]), tls(&["spiffe://example.org/agent/x"]), network("127.0.0.1:5", None)],
        ),
        ("any", &[process(7, 7), network("10.0.0.1:5", None), tls(&[])], &[]),
        ("uid:1,tls:x", &[process(1, 9), tls(&["x"])], &[process(2, 1), tls(&["y"])]),
        ("group", &[process(7, SOCKET_GID)], &[network("127.0.0.1:5", None), tls(&["group"])]),
    ];
    for (principals, admitted, refused) in cases {
        for peer in admitted {
            assert!(admits(principals, 0o666, peer), "{principals}: {peer}");
        }
        for peer in refused {
            assert!(!admits(principals, 0o666, peer), "{principals}: {peer}");
        }
    }
}

#[test]
fn the_kernel_proves_the_group_unless_others_may_write() {
    let stranger = process(7, 7);
    for mode in [0o660, 0o600, 0o664, 0o665, 0o000] {
        assert!(admits("group", mode, &stranger), "{mode:o}");
    }
    for mode in [0o666, 0o662, 0o777, 0o667] {
        assert!(!admits("group", mode, &stranger), "{mode:o}");
    }
    let socketless = AccessRules {
        watch: Principals::of([Principal::Group]),
        introspection: Principals::of([]),
        own_uid: 0,
        socket: None,
    };
    assert!(!socketless.rights(&stranger).watch);
}

#[test]
fn supplementary_groups_count_if_they_can_be_read() {
    let own = rustix::process::getgroups().unwrap();
    let Some(group) = own.first() else {
        eprintln!("skipped: this process has no supplementary group");
        return;
    };
    let uid = rustix::process::geteuid().as_raw();
    let list = format!("gid:{}", group.as_raw());
    let pid = Some(rustix::process::getpid().as_raw_nonzero().get());
    assert!(admits(&list, 0o666, &Peer::Process { uid, gid: u32::MAX, pid }));
    assert!(!admits(&list, 0o666, &Peer::Process { uid: uid + 1, gid: u32::MAX, pid }), "of another user");
    assert!(!admits(&list, 0o666, &Peer::Process { uid, gid: u32::MAX, pid: None }));
}

#[test]
fn both_rights_are_decided_separately() {
    let rules = AccessRules {
        watch: Principals::of([Principal::Uid(7)]),
        introspection: Principals::of([Principal::Uid(8)]),
        own_uid: 0,
        socket: None,
    };
    assert_eq!(rules.rights(&process(7, 0)), Rights { watch: true, introspection: false });
    assert_eq!(rules.rights(&process(8, 0)), Rights { watch: false, introspection: true });
}

#[test]
fn peers_are_displayed() {
    assert_eq!(Peer::Process { uid: 1, gid: 2, pid: Some(3) }.to_string(), "pid 3 (uid 1, gid 2)");
    assert_eq!(process(1, 2).to_string(), "a process (uid 1, gid 2)");
    assert_eq!(network("[::1]:5", None).to_string(), "[::1]:5");
    assert_eq!(network("1.2.3.4:5", Some(&["a", "b"])).to_string(), "1.2.3.4:5 (a, b)");
    assert_eq!(network("1.2.3.4:5", Some(&[])).to_string(), "1.2.3.4:5 (a certificate without names)");
}

#[test]
fn requests_are_counted_for_each_program() {
    let address = |address: &str| network(address, None).key(7);
    assert_eq!(address("1.2.3.4:5"), address("[::ffff:1.2.3.4]:6"));
    assert_ne!(address("1.2.3.4:5"), address("1.2.3.5:5"));
    assert_eq!(address("127.0.0.1:5"), address("127.9.9.9:6"));
    assert_eq!(address("127.0.0.1:5"), address("[::1]:6"));
    let known = Peer::Process { uid: 1, gid: 2, pid: Some(3) };
    assert_eq!(known.key(1), known.key(2));
    assert_eq!(process(1, 2).key(1), process(1, 2).key(1));
    assert_ne!(process(1, 2).key(1), process(1, 2).key(2));
}

#[test]
fn proc_is_needed_only_for_groups_that_nothing_else_shows() {
    let needs_proc = |principals: &str, mode| {
        let rules = AccessRules {
            watch: Principals::parse(principals).unwrap(),
            introspection: Principals::of([Principal::Root]),
            own_uid: OWN_UID,
            socket: Some(SocketBits { gid: SOCKET_GID, mode }),
        };
        rules.needs_proc()
    };
    assert!(needs_proc("gid:7", 0o660) && needs_proc("root,group", 0o666));
    assert!(!needs_proc("root,group,uid:7,loopback,tls,any", 0o660));
    // Processes of the same PID namespace are not hidden when the tests run as root.
    assert!(!super::group::are_hidden() || rustix::process::geteuid().as_raw() != 0);
}
