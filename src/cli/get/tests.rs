//! Tests of the exact output in all formats.

use clap::{Parser as _, ValueEnum as _};
use proptest::prelude::*;

use super::*;
use crate::{
    cli::{Cli, Command},
    client::mock::Mock,
    clock::Wall,
    print::view,
    printable::{
        char_width,
        tests::{assert_safe, hostile},
        width,
    },
};

const NOON: i64 = 1_800_000_000;

fn at(before_noon: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOON - before_noon, nanos: 0 })
}

fn container(id: &str, name: &str, state: v1::ContainerState, exit: Option<i32>) -> v1::Container {
    v1::Container {
        id: format!("{id}{}", "0".repeat(64 - id.len())),
        sandbox_id: format!("5a{}", "0".repeat(62)),
        name: name.into(),
        attempt: 2,
        state: state.into(),
        created_at: at(125),
        exit_code: exit,
        reason: exit.map_or("", |code| if code == 0 { "Completed" } else { "OOMKilled" }).into(),
        image: "docker.io/library/nginx:1.27".into(),
        ..Default::default()
    }
}

fn pod(uid: &str, namespace: &str, name: &str, containers: Vec<v1::Container>) -> v1::Pod {
    let identity = v1::PodIdentity { uid: uid.into(), namespace: namespace.into(), name: name.into() };
    let sandbox = v1::Sandbox {
        id: format!("5a{}", "0".repeat(62)),
        state: v1::SandboxState::Ready.into(),
        created_at: at(3 * 86_400),
        ..Default::default()
    };
    v1::Pod {
        identity: Some(identity),
        sandboxes: vec![sandbox],
        containers,
        ips: vec!["10.88.0.7".into()],
        labels: [("app".to_owned(), "web".to_owned())].into(),
        sequence: 41,
    }
}

fn node() -> Mock {
    let web = vec![
        container("c0ffee01", "app", v1::ContainerState::Running, None),
        container("beef02", "init", v1::ContainerState::Exited, Some(0)),
    ];
    let killed = vec![container("dead03", "job", v1::ContainerState::Exited, Some(137))];
    Mock::with(vec![
        pod("uid-3", "shop", "web", web),
        pod("uid-1", "batch", "backup-29000001-vftkb", killed),
        pod("8c5f6b1e-7f1a-4c9e-b500-b46b3c04f655", "test", "web", vec![]),
        pod("uid-4", "evil", "a\u{1b}[31mb", vec![]),
    ])
}

/// The output of a command line, and its error.
async fn plegd(mock: &Mock, line: &[&str]) -> (String, String) {
    let command = Cli::try_parse_from(["plegd", "get"].iter().chain(line)).unwrap().command;
    let Some(Command::Get(args)) = command else { panic!() };
    let (clock, _) = Clock::simulated(Wall::from_nanos(NOON * 1_000_000_000));
    let mut out = Vec::new();
    let ended = show(&mock.client(), &args, &clock, &mut out).await;
    (String::from_utf8(out).unwrap(), ended.err().map(|error| error.to_string()).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn pods_are_a_table_that_fits_80_columns() {
    let (text, error) = plegd(&node(), &["pods"]).await;
    assert_eq!(error, "");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(
        text,
        "\
NAMESPACE   NAME                    RUNNING   STATUS      RESTARTS   AGE
batch       backup-29000001-vftkb   0/1       OOMKilled   2          3d
evil        a\\u{1b}[31mb            0/0       Pending     0          3d
shop        web                     1/1       Running     4          3d
test        web                     0/0       Pending     0          3d
"
    );
}

#[tokio::test(start_paused = true)]
async fn the_wide_format_has_more_columns() {
    let (text, _) = plegd(&node(), &["po", "-o", "wide", "--no-headers", "-n", "shop"]).await;
    assert_eq!(text, "shop   web   1/1   Running   4   3d   10.88.0.7   uid-3   5a00000000000\n");
}

#[tokio::test(start_paused = true)]
async fn containers_are_a_table() {
    let (text, _) = plegd(&node(), &["containers"]).await;
    assert_eq!(
        text,
        "\
CONTAINER ID    NAME   STATE     EXIT   ATTEMPT   AGE    POD
dead030000000   job    exited    137    2         2m5s   batch/backup-29000001-vftkb
c0ffee0100000   app    running   -      2         2m5s   shop/web
beef020000000   init   exited    0      2         2m5s   shop/web
"
    );
    let (text, _) = plegd(&node(), &["container", "dead", "-o", "wide", "--no-headers"]).await;
    assert!(text.ends_with("OOMKilled   5a00000000000   docker.io/library/nginx:1.27\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_found_by_name_uid_or_container_id() {
    let mock = node();
    for (words, names) in [
        (&["pod", "shop/web"][..], "shop/web\n"),
        (&["pod", "web", "-n", "shop"], "shop/web\n"),
        (&["pod", "web", "-n", "shop,test"], "shop/web\ntest/web\n"),
        (&["pod", "web"], "shop/web\ntest/web\n"),
        (&["pod", "8c5f6b1e-7f1a-4c9e-b500-b46b3c04f655"], "test/web\n"),
        (&["pod", "c0ffee"], "shop/web\n"),
        (&["pods", "-n", "batch"], "batch/backup-29000001-vftkb\n"),
    ] {
        let (text, error) = plegd(&mock, &[words, &["-o", "name"]].concat()).await;
        assert_eq!((text.as_str(), error.as_str()), (names, ""), "{words:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_objects_are_reported_and_the_others_are_shown() {
    let (text, error) = plegd(&node(), &["pod", "shop/web", "nope", "-o", "name"]).await;
    assert_eq!((text.as_str(), error.as_str()), ("shop/web\n", "there is no pod \"nope\""));
    let (text, error) = plegd(&node(), &["pod", "nope", "-n", "shop"]).await;
    assert_eq!((text.as_str(), error.as_str()), ("", "there is no pod \"nope\" in the namespace shop"));
    let (_, error) = plegd(&node(), &["container", "0123"]).await;
    assert_eq!(error, "there is no container whose id begins with \"0123\"");
    let (_, error) = plegd(&node(), &["pods", "-l", "!!"]).await;
    assert_eq!(error, "label_selector: it cannot be parsed");
}

#[tokio::test(start_paused = true)]
async fn the_flag_fresh_requests_a_read_of_the_pod() {
    let mock = node();
    for name in ["shop/web", "backup-29000001-vftkb"] {
        let (text, _) = plegd(&mock, &["pod", name, "--fresh", "-o", "name"]).await;
        assert!(text.contains(name), "{text}");
    }
    let now = Some(v1::Freshness { now: true, newer_than: None });
    assert_eq!(mock.gets().len(), 2);
    assert!(mock.gets().into_iter().all(|get| get.freshness == now));
}

#[tokio::test(start_paused = true)]
async fn json_has_exactly_these_fields() {
    let (text, _) = plegd(&node(), &["container", "dead03", "-o", "json"]).await;
    let line: String = text.lines().map(str::trim).collect();
    assert_eq!(
        line.replace("\": ", "\":"),
        concat!(
            r#"{"id":"dead030000000000000000000000000000000000000000000000000000000000","#,
            r#""sandbox_id":"5a00000000000000000000000000000000000000000000000000000000000000","#,
            r#""name":"job","attempt":2,"state":"exited","created_at":"2027-01-15T07:57:55.000000000Z","#,
            r#""started_at":null,"finished_at":null,"exit_code":137,"reason":"OOMKilled","message":"","#,
            r#""image":"docker.io/library/nginx:1.27","image_ref":"","labels":{},"annotations":{},"#,
            r#""pod":{"uid":"uid-1","namespace":"batch","name":"backup-29000001-vftkb"}}"#
        )
    );
    let (text, _) = plegd(&node(), &["pods", "-o", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["position"], "0000000000000abc:7");
    assert_eq!(list["pods"].as_array().unwrap().len(), 4);
    assert_eq!(list["pods"][0]["identity"]["name"], "backup-29000001-vftkb");
    assert_eq!(list["pods"][0]["sandboxes"][0]["state"], "ready");
}

#[tokio::test(start_paused = true)]
async fn one_pod_is_printed_as_an_object_not_as_a_list() {
    let (text, _) = plegd(&node(), &["pod", "test/web", "-o", "yaml"]).await;
    assert_eq!(
        text,
        "\
identity:
  uid: 8c5f6b1e-7f1a-4c9e-b500-b46b3c04f655
  namespace: test
  name: web
sandboxes:
- id: 5a00000000000000000000000000000000000000000000000000000000000000
  attempt: 0
  state: ready
  created_at: \"2027-01-12T08:00:00.000000000Z\"
  ips: []
  labels: {}
  annotations: {}
  runtime_handler: \"\"
containers: []
ips:
- \"10.88.0.7\"
labels:
  app: web
sequence: 41
"
    );
}

#[test]
fn contradicting_flags_are_usage_errors() {
    for line in ["pods -A -n a", "pods web -l a=b", "pods --fresh", "nodes", "pods -o xml"] {
        let words = ["plegd", "get"].into_iter().chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_is_running_although_its_start_time_is_an_hour_earlier() {
    // kubernetes#141754: the clock was set back between the attempts.
    let old = v1::Container {
        attempt: 0,
        created_at: at(-3_600),
        started_at: at(-3_600),
        finished_at: at(-3_601),
        ..container("c0", "app", v1::ContainerState::Exited, Some(1))
    };
    let new = v1::Container {
        attempt: 1,
        created_at: at(5),
        started_at: at(5),
        ..container("c1", "app", v1::ContainerState::Running, None)
    };
    let mock = Mock::with(vec![pod("uid-1", "shop", "web-0", vec![new, old])]);
    let (text, _) = plegd(&mock, &["pods", "--no-headers"]).await;
    assert_eq!(text, "shop   web-0   1/1   Running   1   3d\n");
}

#[tokio::test(start_paused = true)]
async fn a_finished_init_container_does_not_complete_the_pod() {
    let init = container("1a", "init", v1::ContainerState::Exited, Some(0));
    let mock = Mock::with(vec![pod("uid-1", "shop", "web", vec![init])]);
    let (text, _) = plegd(&mock, &["pods", "--no-headers"]).await;
    assert_eq!(text, "shop   web   0/1   Waiting   2   3d\n");
}

#[tokio::test(start_paused = true)]
async fn the_daemon_selects_one_of_two_pods_with_the_same_name() {
    let mock = Mock::with(vec![
        pod("uid-a", "shop", "web", vec![]),
        pod("uid-b", "shop", "web", vec![]),
        pod("uid-c", "test", "web", vec![]),
    ]);
    let (text, _) = plegd(&mock, &["pod", "web", "-o", "wide", "--no-headers"]).await;
    assert_eq!(text.lines().count(), 2, "{text}");
    let requested: Vec<_> = mock.gets().into_iter().map(|get| get.pod.unwrap().pod.unwrap()).collect();
    let name = v1::NamespacedName { namespace: "shop".into(), name: "web".into() };
    assert_eq!(requested, [v1::pod_reference::Pod::Name(name)]);
    // A list still has all of them.
    assert_eq!(plegd(&mock, &["pods", "--no-headers"]).await.0.lines().count(), 3);
}

/// A pod with hostile texts in all its fields.
fn hostile_pod() -> impl Strategy<Value = v1::Pod> {
    let labels = || prop::collection::btree_map(hostile(), hostile(), 0..3);
    let container =
        ([(); 8].map(|()| hostile()), labels(), labels()).prop_map(|(texts, labels, annotations)| {
            let [id, sandbox_id, name, reason, message, image, image_ref, _] = texts;
            v1::Container {
                id,
                sandbox_id,
                name,
                reason,
                message,
                image,
                image_ref,
                labels,
                annotations,
                ..Default::default()
            }
        });
    let sandbox =
        ([(); 3].map(|()| hostile()), labels(), labels()).prop_map(|(texts, labels, annotations)| {
            let [id, ip, runtime_handler] = texts;
            v1::Sandbox { id, ips: vec![ip], labels, annotations, runtime_handler, ..Default::default() }
        });
    let lists = (prop::collection::vec(sandbox, 0..2), prop::collection::vec(container, 0..3));
    ([(); 4].map(|()| hostile()), lists, labels()).prop_map(|(texts, (sandboxes, containers), labels)| {
        let [uid, namespace, name, ip] = texts;
        let identity = Some(v1::PodIdentity { uid, namespace, name });
        v1::Pod { identity, sandboxes, containers, ips: vec![ip], labels, ..Default::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_format_prints_control_characters_or_loses_text(pods in prop::collection::vec(hostile_pod(), 1..3)) {
        let containers: Vec<_> = (pods.iter())
            .flat_map(|pod| pod.containers.iter().map(|it| (it.clone(), pod.identity.clone().unwrap())))
            .collect();
        let (count, single) = (containers.len(), pods.len() == 1);
        let written = |found: Found, single: bool, output: Output| {
            let mut out = Vec::new();
            let listed = Listed { found, position: None, single };
            listed.write(output, true, Wall::from_nanos(NOON * 1_000_000_000), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        for &output in Output::value_variants() {
            let of_pods = written(Found::Pods(pods.clone()), single, output);
            let of_containers = written(Found::Containers(containers.clone()), false, output);
            assert_safe(&of_pods);
            assert_safe(&of_containers);
            let lines = [of_pods.lines().count(), of_containers.lines().count()];
            match output {
                Output::Table | Output::Wide => prop_assert_eq!(lines, [pods.len() + 1, count + 1]),
                Output::Name => prop_assert_eq!(lines, [pods.len(), count]),
                Output::Json | Output::Yaml => {
                    let parsed: serde_json::Value = match output {
                        Output::Json => serde_json::from_str(&of_pods).unwrap(),
                        _ => serde_saphyr::from_str(&of_pods).unwrap(),
                    };
                    let first = if single { &parsed } else { &parsed["pods"][0] };
                    prop_assert_eq!(first, &serde_json::to_value(view::Pod::from(&pods[0])).unwrap());
                }
            }
        }
        // The second column starts at the column of its heading.
        let table = written(Found::Pods(pods.clone()), single, Output::Table);
        let heading = table.find("NAME ").unwrap();
        let row = table.lines().nth(1).unwrap();
        let namespace = crate::printable::prefix(row, heading);
        prop_assert!(width(namespace) == heading && namespace.trim_end_matches(|c| char_width(c) == 0).ends_with("   "), "{}", table);
    }
}
