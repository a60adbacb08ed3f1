//! When the file is read again, and how plegd reports it.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::{binary::DEADLINE, node::Node};

const SUCCESSFUL: &str = "plegd_config_last_reload_successful";
const SUCCEEDED_AT: &str = "plegd_config_last_reload_success_timestamp_seconds";
const AWAITING_RESTART: &str = "plegd_config_keys_awaiting_restart";

#[tokio::test]
async fn sighup_applies_live_keys_and_names_those_that_need_a_restart() {
    let node = Node::start("[relist]\nmax_period = \"30s\"\n").await;
    assert_eq!(node.metric(SUCCESSFUL).await, 1.0);
    let began = node.metric(SUCCEEDED_AT).await;
    assert!(began > 1.7e9, "the start counts as a success, and was at {began}");

    let text = "[relist]\nmax_period = \"20s\"\n[journal]\nevents = 100\nbytes = \"2MiB\"\n";
    node.reload(text, "success").await;
    let daemon = &node.daemon;
    let path = node.file().display().to_string();
    let place = format!("{path}:2");
    let changed = [
        "INFO",
        "Configuration key changed.",
        r#"key="relist.max_period""#,
        r#"old="30s""#,
        r#"new="20s""#,
        &place,
    ];
    daemon.wait_for_log(&changed).await.unwrap();
    let waits = [
        "WARN",
        "Configuration key requires a restart.",
        r#"key="journal.events""#,
        r#"old="65536""#,
        r#"new="100""#,
    ];
    daemon.wait_for_log(&waits).await.unwrap();
    daemon
        .wait_for_log(&["WARN", r#"keys="journal.events, journal.bytes""#, "until plegd is restarted"])
        .await
        .unwrap();
    assert_eq!((node.metric(SUCCESSFUL).await, node.metric(AWAITING_RESTART).await), (1.0, 2.0));
    assert_eq!(node.status().await.config_keys_awaiting_restart, 2);
    assert!(node.metric(SUCCEEDED_AT).await > began);
    let in_force = node.in_force().await;
    assert!(in_force.contains("\nmax_period = \"20s\"\n"), "{in_force}");
    assert!(in_force.contains("\nevents = 65536\n"), "{in_force}");
    // `plegd config running` prints the same configuration.
    let printed = node.prints_running().await;
    assert!(printed.ends_with(&in_force), "{printed}");
    assert!(printed.contains(&format!("\n# relist.max_period = \"20s\", set by {place}.\n")), "{printed}");

    // Reverted before the restart: no key waits any more.
    node.reload("[relist]\nmax_period = \"20s\"\n", "unchanged").await;
    daemon.wait_for_log(&["INFO", "no changes", r#"cause="SIGHUP""#]).await.unwrap();
    assert_eq!(node.metric(AWAITING_RESTART).await, 0.0);
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_is_reported_until_it_is_fixed() {
    let node = Node::start("[relist]\nmax_period = \"30s\"\n").await;
    let text = "[relist]\nmax_period = \"20s\"\nperiodd = \"2s\"\n[log]\nlevel = \"loud\"\n";
    node.reload(text, "failure").await;
    let path = node.file().display().to_string();
    let (first, second) = (format!("{path}:3: "), format!("{path}:5: "));
    let logged = [
        "ERROR",
        "the previous one stays effective",
        &first,
        "did you mean relist.period?",
        &second,
        "count=2",
    ];
    node.daemon.wait_for_log(&logged).await.unwrap();
    assert_eq!(node.metric(SUCCESSFUL).await, 0.0);
    let in_force = node.in_force().await;
    assert!(in_force.contains("\nmax_period = \"30s\"\n"), "no key of an invalid file applies: {in_force}");
    assert_eq!(node.reloads("success").await, 0.0);
    // The failure shows in readiness and status, and makes plegd neither dead nor unready.
    let ready = node.daemon.get("/readyz?verbose", DEADLINE).await.unwrap();
    assert!(ready.contains("[-]configuration as loaded at"), "{ready}");
    assert!(node.status().await.config_rejected);

    // plegd notices the fixed file without a signal.
    node.write("[relist]\nmax_period = \"20s\"\n");
    node.until_reloads("success", 1.0).await;
    assert_eq!(node.metric(SUCCESSFUL).await, 1.0);
    assert!(node.in_force().await.contains("\nmax_period = \"20s\"\n"));

    // plegd would not start without the file, so a missing file is reported too.
    fs::remove_file(node.file()).unwrap();
    node.until_reloads("failure", 2.0).await;
    node.daemon
        .wait_for_log(&["ERROR", "the previous one stays effective", "there is no such file"])
        .await
        .unwrap();
}

/// A ConfigMap as the kubelet mounts it: the file is reached through one symbolic link, which a rename replaces.
#[tokio::test]
async fn a_config_map_that_is_swapped_is_noticed_without_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let publish = |version: &str, text: &str, at: &Path| {
        fs::create_dir(at.join(version)).unwrap();
        fs::write(at.join(version).join("plegd.toml"), text).unwrap();
        symlink(version, at.join("..data_tmp")).unwrap();
        fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    };
    publish("..2026_01", "[relist]\nmax_period = \"30s\"\n", directory.path());
    let file = directory.path().join("plegd.toml");
    symlink("..data/plegd.toml", &file).unwrap();
    let node = Node::with(directory, &file).await;
    publish("..2026_02", "[relist]\nmax_period = \"20s\"\n", node.directory.path());
    fs::remove_dir_all(node.directory.path().join("..2026_01")).unwrap();
    node.until_reloads("success", 1.0).await;
    node.daemon.wait_for_log(&[r#"cause="file change""#, "changed=1"]).await.unwrap();
    assert!(node.in_force().await.contains("\nmax_period = \"20s\"\n"));
    publish("..2026_03", "[relist]\nmax_period = \"10s\"\n", node.directory.path());
    node.until_reloads("success", 2.0).await;
    assert!(node.in_force().await.contains("\nmax_period = \"10s\"\n"));
}

#[tokio::test]
async fn environment_and_flags_override_the_new_file() {
    // The socket is set by the environment, the address by a flag.
    let node = Node::start("").await;
    node.reload("[api]\nsocket = \"/elsewhere.sock\"\n[http]\naddress = \"off\"\n", "unchanged").await;
    assert_eq!(node.metric(AWAITING_RESTART).await, 0.0);
    assert!(!node.in_force().await.contains("elsewhere"));
}

#[tokio::test]
async fn a_new_log_level_applies() {
    let node = Node::start("[log]\nlevel = \"info\"\n").await;
    assert!(!node.daemon.log_text().contains("DEBUG"));
    node.reload("[log]\nlevel = \"debug\"\n", "success").await;
    node.daemon.wait_for_log(&["INFO", "Log level changed.", r#"new="debug""#]).await.unwrap();
    // A level set through the API stays until the key itself changes.
    node.daemon.wait_for_log(&["DEBUG plegd::supervisor", "Relisted."]).await.unwrap();
    let client = node.daemon.client();
    let request = plegd::api::v1::SetLogLevelRequest { level: "trace".into() };
    let previous = client.call(client.introspection().set_log_level(request)).await.unwrap().previous;
    assert_eq!(previous, "debug");
    node.reload("[log]\nlevel = \"debug\"\n[relist]\njitter = 0.2\n", "success").await;
    let request = plegd::api::v1::SetLogLevelRequest { level: "info".into() };
    let previous = client.call(client.introspection().set_log_level(request)).await.unwrap().previous;
    assert_eq!(previous, "trace");
}
