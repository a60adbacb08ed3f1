//! The page in a real browser: headless Chromium on the real daemon, which follows a simulated runtime.
//!
//! `cargo test --test page -- --ignored`; needs Chromium (Debian: `apt-get install chromium`).

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod binary;
mod browser;

use std::{ffi::OsString, net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use binary::Plegd;
use browser::{Browser, Screen};
use plegd::{
    clock::Clock,
    sim::{
        Dose, EventFault, Profile, SimRuntime,
        truth::{ContainerSpec, SandboxSpec},
    },
};

const DESK: Screen = Screen { width: 1280, height: 900, phone: false, scheme: "light" };
const PHONE: Screen = Screen { width: 390, height: 844, phone: true, scheme: "light" };

const LIVE: &str = "document.querySelector('#link').textContent.trim() === 'live'";

/// A daemon on a runtime whose pods a test makes.
struct Node {
    sim: SimRuntime,
    plegd: Plegd,
    address: SocketAddr,
    folder: tempfile::TempDir,
    _runtime: plegd::sim::serve::SocketHandle,
}

// === impl Node ===

impl Node {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
        let runtime = sim.serve_uds(folder.path().join("runtime.sock"))?;
        let (plegd, address) = daemon(folder.path(), "127.0.0.1:0").await?;
        Ok(Self { sim, plegd, address, folder, _runtime: runtime })
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Kills the daemon and returns when it is gone.
    async fn kill(&mut self) -> Result<()> {
        self.plegd.kill9().await
    }

    async fn start_again(&mut self) -> Result<()> {
        let (plegd, address) = daemon(self.folder.path(), &self.address.to_string()).await?;
        ensure!(address == self.address, "it listens at {address}");
        self.plegd = plegd;
        Ok(())
    }

    /// Runs a pod of one container, whose id it gives.
    fn run(&self, namespace: &str, name: &str, image: &str) -> Result<String> {
        let spec = SandboxSpec::of_pod(namespace, name, &format!("uid-{name}"));
        Ok(self.sim.change(|truth| {
            let sandbox = truth.run_sandbox(spec.clone())?;
            let id = truth.create_container(&sandbox, ContainerSpec::of_pod(&spec, "main", 0, image))?;
            truth.start_container(&id)?;
            Ok::<_, plegd::sim::truth::Refused>(id)
        })?)
    }

    fn exit(&self, id: &str, code: i32) -> Result<()> {
        Ok(self.sim.change(|truth| truth.exit(id, code))?)
    }
}

async fn daemon(folder: &Path, address: &str) -> Result<(Plegd, SocketAddr)> {
    let runtime = folder.join("runtime.sock").display().to_string();
    let arguments =
        ["run", "--config", "/dev/null", "--http-address", address, "--runtime-endpoint", &runtime];
    let environment = [("PLEGD_API_SOCKET", OsString::from(folder.join("plegd.sock")))];
    let (plegd, _) = Plegd::spawn(arguments, environment)?;
    let said = |line: &str| {
        let rest = line.split_once("over HTTP.")?.1;
        rest.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
    };
    let address = plegd.said("where it serves", said).await?;
    Ok((plegd, address))
}

/// The row of a pod, as an expression.
fn row(name: &str) -> String {
    format!("document.querySelector('tr.pod[data-uid=\"uid-{name}\"]')")
}

async fn opened(node: &Node, screen: Screen) -> Result<Browser> {
    let mut browser = Browser::start().await?;
    browser.screen(screen).await?;
    browser.open(&node.url()).await?;
    browser.until(LIVE).await?;
    Ok(browser)
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn a_pod_shows_as_it_is_created_dies_and_outlives_the_daemon() -> Result<()> {
    let mut node = Node::start().await?;
    let mut browser = opened(&node, DESK).await?;
    let web = node.run("shop", "web-1", "registry.example/web:1")?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-1"))).await?;
    node.exit(&web, 3)?;
    browser.until(&format!("{}.querySelector('.box.failed')", row("web-1"))).await?;
    browser.until(&format!("{}.textContent.includes('Died 3')", row("web-1"))).await?;
    browser.until("document.querySelector('#event-rows li').textContent.includes('Died 3')").await?;
    browser.until("document.querySelectorAll('#c-latency .dots').length > 0").await?;
    browser.until("document.querySelectorAll('#c-relists .mark').length > 0").await?;

    node.kill().await?;
    browser.until("!document.querySelector('#trouble').hidden").await?;
    let said = browser.value("document.querySelector('#trouble').textContent").await?;
    let said = said.as_str().context("words")?;
    ensure!(said.starts_with("plegd is not reachable since ") && said.contains("trying again"), "{said}");
    ensure!(browser.value(&format!("{} !== null", row("web-1"))).await? == true, "what was known is shown");
    // What happens while nobody watches shows afterwards.
    node.run("shop", "web-2", "registry.example/web:2")?;
    node.start_again().await?;
    browser.until(LIVE).await?;
    browser.until("document.querySelector('#trouble').hidden").await?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-2"))).await?;
    browser.until(&format!("{}.querySelector('.box.failed')", row("web-1"))).await?;
    let live = node.run("shop", "web-3", "registry.example/web:3")?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-3"))).await?;
    node.exit(&live, 0)?;
    browser.until(&format!("{}.querySelector('.box.done')", row("web-3"))).await?;
    // A daemon that is away is no mistake of the page's.
    browser
        .troubles
        .retain(|it| !it.contains("ERR_CONNECTION_REFUSED") && !it.contains("ERR_INCOMPLETE_CHUNKED"));
    ensure!(browser.troubles.is_empty(), "{:#?}", browser.troubles);
    browser.end().await
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn what_the_stream_misses_is_shown_on_both_paths() -> Result<()> {
    let node = Node::start().await?;
    let mut browser = opened(&node, DESK).await?;
    browser.until("document.querySelector('#stages [aria-current]').dataset.mode === 'probing'").await?;
    ensure!(browser.value("document.querySelector('#t-missed').textContent").await? == "0");
    node.sim.faults().events(EventFault::Drop, Dose::Always);
    node.run("shop", "web-1", "web:1")?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-1"))).await?;
    browser.until("document.querySelector('#c-share .fill.relist')").await?;
    browser.until("document.querySelector('#event-rows .by.relist')").await?;
    browser.until("document.querySelector('#c-relists .mark.missed')").await?;
    browser.until("document.querySelector('#t-missed').parentElement.classList.contains('bad')").await?;
    ensure!(browser.troubles.is_empty(), "{:#?}", browser.troubles);
    browser.end().await
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn it_is_searched_filtered_and_gone_through_by_keyboard() -> Result<()> {
    let node = Node::start().await?;
    for (namespace, name, image) in
        [("shop", "web-1", "web:1"), ("shop", "cart-1", "redis:7"), ("batch", "job-1", "backup:2")]
    {
        node.run(namespace, name, image)?;
    }
    let mut browser = opened(&node, DESK).await?;
    browser.until("document.querySelectorAll('tr.pod').length === 3").await?;
    // The first thing that Tab comes to leads past all the rest.
    browser.press("Tab").await?;
    browser.until("document.activeElement.className === 'skip'").await?;
    browser.press("/").await?;
    browser.until("document.activeElement.id === 'search'").await?;
    browser.write("redis").await?;
    browser.until("document.querySelectorAll('tr.pod').length === 1").await?;
    browser.until(&format!("{}.isConnected", row("cart-1"))).await?;
    browser.until("document.querySelector('#told').textContent === '1 pod found.'").await?;
    browser.press("Escape").await?;
    browser.until("document.querySelectorAll('tr.pod').length === 3").await?;
    browser.press("Escape").await?;
    browser.press("j").await?;
    browser.until(&format!("document.activeElement === {}", row("job-1"))).await?;
    browser.press("j").await?;
    browser.press("Enter").await?;
    browser.until(&format!("{}.getAttribute('aria-expanded') === 'true'", row("cart-1"))).await?;
    browser.until("document.querySelector('tr.detail').textContent.includes('uid-cart-1')").await?;

    let shown = "[...document.querySelectorAll('#event-rows li')]";
    browser.value("document.querySelector('[data-type=ContainerStarted]').click()").await?;
    browser
        .until(&format!("{shown}.length > 0 && {shown}.every((it) => !it.textContent.includes('Started'))"))
        .await?;
    browser.value("document.querySelector('[data-type=ContainerStarted]').click()").await?;
    let choose = "(() => { const it = document.querySelector('#f-ns'); it.value = 'batch'; it.dispatchEvent(new Event('input')); })()";
    browser.value(choose).await?;
    browser
        .until(&format!("{shown}.length > 0 && {shown}.every((it) => it.textContent.includes('batch/'))"))
        .await?;
    browser.press("f").await?;
    browser.until("document.activeElement.id === 'f-text'").await?;
    browser.write("nothing is called that").await?;
    browser.until("!document.querySelector('#events-empty').hidden").await?;
    browser.press("Escape").await?;
    browser.press("Escape").await?;
    browser.press("p").await?;
    browser.until("document.querySelector('#pause').getAttribute('aria-pressed') === 'true'").await?;
    node.run("batch", "job-2", "backup:2")?;
    browser.until("document.querySelector('#pause').textContent.includes('new')").await?;
    ensure!(
        browser.value(&format!("{shown}.some((it) => it.textContent.includes('job-2'))")).await? == false
    );
    browser.press("p").await?;
    browser.until(&format!("{shown}.some((it) => it.textContent.includes('job-2'))")).await?;
    browser.press("?").await?;
    browser.until("document.querySelector('#keys').open").await?;
    browser.press("Escape").await?;
    browser.until("!document.querySelector('#keys').open").await?;
    ensure!(browser.troubles.is_empty(), "{:#?}", browser.troubles);
    browser.end().await
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn it_is_readable_by_day_by_night_and_on_a_phone() -> Result<()> {
    let node = Node::start().await?;
    node.run(
        "shop",
        "web-with-a-name-that-is-as-long-as-kubernetes-lets-it-be-and-then-some-abcde",
        "web:1",
    )?;
    let mut browser = opened(&node, DESK).await?;
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.value(ground).await?;
    browser.screen(Screen { scheme: "dark", ..DESK }).await?;
    let dark = browser.value(ground).await?;
    ensure!(light != dark, "{light} by day and {dark} by night");
    // What is chosen counts more than what the system has, and is remembered.
    browser.press("t").await?;
    browser.until("document.documentElement.dataset.theme === 'light'").await?;
    ensure!(browser.value(ground).await? == light);
    browser.open(&node.url()).await?;
    browser.until(LIVE).await?;
    ensure!(browser.value(ground).await? == light);

    for screen in [PHONE, Screen { width: 320, ..PHONE }, Screen { width: 800, ..DESK }, DESK] {
        browser.screen(screen).await?;
        // A phone does not become one while a page is open.
        browser.open(&node.url()).await?;
        browser.until(LIVE).await?;
        browser.until("document.querySelectorAll('tr.pod').length === 1").await?;
        let wide = browser.value("document.documentElement.scrollWidth").await?;
        ensure!(wide == screen.width, "{wide} pixels on a screen of {}", screen.width);
        // Whatever can be operated has a name, and on a phone room for a finger.
        let nameless = "[...document.querySelectorAll('button, input, select')].filter((it) => !(it.textContent.trim() \
                        || it.getAttribute('aria-label') || it.labels?.[0]?.textContent.trim())).length";
        ensure!(browser.value(nameless).await? == 0);
        let charts = "[...document.querySelectorAll('svg')].every((it) => it.getAttribute('aria-label'))";
        ensure!(browser.value(charts).await? == true);
    }
    ensure!(browser.troubles.is_empty(), "{:#?}", browser.troubles);
    browser.end().await
}
