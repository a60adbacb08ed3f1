//! The Prometheus and Grafana files in `deploy/`, checked with a real Prometheus that scrapes the daemon under load.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]
// These processes run in real time.
#![allow(clippy::disallowed_methods)]

mod binary;
mod fleet;

use std::{ffi::OsString, fmt::Write as _, net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use binary::{DEADLINE, Plegd};
use fleet::{dashboard, families, promql, rules};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Scrapes, one per second, before the first query.
const SCRAPES: f64 = 20.0;

/// Expressions without data in the demo, by a part of the expression, with the reason.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("plegd_fallback_seconds_bucket", "the demo's stream is never lost"),
    (r#"code!="OK""#, "a read fails only if its pod is removed at that moment"),
    (r#"code!~"OK|Canceled""#, "no client makes a call that is refused"),
    (
        "sum by (method) (rate(plegd_grpc_requests_total",
        "a watch counts when it ends, and there are no other calls",
    ),
];

/// Alerts about durations, which may be pending on a busy machine. They fire only if the condition lasts.
const MAY_BE_PENDING: [&str; 2] = ["PlegdRelistSlow", "PlegdEventsMissed"];

/// The daemon on a simulated runtime under load, and one subscriber.
struct Demo {
    daemon: Plegd,
    watcher: Plegd,
    http: SocketAddr,
}

/// A Prometheus with its data in a temporary directory, on a free port of loopback.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

// === impl Demo ===

impl Demo {
    async fn start() -> Result<Self> {
        let arguments =
            ["demo", "--seed", "7", "--pace", "20ms", "--http-address", "127.0.0.1:0", "--print", "none"];
        let (daemon, _) = Plegd::spawn(arguments.into_iter().chain(["--log-level", "info"]), [])?;
        let http = daemon.wait_for_line("the HTTP address", |line| {
            let rest = line.split_once("Serving metrics and health over HTTP.")?.1;
            rest.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
        });
        let http = http.await?;
        let socket = daemon.wait_for_line("the API's socket", |line| {
            Some(line.split_once("watch --socket ")?.1.trim().to_owned())
        });
        let socket: String = socket.await?;
        let (watcher, mut events) =
            Plegd::spawn(["watch", "--socket", &socket], Vec::<(&str, OsString)>::new())?;
        tokio::spawn(async move { tokio::io::copy(&mut events, &mut tokio::io::sink()).await });
        Ok(Self { daemon, watcher, http })
    }

    async fn metrics(&self) -> Result<String> {
        get(self.http, "/metrics").await
    }

    async fn stop(self) -> Result<()> {
        self.watcher.stop().await?;
        self.daemon.stop().await
    }
}

// === impl Prometheus ===

impl Prometheus {
    async fn start(scraped: SocketAddr) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("prometheus.yml");
        let rules = fleet::path(rules::FILE);
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n- job_name: plegd\n  static_configs:\n  - targets: [\"{scraped}\"]\n    \
             labels: {{ cluster: here, node: demo }}\n",
            rules.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.args(["--web.listen-address=127.0.0.1:0", "--log.level=info"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process =
            command.spawn().context("starting prometheus: is Debian's package `prometheus` installed?")?;
        let mut output = BufReader::new(process.stderr.take().context("prometheus has no stderr")?).lines();
        let mut log = String::new();
        let address = async {
            while let Some(line) = output.next_line().await? {
                let address =
                    line.split_once("address=").and_then(|(_, rest)| rest.split_whitespace().next());
                if let Some(address) =
                    address.and_then(|it| it.parse::<SocketAddr>().ok()).filter(|it| it.port() > 0)
                {
                    return Ok(address);
                }
                writeln!(log, "  {line}")?;
            }
            anyhow::bail!("prometheus has ended:\n{log}")
        };
        let address = timeout(DEADLINE, address).await.context("prometheus does not log its address")??;
        tokio::spawn(async move { while let Ok(Some(_)) = output.next_line().await {} });
        let end = Instant::now() + DEADLINE;
        while !get(address, "/-/ready").await?.contains("Ready") {
            ensure!(Instant::now() < end, "prometheus does not become ready");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { process, address, _dir: dir })
    }

    /// The answer to a query, as label sets with values.
    async fn query(&self, expr: &str) -> Result<Vec<(Value, f64)>> {
        let answer = self.api(&format!("query?query={}", percent(expr))).await?;
        let result = answer["data"]["result"].as_array().with_context(|| format!("{answer}"))?;
        let sample = |it: &Value| Some((it["metric"].clone(), it["value"][1].as_str()?.parse().ok()?));
        result
            .iter()
            .map(|it| sample(it).with_context(|| format!("{it} is not a sample of {expr}")))
            .collect()
    }

    /// Whether the answer has a value other than NaN.
    async fn has_data(&self, expr: &str) -> Result<bool> {
        Ok(self.query(expr).await?.iter().any(|(_, value)| !value.is_nan()))
    }

    async fn api(&self, path: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&get(self.address, &format!("/api/v1/{path}")).await?)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer)
    }

    async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

/// The body of the answer.
async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        // HTTP 1.0, so that the body is not chunked.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        anyhow::Ok(body.to_owned())
    };
    timeout(DEADLINE, answer).await.with_context(|| format!("{path} is not answered"))?
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte.into()),
            _ => write!(out, "%{byte:02X}").expect("a string takes all"),
        }
        out
    })
}

/// Runs promtool; its output is the error if it fails.
async fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process =
        command.spawn().context("starting promtool: is Debian's package `prometheus` installed?")?;
    let mut stdin = process.stdin.take().context("promtool has no stdin")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = timeout(DEADLINE, process.wait_with_output()).await.context("promtool does not end")??;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "promtool {}:\n{text}", arguments.join(" "));
    Ok(())
}

#[tokio::test]
async fn a_running_daemon_prints_exactly_the_metrics_of_the_reference() -> Result<()> {
    let demo = Demo::start().await?;
    let printed = families::parse(&demo.metrics().await?);
    assert_eq!(printed, families::of_the_program());
    demo.stop().await
}

#[tokio::test]
#[ignore = "needs promtool: .ci/run installs it"]
async fn promtool_accepts_names_units_and_help() -> Result<()> {
    let demo = Demo::start().await?;
    promtool(&["check", "metrics"], &demo.metrics().await?).await?;
    demo.stop().await
}

#[tokio::test]
#[ignore = "needs promtool: .ci/run installs it"]
async fn every_alert_fires_when_it_should_and_not_otherwise() -> Result<()> {
    let tests = fleet::path("deploy/prometheus/rules_test.yaml").display().to_string();
    promtool(&["check", "rules", &fleet::path(rules::FILE).display().to_string()], "").await?;
    promtool(&["test", "rules", &tests], "").await
}

#[tokio::test]
#[ignore = "needs prometheus: .ci/run installs it"]
async fn a_real_prometheus_evaluates_every_expression_and_finds_data() -> Result<()> {
    let demo = Demo::start().await?;
    let prometheus = Prometheus::start(demo.http).await?;
    let enough = format!("count_over_time(up{{job=\"plegd\"}}[10m]) >= {SCRAPES}");
    let end = Instant::now() + DEADLINE;
    while !prometheus.has_data(&enough).await? {
        ensure!(Instant::now() < end, "prometheus does not scrape the daemon:\n{}", demo.daemon.log());
        sleep(Duration::from_millis(200)).await;
    }

    for (piece, _) in MAY_BE_EMPTY {
        assert!(
            dashboard::expressions().iter().any(|(_, expr)| expr.contains(piece)),
            "no expression contains {piece}"
        );
    }
    let mut wrong = Vec::new();
    for (panel, expr) in dashboard::expressions() {
        let sent = dashboard::as_sent(&expr, "15s");
        match prometheus.has_data(&sent).await {
            Err(error) => wrong.push(format!("{panel}: {error:#}")),
            Ok(false) if !MAY_BE_EMPTY.iter().any(|(piece, _)| expr.contains(piece)) => {
                wrong.push(format!("{panel} has no data: {sent}"));
            }
            Ok(_) => {}
        }
    }
    for rule in rules::all() {
        let queried = if rule.alert.is_some() { &rule.expr } else { &rule.name };
        match (prometheus.query(queried).await, rule.alert.is_some()) {
            (Err(error), _) => wrong.push(format!("{}: {error:#}", rule.name)),
            (Ok(answer), true) if !answer.is_empty() && !MAY_BE_PENDING.contains(&rule.name.as_str()) => {
                wrong.push(format!("{} fires on a healthy daemon: {answer:?}", rule.name));
            }
            (Ok(answer), false) if answer.iter().all(|(_, value)| value.is_nan()) => {
                wrong.push(format!("{} records nothing", rule.name));
            }
            _ => {}
        }
        // The silence of an alert proves something only if its series exist.
        for selector in promql::reads(&rule.expr).selectors {
            let matchers: Vec<String> =
                selector.matchers.iter().map(|(l, op, v)| format!("{l}{op}\"{v}\"")).collect();
            let series = format!("{}{{{}}}", selector.metric, matchers.join(","));
            if prometheus.query(&series).await?.is_empty() {
                wrong.push(format!("{} reads {series}, which does not exist", rule.name));
            }
        }
    }
    let groups = prometheus.api("rules").await?["data"]["groups"].as_array().cloned().unwrap_or_default();
    let evaluated: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
    assert_eq!(evaluated.len(), rules::all().len(), "prometheus has loaded all rules");
    for rule in evaluated.iter().filter(|rule| rule["health"] != "ok") {
        wrong.push(format!("{} is evaluated with an error: {}", rule["name"], rule["lastError"]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    prometheus.stop().await?;
    demo.stop().await
}
