//! The binary's command line: texts and exit codes for valid and invalid input.

// Clippy recognizes `#[test]` functions, but not their helpers.
#![allow(clippy::unwrap_used)]

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn plegd(arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    Answer {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, sentences: &[&str]) {
    assert_eq!(answer.code, Some(64), "{}", answer.stderr);
    assert_eq!(answer.stdout, "");
    for sentence in sentences {
        assert!(answer.stderr.contains(sentence), "no {sentence:?} in:\n{}", answer.stderr);
    }
    assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plegd.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn without_a_verb_the_help_is_printed() {
    for arguments in [&[][..], &["--help"], &["help"], &["-h"]] {
        let answer = plegd(arguments, &[]);
        assert_eq!(answer.code, Some(0), "{arguments:?}");
        for word in [
            "Usage: plegd",
            "run",
            "demo",
            "check",
            "watch",
            "get",
            "wait",
            "version",
            "Examples:",
            "Exit codes:",
        ] {
            assert!(answer.stdout.contains(word), "no {word:?} in:\n{}", answer.stdout);
        }
        assert_eq!(answer.stderr, "");
    }
}

#[test]
fn the_help_of_every_verb_has_examples() {
    for verb in ["run", "demo", "check"] {
        let answer = plegd(&[verb, "--help"], &[]);
        assert_eq!(answer.code, Some(0));
        assert!(answer.stdout.contains(&format!("Usage: plegd {verb}")), "{}", answer.stdout);
        assert!(answer.stdout.contains(&format!("Examples:\n  plegd {verb}\n")), "{}", answer.stdout);
    }
}

#[test]
fn verbs_of_scenario_files_have_examples_and_require_a_file() {
    for (verb, example, missing) in [
        ("record", "record --output node.json --duration 5m", "--output <FILE>"),
        ("replay", "replay node.json", "<FILE>"),
    ] {
        let answer = plegd(&[verb, "--help"], &[]);
        assert_eq!(answer.code, Some(0));
        assert!(answer.stdout.contains(&format!("Examples:\n  plegd {example}\n")), "{}", answer.stdout);
        assert_refused(&plegd(&[verb], &[]), &[missing]);
    }
    assert_refused(&plegd(&["demo", "--scenario", "x.json", "--seed", "1"], &[]), &["--seed"]);
}

#[test]
fn the_help_of_client_verbs_has_examples_and_the_default_socket() {
    for (verb, example) in [
        ("watch", ""),
        ("get", " pods"),
        ("wait", " --for running shop/web -c app"),
        ("status", ""),
        ("top", ""),
        ("subscribers", ""),
        ("log-level", "                                    show the configured level"),
    ] {
        let answer = plegd(&[verb, "--help"], &[]);
        assert_eq!(answer.code, Some(0));
        for text in [
            &format!("Examples:\n  plegd {verb}{example}\n"),
            "--socket <ADDRESS>",
            // The text before it decides where the line is wrapped.
            "PLEGD_SOCKET]",
            "unix:///run/plegd/plegd.sock",
        ] {
            assert!(answer.stdout.contains(text), "no {text:?} in:\n{}", answer.stdout);
        }
    }
}

#[test]
fn client_verbs_report_a_missing_daemon() {
    let missing = "plegd: there is no socket at unix:///no/such/plegd.sock; check that plegd is running and listens on this socket\n";
    let (by_flag, by_variable) =
        (["--socket", "/no/such/plegd.sock"], [("PLEGD_SOCKET", "unix:///no/such/plegd.sock")]);
    for verb in [
        &["watch"][..],
        &["get", "pods"],
        &["wait", "--for", "sandbox-ready", "web"],
        &["status"],
        &["status", "-o", "json"],
        &["top"],
        &["subscribers"],
        &["subscribers", "disconnect", "7"],
        &["log-level", "debug"],
        &["config", "running"],
    ] {
        for answer in [plegd(&[verb, &by_flag].concat(), &[]), plegd(verb, &by_variable)] {
            assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{verb:?}");
            assert_eq!(answer.stderr, missing, "{verb:?}");
        }
        assert_refused(&plegd(verb, &[("PLEGD_SOCKET", "tcp://x")]), &["\"tcp\" is not supported"]);
    }
    // PLEGD_SOCKET is no key of the configuration, and the daemon ignores it.
    let answer = plegd(&["check", "--runtime-endpoint", "/no/such/runtime.sock"], &by_variable);
    assert!(answer.code == Some(1) && !answer.stderr.contains("PLEGD_SOCKET"), "{}", answer.stderr);
}

#[test]
fn completions_have_all_verbs_and_the_manual_has_a_page_for_each() {
    let verbs = [
        "run",
        "status",
        "top",
        "subscribers",
        "log-level",
        "watch",
        "record",
        "replay",
        "config",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = plegd(&["completions", shell], &[]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(verbs.iter().all(|verb| answer.stdout.contains(verb)), "{shell}: {}", answer.stdout);
    }
    let answer = plegd(&["man"], &[]);
    assert!(answer.code == Some(0) && answer.stdout.contains(".TH plegd 1"), "{}", answer.stdout);
    let dir = tempfile::tempdir().unwrap();
    let answer = plegd(&["man", "--dir", dir.path().to_str().unwrap()], &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    for verb in verbs {
        assert!(dir.path().join(format!("plegd-{verb}.1")).exists(), "{verb}");
    }
    let answer = plegd(&["man", "--dir", "/dev/null/man"], &[]);
    assert!(answer.code == Some(1) && answer.stderr.contains("/dev/null/man"), "{}", answer.stderr);
}

#[test]
fn a_wrong_flag_or_verb_is_a_usage_error() {
    assert_refused(&plegd(&["log-level", "verbose"], &[]), &["verbose"]);
    assert_refused(&plegd(&["top", "--interval", "1ms"], &[]), &["100ms"]);
    assert_refused(&plegd(&["status", "-o", "xml"], &[]), &["json"]);
    assert_refused(&plegd(&["run", "--relist-perod", "1s"], &[]), &["--relist-perod", "--relist-period"]);
    assert_refused(&plegd(&["rum"], &[]), &["'rum'", "'run'"]);
    assert_refused(&plegd(&["run", "--config"], &[]), &["--config <FILE>"]);
    assert_refused(&plegd(&["demo", "--pods", "0"], &[]), &["--pods", "1..=500"]);
    assert_refused(&plegd(&["demo", "--duration", "5"], &[]), &["--duration", "the unit is missing"]);
}

#[test]
fn an_unknown_key_in_the_file_is_refused_with_line_and_suggestion() {
    let (_dir, path) = file("[relist]\nperiod = \"1s\"\nparalelism = 2\n");
    let path = path.to_str().unwrap();
    let sentence = format!("{path}:3: unknown key relist.paralelism; did you mean relist.parallelism?");
    assert_refused(&plegd(&["run", "--config", path], &[]), &["the configuration has a problem", &sentence]);
    assert_refused(&plegd(&["check", "--config", path], &[]), &[&sentence]);
    assert_refused(&plegd(&["run"], &[("PLEGD_CONFIG", path)]), &[&sentence]);
}

#[test]
fn problems_of_all_layers_are_reported_together() {
    let (_dir, path) = file("[journal]\nevents = 1\n");
    let path = path.to_str().unwrap();
    let answer = plegd(
        &["run", "--config", path, "--relist-period", "soon", "--print", "xml"],
        &[("PLEGD_HTTP_ADDRESS", "here"), ("PLEGD_HTTP_ADRESS", "127.0.0.1:1")],
    );
    let sentences = [
        "the configuration has 5 problems",
        &format!("{path}:2: journal.events = 1: it is too small. Allowed: an integer, from 64 to 4194304."),
        "environment variable PLEGD_HTTP_ADDRESS: \"here\": it is not an address. Allowed: an IP address and a port",
        "environment variable PLEGD_HTTP_ADRESS: unknown variable; did you mean PLEGD_HTTP_ADDRESS?",
        "flag --relist-period: \"soon\": it is not a duration. Allowed: a duration with its unit",
        "flag --print: \"xml\": unknown value. Allowed: none, table or json.",
    ];
    assert_refused(&answer, &sentences);
}

#[test]
fn the_reference_of_the_configuration_is_a_valid_file() {
    let reference = plegd(&["config", "default"], &[]);
    assert_eq!((reference.code, reference.stderr.as_str()), (Some(0), ""));
    assert_eq!(reference.stdout, include_str!("../deploy/plegd.toml"));
    let (_dir, path) = file(&reference.stdout);
    let path = path.to_str().unwrap();
    let answer = plegd(&["config", "check", "--config", path], &[("PLEGD_LOG_LEVEL", "debug")]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
    let keys = plegd::config::KEYS.len();
    let expected = format!(
        "The configuration is valid: {path}.\nKeys: {} from the file, 1 from the environment, 0 from flags, 0 with default \
         values.\n",
        keys - 1
    );
    assert_eq!(answer.stdout, expected);
}

#[test]
fn config_check_reports_all_problems_of_the_configuration() {
    let (_dir, path) = file("[relist]\nperiod = 5\n[jurnal]\nevents = 100\n[log]\nlevel = \"inf\"\n");
    let path = path.to_str().unwrap();
    let answer = plegd(&["config", "check", "--config", path], &[("PLEGD_RELIST_JITTER", "2")]);
    let sentences = [
        "plegd: the configuration has 4 problems, so plegd cannot start:\n",
        &format!("{path}:2: relist.period = 5: this is an integer. Allowed: a duration with its unit"),
        &format!("{path}:3: unknown section [jurnal]; did you mean [journal]?"),
        &format!("{path}:6: log.level = \"inf\": \"inf\" is not a level; did you mean \"info\""),
        "environment variable PLEGD_RELIST_JITTER: \"2\": it is too large. Allowed: a number, from 0 to 0.5.",
    ];
    assert_refused(&answer, &sentences);
    assert_refused(&plegd(&["config", "print", "--config", path], &[]), &["has 3 problems"]);
    assert_refused(
        &plegd(&["config", "check", "--config", "/no/such.toml"], &[]),
        &["there is no such file"],
    );
    assert_refused(&plegd(&["config", "chek"], &[]), &["'chek'", "'check'"]);
}

#[test]
fn config_print_shows_each_value_with_its_origin() {
    let (_dir, path) = file("[relist]\nperiod = \"2s\"\njitter = 0.2\nparallelism = 8\n");
    let path = path.to_str().unwrap();
    let flags = ["config", "print", "--config", path, "--relist-period", "4s"];
    let environment = [("PLEGD_RELIST_JITTER", "0.3"), ("PLEGD_RELIST_PERIOD", "3s")];
    let answer = plegd(&[&flags[..], &["-o", "wide"]].concat(), &environment);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
    let row = |key: &str| {
        let line = answer.stdout.lines().find(|line| line.split("   ").next() == Some(key));
        let cells = line.unwrap_or_else(|| panic!("no {key} in:\n{}", answer.stdout)).split("   ");
        cells.map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let live = "applied on reload";
    assert_eq!(row("relist.period"), ["relist.period", "\"4s\"", "flag --relist-period", live]);
    let variable = "environment variable PLEGD_RELIST_JITTER";
    assert_eq!(row("relist.jitter"), ["relist.jitter", "0.3", variable, live]);
    assert_eq!(row("relist.parallelism"), ["relist.parallelism", "8", &format!("{path}:4"), live]);
    assert_eq!(row("journal.events"), ["journal.events", "65536", "default", "requires restart"]);
    assert_eq!(answer.stdout.lines().count(), plegd::config::KEYS.len() + 1);

    let answer = plegd(&[&flags[..], &["-o", "json"]].concat(), &environment);
    let printed: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(printed["file"], path);
    let keys = printed["keys"].as_array().unwrap();
    assert_eq!(keys.len(), plegd::config::KEYS.len());
    let key = keys.iter().find(|key| key["key"] == "relist.period").unwrap();
    let expected = serde_json::json!({
        "key": "relist.period", "value": "4s", "origin": "flag --relist-period", "needs_restart": false
    });
    assert_eq!(*key, expected);
}

#[test]
fn the_error_names_a_missing_file() {
    let sentence = "/no/such/plegd.toml: the configuration cannot be read: there is no such file";
    assert_refused(&plegd(&["run", "--config", "/no/such/plegd.toml"], &[]), &[sentence, "--config"]);
    assert_refused(&plegd(&["run"], &[("PLEGD_CONFIG", "/no/such/plegd.toml")]), &[sentence]);
}

#[test]
fn an_endpoint_that_is_not_a_unix_socket_is_refused() {
    let answer = plegd(&["check", "--runtime-endpoint", "tcp://127.0.0.1:1234"], &[]);
    assert_refused(&answer, &["flag --runtime-endpoint", "\"tcp\" is not supported", "UNIX socket"]);
}

#[test]
fn the_version_has_revision_compiler_and_target() {
    let version = env!("CARGO_PKG_VERSION");
    let answer = plegd(&["version"], &[]);
    assert_eq!(answer.code, Some(0));
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines[0], format!("plegd {version}"));
    assert!(lines[1].starts_with("revision  "), "{lines:?}");
    assert!(lines[2].starts_with("rustc     rustc 1."), "{lines:?}");
    assert!(lines[3].starts_with("target    ") && lines[3].contains("linux"), "{lines:?}");

    let json: serde_json::Value = serde_json::from_str(&plegd(&["version", "--json"], &[]).stdout).unwrap();
    assert_eq!(json["name"], "plegd");
    assert_eq!(json["version"], version);
    for field in ["revision", "rustc", "target"] {
        assert!(json.get(field).is_some(), "{json}");
    }
    assert_eq!(plegd(&["--version"], &[]).stdout, format!("plegd {version}\n"));
}

#[test]
fn a_closed_stdout_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plegd"))
        .arg("version")
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before or after plegd writes: neither is an error.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}
