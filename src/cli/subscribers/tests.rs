//! Tests of the exact tables.

use super::{
    list::{List, table, wide},
    *,
};
use crate::{
    cli::status::tests::{now, subscriber},
    print::text::Paint,
    v1::{Detail, Network, Peer, Position, SlowPolicy, peer},
};

fn three() -> ListSubscribersResponse {
    let mut remote = subscriber(12, "shipper\u{1b}[2J-of-logs", 9_000);
    let names = vec!["shipper.logs".to_owned()];
    remote.peer = Some(Peer {
        peer: Some(peer::Peer::Network(Network {
            address: "10.0.3.17:51234".into(),
            certificate_names: names,
        })),
    });
    (remote.gaps, remote.gaps_of_epoch) = (5, 3);
    remote.filter = "namespaces=kube-system,default labels=app=web,tier!=test types=died".into();
    remote.detail = Detail::Pod.into();
    remote.slow_policy = SlowPolicy::LatestPerPod.into();
    let subscribers = vec![subscriber(3, "kubelet", 0), subscriber(4, "", 12), remote];
    ListSubscribersResponse {
        subscribers,
        head: Some(Position { epoch: 0x1234_5678_9abc, sequence: 12_365 }),
    }
}

#[test]
fn the_table_fits_on_80_columns() {
    let text = table(&three(), now(), 80, Paint(false));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(
        text,
        "\
ID NAME       PEER            SINCE  POSITION   LAG EVENTS   BYTES GAPS FILTER
 3 kubelet    0/4242          2h 13m    12365     0 12,000 2.3 MiB    0 -
 4 -          0/4242          2h 13m    12353    12 12,000 2.3 MiB    0 -
12 shipper\\u… 10.0.3.17:51234 2h 13m     3365 9,000 12,000 2.3 MiB    2 namespa…
"
    );
    assert_eq!(table(&ListSubscribersResponse::default(), now(), 80, Paint(false)), "No subscribers.\n");
}

#[test]
fn the_wide_table_has_all_columns_and_cuts_no_text() {
    assert_eq!(
        wide(&three(), Paint(false)),
        "\
ID NAME                     PEER                           SINCE                POSITION                 LAG EVENTS   BYTES GAPS RESTARTS DETAIL IF SLOW        FILTER
 3 kubelet                  uid=0,gid=0,pid=4242           2027-01-15 05:47:00Z 0000123456789abc:12365     0 12,000 2.3 MiB    0        0 event  resync         -
 4 -                        uid=0,gid=0,pid=4242           2027-01-15 05:47:00Z 0000123456789abc:12353    12 12,000 2.3 MiB    0        0 event  resync         -
12 shipper\\u{1b}[2J-of-logs 10.0.3.17:51234 (shipper.logs) 2027-01-15 05:47:00Z 0000123456789abc:3365  9,000 12,000 2.3 MiB    2        3 pod    latest_per_pod namespaces=kube-system,default labels=app=web,tier!=test types=died
"
    );
}

#[test]
fn the_json_has_the_fields_of_the_api() {
    let json = serde_json::to_value(List::from(&three())).unwrap();
    assert_eq!(json["head"], "0000123456789abc:12365");
    let [local, _, remote] = json["subscribers"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(local["peer"], serde_json::json!({ "process": { "uid": 0, "gid": 0, "pid": 4242 } }));
    assert_eq!(remote["peer"]["network"]["certificate_names"][0], "shipper.logs");
    assert_eq!(remote["slow_policy"], "latest_per_pod");
    assert_eq!(remote["lag"], 9_000);
    assert_eq!((&remote["gaps"], &remote["gaps_of_epoch"]), (&5.into(), &3.into()));
}

#[test]
fn the_socket_flag_is_accepted_before_and_after_the_action() {
    use clap::Parser as _;

    use crate::cli::{Cli, Command as Verb};
    for line in ["plegd subscribers -s /a disconnect 7", "plegd subscribers disconnect 7 -s /a"] {
        let Some(Verb::Subscribers(args)) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!()
        };
        assert_eq!(args.connection.socket, "/a".parse().unwrap(), "{line}");
        assert!(matches!(args.command, Some(Command::Disconnect(Disconnect { id: 7 }))));
    }
}
