//! Tests of the layers, of invalid values and of error messages.

use std::path::PathBuf;

use tracing::Level;

use super::{layers::FILE_VARIABLE, *};

const SOME_FILE: &str = "plegd.toml";

struct TestInputs {
    directory: tempfile::TempDir,
    inputs: Inputs,
}

fn given() -> TestInputs {
    TestInputs { directory: tempfile::tempdir().unwrap(), inputs: Inputs::default() }
}

impl TestInputs {
    fn path(&self) -> PathBuf {
        self.directory.path().join(SOME_FILE)
    }

    fn file(mut self, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path(), text).unwrap();
        self.inputs.file = Some(self.path());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.inputs.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, name: &'static str, key: &'static str, value: &str) -> Self {
        self.inputs.flags.push(Flag { name, key, value: value.into() });
        self
    }

    #[track_caller]
    fn loads(&self) -> Loaded {
        load(&self.inputs).unwrap()
    }

    /// The errors, without the directory's name.
    #[track_caller]
    fn fails(&self) -> String {
        let directory = format!("{}/", self.directory.path().display());
        load(&self.inputs).unwrap_err().to_string().replace(&directory, "")
    }
}

fn origin(loaded: &Loaded, path: &str) -> String {
    let (_, place) = loaded.origins().find(|(key, _)| key.path() == path).unwrap();
    place.to_string()
}

#[test]
fn without_inputs_all_keys_have_their_defaults() {
    let loaded = given().loads();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.file, None);
    assert_eq!(origin(&loaded, "relist.period"), "default");
}

#[test]
fn the_shared_stream_policy_can_be_set_in_every_layer_and_a_misspelt_value_is_rejected() {
    let file = || given().file("[stream]\nshared = \"compete\"\n");
    assert_eq!(given().loads().config.stream.shared, SharedStream::Yield);
    assert_eq!(file().loads().config.stream.shared, SharedStream::Compete);
    let layered = file().variable("PLEGD_STREAM_SHARED", "yield");
    assert_eq!(layered.loads().config.stream.shared, SharedStream::Yield);
    let layered = layered.flag("--stream-shared", "stream.shared", "compete");
    assert_eq!(layered.loads().config.stream.shared, SharedStream::Compete);
    let refused = given().flag("--stream-shared", "stream.shared", "yeild").fails();
    assert!(refused.contains("did you mean \"yield\"") && refused.contains("yield or compete"), "{refused}");
}

#[test]
fn a_later_layer_overrides_only_the_keys_that_it_sets() {
    let file = "[relist]\nperiod = \"2s\"\njitter = 0.2\nparallelism = 8\n";
    let given = given()
        .file(file)
        .variable("PLEGD_RELIST_PERIOD", "3s")
        .variable("PLEGD_RELIST_JITTER", "0.3")
        .flag("--relist-period", "relist.period", "4s");
    let loaded = given.loads();
    assert_eq!(loaded.config.relist.period, Duration::from_secs(4));
    assert_eq!(loaded.config.relist.jitter, 0.3);
    assert_eq!(loaded.config.relist.parallelism, 8);
    assert_eq!(loaded.config.relist.max_period, MINUTE);
    assert_eq!(origin(&loaded, "relist.period"), "flag --relist-period");
    assert_eq!(origin(&loaded, "relist.jitter"), "environment variable PLEGD_RELIST_JITTER");
    assert_eq!(origin(&loaded, "relist.parallelism"), format!("{}:4", given.path().display()));
    assert_eq!(loaded.file, Some(given.path()));
}

#[test]
fn every_key_can_be_set_in_the_file_and_in_the_environment() {
    let other = r#"
        [runtime]
        endpoint = "/run/crio/crio.sock"
        request_timeout = "1m 30s"
        [relist]
        period = "500ms"
        max_period = "10s"
        jitter = 0
        parallelism = 64
        [stream]
        enabled = false
        shared = "compete"
        queue_messages = 1_000
        queue_bytes = "1GiB"
        [journal]
        events = 100
        bytes = "2048KiB"
        [state]
        enabled = false
        directory = "/run/other/state"
        max_bytes = "2MiB"
        persistent_directory = "/var/lib/plegd"
        [api]
        socket = "off"
        socket_mode = "0600"
        socket_group = "2000"
        allow_watch = ["uid:1000", "tls:spiffe://example.org/agent"]
        allow_introspection = "root"
        tcp_address = "127.0.0.1:7535"
        tcp_plaintext = true
        tls_certificate = "/etc/plegd/tls/tls.crt"
        tls_key = "/etc/plegd/tls/tls.key"
        tls_client_ca = "/etc/plegd/tls/ca.crt"
        subscribers = 2
        connections = 3
        requests_per_peer = 4
        message_bytes = "128KiB"
        reads_per_second = 5
        node_name = "node-1"
        [http]
        address = "off"
        page = "on"
        [log]
        level = "warn,plegd::relister=trace"
        format = "json"
        [print]
        format = "table"
        types = ["died", "sync"]
    "#;
    let from_file = given().file(other).loads().config;
    let default = Config::default();
    for key in KEYS {
        assert_ne!(key.text(&from_file), key.text(&default), "{}", key.path());
    }
    assert_eq!(
        from_file.runtime.endpoint.as_ref().unwrap().path(),
        std::path::Path::new("/run/crio/crio.sock")
    );
    assert_eq!(from_file.stream.queue_bytes, Bytes(1 << 30));
    assert_eq!(from_file.http.address, None);

    let variables =
        KEYS.iter().fold(given(), |given, key| given.variable(&key.variable(), &key.text(&from_file)));
    assert_eq!(variables.loads().config, from_file);
}

#[test]
fn the_path_of_the_file_comes_from_the_flag_the_environment_or_the_default() {
    let named = given().file("[relist]\nparallelism = 7\n");
    let path = named.path();
    let of = |inputs: Inputs| load(&inputs).map(|loaded| loaded.config.relist.parallelism);
    let variable = vec![(FILE_VARIABLE.into(), path.clone().into_os_string())];
    assert_eq!(of(Inputs { environment: variable.clone(), ..Inputs::default() }), Ok(7));
    assert_eq!(of(Inputs { default_file: Some(path.clone()), ..Inputs::default() }), Ok(7));
    let missing = named.directory.path().join("missing.toml");
    let of_default = Inputs { default_file: Some(missing.clone()), ..Inputs::default() };
    assert_eq!((of_default.path(), of_default.needs_file()), (Some(missing.clone()), false));
    let of_variable = Inputs { environment: variable.clone(), ..of_default };
    assert_eq!((of_variable.path(), of_variable.needs_file()), (Some(path.clone()), true));
    let of_flag = Inputs { file: Some(missing.clone()), ..of_variable };
    assert_eq!((of_flag.path(), of_flag.needs_file()), (Some(missing.clone()), true));
    assert_eq!((Inputs::default().path(), Inputs::default().needs_file()), (None, false));
    assert_eq!(of(Inputs { default_file: Some(missing.clone()), ..Inputs::default() }), Ok(16));
    // A file that the user specifies must exist, even if the default file exists.
    let both =
        Inputs { file: Some(missing), environment: variable, default_file: Some(path), ..Inputs::default() };
    let error = of(both).unwrap_err().to_string();
    assert!(error.ends_with("missing.toml: the configuration cannot be read: there is no such file; set another path with --config or PLEGD_CONFIG."), "{error}");
}

#[test]
fn the_error_for_an_unreadable_file_has_the_reason() {
    let mut directory = given();
    directory.inputs.file = Some(directory.directory.path().into());
    assert!(directory.fails().contains("this is a directory"), "{}", directory.fails());
    assert!(given().file([0xff, 0xfe, 0x00]).fails().contains("not valid UTF-8"));
    assert_eq!(given().file("").loads().config, Config::default());
}

#[test]
fn a_toml_syntax_error_has_its_line() {
    let error = given().file("[relist]\nperiod = \n").fails();
    assert!(error.starts_with("plegd.toml:2: invalid TOML: "), "{error}");
    let error = given().file("[relist]\nparallelism = 1\nparallelism = 2\n").fails();
    assert!(error.starts_with("plegd.toml:3: invalid TOML: "), "{error}");
}

#[test]
fn unknown_keys_are_rejected_with_a_suggestion() {
    let cases = [
        ("[relist]\nperoid = \"1s\"", "plegd.toml:2: unknown key relist.peroid; did you mean relist.period?"),
        ("[relst]\nperiod = \"1s\"", "plegd.toml:1: unknown section [relst]; did you mean [relist]?"),
        ("\nparallelism = 1", "plegd.toml:2: unknown key parallelism; did you mean relist.parallelism?"),
        ("[stream]\njitter = 0.1", "plegd.toml:2: unknown key stream.jitter; did you mean relist.jitter?"),
        (
            "relist.max-period = \"9s\"",
            "plegd.toml:1: unknown key relist.max-period; did you mean relist.max_period?",
        ),
        ("[http]\nquuxquux = 1", "plegd.toml:2: unknown key http.quuxquux; [http] has address, page."),
        (
            "[grpc]\nsocket = 1",
            "plegd.toml:1: unknown section [grpc]; the sections are runtime, relist, stream, journal, state, api, http, log, print.",
        ),
        ("http = \"off\"", "plegd.toml:1: http is a section; write [http] on a line of its own."),
        ("zzz = 1", "plegd.toml:1: unknown key zzz; all keys are in a section, such as period in [relist]."),
    ];
    for (file, message) in cases {
        assert_eq!(given().file(file).fails(), message, "{file}");
    }
}

#[test]
fn the_error_for_an_invalid_value_has_the_allowed_values() {
    let duration = r#"Allowed: a duration with its unit, such as "500ms" or "30s", from 100ms to 10m."#;
    let cases = [
        ("relist.period = \"abc\"", format!("relist.period = \"abc\": it is not a duration. {duration}")),
        ("relist.period = \"\"", format!("relist.period = \"\": it is not a duration. {duration}")),
        ("relist.period = \"5\"", format!("relist.period = \"5\": the unit is missing. {duration}")),
        ("relist.period = 5", format!("relist.period = 5: this is an integer. {duration}")),
        ("relist.period = \"-5s\"", format!("relist.period = \"-5s\": a duration cannot be negative. {duration}")),
        ("relist.period = \"1ms\"", format!("relist.period = \"1ms\": it is too small. {duration}")),
        ("relist.period = \"11m\"", format!("relist.period = \"11m\": it is too large. {duration}")),
        ("relist.jitter = 0.51", "relist.jitter = 0.51: it is too large. Allowed: a number, from 0 to 0.5.".into()),
        ("relist.jitter = -0.1", "relist.jitter = -0.1: it is too small. Allowed: a number, from 0 to 0.5.".into()),
        ("relist.jitter = nan", "relist.jitter = nan: it is not a number. Allowed: a number, from 0 to 0.5.".into()),
        (
            "relist.parallelism = 0",
            "relist.parallelism = 0: it is too small. Allowed: an integer, from 1 to 64.".into(),
        ),
        (
            "relist.parallelism = -3",
            "relist.parallelism = -3: it is too small. Allowed: an integer, from 1 to 64.".into(),
        ),
        (
            "relist.parallelism = \"4\"",
            "relist.parallelism = \"4\": this is text. Allowed: an integer, from 1 to 64.".into(),
        ),
        ("stream.enabled = 1", "stream.enabled = 1: this is an integer. Allowed: true or false.".into()),
        (
            "journal.bytes = \"32MB\"",
            "journal.bytes = \"32MB\": \"MB\" is not a unit. Allowed: a size with its unit (B, KiB, MiB or GiB), such as \"16MiB\", from 1MiB to 1GiB.".into(),
        ),
        (
            "log.format = \"jsno\"",
            "log.format = \"jsno\": unknown value; did you mean \"json\". Allowed: auto, text, json or journald.".into(),
        ),
        (
            "print.types = [\"died\", 3]",
            "print.types = [\"died\", 3]: this is a list. Allowed: started, died, removed, changed and sync, separated by commas, or all.".into(),
        ),
    ];
    for (file, message) in cases {
        assert_eq!(given().file(file).fails(), format!("plegd.toml:1: {message}"), "{file}");
    }
}

#[test]
fn errors_in_variables_and_flags_name_the_variable_or_flag() {
    let given = given().variable("PLEGD_HTTP_ADDRESS", "localhost:7534").flag(
        "--runtime-endpoint",
        "runtime.endpoint",
        "tcp://10.0.0.1:1",
    );
    assert_eq!(
        given.fails(),
        "environment variable PLEGD_HTTP_ADDRESS: \"localhost:7534\": \"localhost\" is not an IP address. \
         Allowed: an IP address and a port, such as \"127.0.0.1:7534\" or \"[::1]:7534\", or \"off\".\n\
         flag --runtime-endpoint: \"tcp://10.0.0.1:1\": \"tcp\" is not supported: a runtime is reached over its UNIX \
         socket only. Allowed: a socket such as \"unix:///run/containerd/containerd.sock\" or its absolute path, or \"\" to detect it."
    );
}

#[test]
fn unknown_variables_are_rejected_unless_kubernetes_sets_them() {
    let cases = [
        ("PLEGD_RELIST_PEROID", "unknown variable; did you mean PLEGD_RELIST_PERIOD?"),
        ("PLEGD_ENDPOINT", "unknown variable; did you mean PLEGD_RUNTIME_ENDPOINT?"),
        ("PLEGD_CONFG", "unknown variable; did you mean PLEGD_CONFIG?"),
        ("PLEGD_QQQQQQ", "unknown variable; unset it."),
    ];
    for (name, message) in cases {
        assert_eq!(given().variable(name, "x").fails(), format!("environment variable {name}: {message}"));
    }
    // A service named `plegd`, one named `plegd-metrics`, and variables of other programs.
    for name in [
        "PLEGD_SERVICE_HOST",
        "PLEGD_SERVICE_PORT",
        "PLEGD_SERVICE_PORT_HTTP",
        "PLEGD_PORT",
        "PLEGD_PORT_7534_TCP",
        "PLEGD_PORT_7534_TCP_ADDR",
        "PLEGD_METRICS_SERVICE_HOST",
        "PLEGD_METRICS_PORT_7534_TCP_PROTO",
        "PLEGD_REVISION",
        "PATH",
        "PLEGDX",
    ] {
        assert_eq!(given().variable(name, "x").loads().config, Config::default(), "{name}");
    }
}

#[test]
fn an_empty_variable_sets_an_empty_value() {
    assert_eq!(given().variable("PLEGD_HTTP_ADDRESS", "").loads().config.http.address, None);
    assert!(given().variable("PLEGD_RELIST_PERIOD", "").fails().contains("it is not a duration"));
    // The file's variable may be empty: no file has an empty name, and templates often leave the variable empty.
    assert_eq!(given().variable("PLEGD_CONFIG", "").loads().config, Config::default());
}

#[test]
fn contradicting_keys_are_reported_with_the_place_where_they_are_set() {
    let sentence = |max: &str, period: &str| {
        format!(
            "relist.max_period ({max}) is below relist.period ({period}); increase relist.max_period or decrease relist.period."
        )
    };
    let both = given().file("[relist]\nperiod = \"20s\"\nmax_period = \"10s\"\n");
    assert_eq!(both.fails(), format!("plegd.toml:3: {}", sentence("10s", "20s")));
    let one = given().flag("--relist-period", "relist.period", "2m");
    assert_eq!(one.fails(), format!("flag --relist-period: {}", sentence("1m", "2m")));
    // An invalid value causes no second error for a contradiction.
    let refused = given().file("[relist]\nperiod = \"2m\"\nmax_period = \"x\"\n").fails();
    assert_eq!(refused.lines().count(), 1, "{refused}");
    assert!(given().file("[relist]\nperiod = \"1m\"\n").loads().config.relist.period == MINUTE);
}

#[test]
fn tcp_requires_tls_except_on_loopback() {
    let tls = "tls_certificate = \"/a\"\ntls_key = \"/b\"\n";
    for (file, message) in [
        (
            "tcp_address = \"0.0.0.0:1\"\ntcp_plaintext = true\n".to_owned(),
            "plegd.toml:3: api.tcp_plaintext would serve without TLS on api.tcp_address 0.0.0.0:1, which is not loopback; \
             set the address to 127.0.0.1 or [::1], or set api.tls_certificate, api.tls_key and api.tls_client_ca instead.",
        ),
        (
            "tcp_address = \"127.0.0.1:1\"\n".into(),
            "plegd.toml:2: api.tcp_address 127.0.0.1:1 requires api.tls_certificate and api.tls_key and api.tls_client_ca \
             for TLS; set the missing keys, or set api.tcp_plaintext on a loopback address.",
        ),
        (
            format!("tcp_address = \"10.0.0.1:1\"\n{tls}"),
            "plegd.toml:2: api.tcp_address 10.0.0.1:1 requires api.tls_client_ca for TLS; set the missing keys, or set api.tcp_plaintext \
             on a loopback address.",
        ),
    ] {
        assert_eq!(given().file(format!("[api]\n{file}")).fails(), message);
    }
    for file in [
        format!("tcp_address = \"10.0.0.1:1\"\n{tls}tls_client_ca = \"/c\"\n"),
        "tcp_address = \"[::ffff:127.0.0.1]:1\"\ntcp_plaintext = true\n".into(),
        "tcp_plaintext = true\n".into(),
    ] {
        given().file(format!("[api]\n{file}")).loads();
    }
    let long = given().file(format!("[api]\nsocket = \"/{}\"\n", "x".repeat(107))).fails();
    assert_eq!(
        long,
        "plegd.toml:2: api.socket has 108 bytes, and a socket's path has at most 107; use a shorter path."
    );
}

#[test]
fn all_errors_are_reported_together() {
    let given = given()
        .file("[relist]\nperiod = \"abc\"\nnope = 1\n[http]\naddress = 5\n")
        .variable("PLEGD_LOG_LEVEL", "infoo")
        .variable("PLEGD_WHAT", "x")
        .flag("--log-format", "log.format", "xml");
    let error = given.fails();
    let places: Vec<&str> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "plegd.toml:2",
            "plegd.toml:3",
            "plegd.toml:5",
            "environment variable PLEGD_LOG_LEVEL",
            "environment variable PLEGD_WHAT",
            "flag --log-format"
        ]
    );
}

#[test]
fn an_endpoint_is_a_unix_socket() {
    let parse = <Option<Endpoint> as Value>::parse;
    let path = "/run/containerd/containerd.sock";
    for text in [path.to_owned(), format!("unix://{path}"), format!("unix:{path}")] {
        let endpoint = parse(&text).unwrap().unwrap();
        assert_eq!(endpoint.path(), std::path::Path::new(path));
        assert_eq!(endpoint.to_string(), format!("unix://{path}"));
    }
    assert_eq!(parse(""), Ok(None));
    let path_of = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert!(parse(&path_of(107)).is_ok());
    assert!(parse(&path_of(108)).unwrap_err().contains("107 bytes"));
    for text in [
        "run/x.sock",
        "unix://run/x.sock",
        "unix://",
        "/run/",
        "http://x",
        "npipe:////./pipe/containerd",
        "x",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn addresses_sizes_levels_and_event_types_are_parsed() {
    let address = <Option<SocketAddr> as Value>::parse;
    assert!(address("[::1]:80").unwrap().is_some_and(|address| address.is_ipv6()));
    for (text, why) in [
        ("127.0.0.1", "the port is missing"),
        (":7534", "the IP address is missing"),
        ("1.2.3.4:99999", "\"99999\" is not a port"),
        ("node:1", "\"node\" is not an IP address"),
        ("7534", "it is not an address"),
    ] {
        assert!(address(text).unwrap_err().contains(why), "{text}: {}", address(text).unwrap_err());
    }
    for (text, bytes) in [("5B", 5), ("16KiB", 16 << 10), ("3 MiB", 3 << 20), ("1GiB", 1 << 30), ("0B", 0)] {
        assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        assert_eq!(Bytes::parse(&Bytes(bytes).text()), Ok(Bytes(bytes)));
    }
    for text in
        ["", "MiB", "1", "1.5MiB", "-1MiB", "1mib", "99999999999999999999GiB", "18446744073709551615GiB"]
    {
        assert!(Bytes::parse(text).is_err(), "{text}");
    }
    for text in ["info", "WARN", "off", "info,plegd=debug", "plegd::relister=trace,h2=warn"] {
        assert!(Filter::parse(text).is_ok(), "{text}");
    }
    for text in
        ["", "verbose", "infoo", "plegd", "plegd=loud", "info,", "5", "=info", "plegd::=info", "a=b=info"]
    {
        assert!(Filter::parse(text).is_err(), "{text}");
    }
    assert_eq!(Filter::parse("inof").unwrap_err(), "\"inof\" is not a level; did you mean \"info\"");
    assert_eq!(Filter::parse("[span]=info").unwrap_err(), "\"[span]\" is not a module");
    let by_module = Filter::parse("warn, plegd::relister = debug").unwrap().to_targets();
    assert!(by_module.would_enable("plegd::relister::reads", &Level::DEBUG));
    assert!(by_module.would_enable("plegd::arbiter", &Level::WARN));
    assert!(!by_module.would_enable("plegd::arbiter", &Level::INFO));
    assert!(!Filter::parse("off").unwrap().to_targets().would_enable("plegd", &Level::ERROR));
    assert_eq!(EventTypes::parse("all").unwrap(), EventTypes::all());
    assert_eq!(EventTypes::parse("removed, died,started,died").unwrap(), EventTypes::kubelet());
    assert_eq!(EventTypes::parse("quit").unwrap_err(), "\"quit\" is not an event");
    assert_eq!(
        EventTypes::parse("remove").unwrap_err(),
        "\"remove\" is not an event; did you mean \"removed\""
    );
    assert!(EventTypes::parse("").is_err());
}

#[test]
fn the_defaults_and_allowed_values_are_as_documented() {
    let config = Config::default();
    let shown: Vec<String> = KEYS
        .iter()
        .map(|key| format!("{} = {} # {}", key.path(), key.toml(&config), key.allowed()))
        .collect();
    assert_eq!(
        shown.join("\n"),
        r#"runtime.endpoint = "" # a socket such as "unix:///run/containerd/containerd.sock" or its absolute path, or "" to detect it
runtime.request_timeout = "5s" # a duration with its unit, such as "500ms" or "30s", from 100ms to 5m
relist.period = "1s" # a duration with its unit, such as "500ms" or "30s", from 100ms to 10m
relist.max_period = "1m" # a duration with its unit, such as "500ms" or "30s", from 100ms to 1h
relist.jitter = 0.1 # a number, from 0 to 0.5
relist.parallelism = 16 # an integer, from 1 to 64
stream.enabled = true # true or false
stream.shared = "yield" # yield or compete
stream.queue_messages = 65536 # an integer, from 64 to 4194304
stream.queue_bytes = "32MiB" # a size with its unit (B, KiB, MiB or GiB), such as "16MiB", from 1MiB to 1GiB
journal.events = 65536 # an integer, from 64 to 4194304
journal.bytes = "32MiB" # a size with its unit (B, KiB, MiB or GiB), such as "16MiB", from 1MiB to 1GiB
state.enabled = true # true or false
state.directory = "auto" # an absolute path, or "auto"
state.max_bytes = "16MiB" # a size with its unit (B, KiB, MiB or GiB), such as "16MiB", from 1MiB to 1GiB
state.persistent_directory = "off" # an absolute path, or "off"
api.socket = "/run/plegd/plegd.sock" # an absolute path, or "off"
api.socket_mode = "0660" # an octal mode up to 0777, such as "0660"
api.socket_group = "" # the name or number of a group, or "" for the group of plegd
api.allow_watch = "root,group,loopback,tls" # root, group, uid:NUMBER, gid:NUMBER, loopback, tls, tls:NAME and any, separated by commas
api.allow_introspection = "root,group" # root, group, uid:NUMBER, gid:NUMBER, loopback, tls, tls:NAME and any, separated by commas
api.tcp_address = "off" # an IP address and a port, such as "127.0.0.1:7534" or "[::1]:7534", or "off"
api.tcp_plaintext = false # true or false
api.tls_certificate = "off" # an absolute path, or "off"
api.tls_key = "off" # an absolute path, or "off"
api.tls_client_ca = "off" # an absolute path, or "off"
api.subscribers = 1024 # an integer, from 1 to 65536
api.connections = 2048 # an integer, from 2 to 65536
api.requests_per_peer = 64 # an integer, from 1 to 65536
api.message_bytes = "64KiB" # a size with its unit (B, KiB, MiB or GiB), such as "16MiB", from 1KiB to 64MiB
api.reads_per_second = 20 # an integer, from 1 to 1000
api.node_name = "" # text
http.address = "127.0.0.1:7534" # an IP address and a port, such as "127.0.0.1:7534" or "[::1]:7534", or "off"
http.page = "loopback" # off, loopback or on
log.level = "info" # off, error, warn, info, debug or trace, for all or by module, such as "info,plegd::relister=debug"
log.format = "auto" # auto, text, json or journald
print.format = "none" # none, table or json
print.types = "started,died,removed" # started, died, removed, changed and sync, separated by commas, or all"#
    );
}

#[test]
fn every_key_and_section_has_a_description() {
    for key in KEYS {
        assert!(key.doc.trim().ends_with('.'), "{}: {:?}", key.path(), key.doc);
        assert!(SECTIONS.iter().any(|section| section.name == key.section));
    }
    for section in SECTIONS {
        assert!(section.doc.trim().ends_with('.'), "{}", section.name);
    }
}

#[test]
fn a_configuration_that_is_written_as_toml_parses_to_the_same_values() {
    for text in [String::new(), "[relist]\nperiod = \"3s\"\njitter = 0.25\n[http]\naddress = \"\"\n".into()] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plegd.toml");
        std::fs::write(&path, text).unwrap();
        let first = load(&Inputs { file: Some(path.clone()), ..Inputs::default() }).unwrap().config;
        std::fs::write(&path, first.to_toml()).unwrap();
        let again = load(&Inputs { file: Some(path), ..Inputs::default() }).unwrap().config;
        assert_eq!(first, again);
    }
}
