//! The web page in headless Chromium, served by the daemon on a simulated runtime.
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

const DESKTOP: Screen = Screen { width: 1280, height: 900, phone: false, scheme: "light" };
const PHONE: Screen = Screen { width: 390, height: 844, phone: true, scheme: "light" };

const LIVE: &str = "document.querySelector('#link').textContent.trim() === 'live'";

/// A daemon on a simulated runtime.
struct Node {
    sim: SimRuntime,
    plegd: Plegd,
    address: SocketAddr,
    dir: tempfile::TempDir,
    _runtime: plegd::sim::serve::SocketHandle,
}

// === impl Node ===

impl Node {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
        let runtime = sim.serve_uds(dir.path().join("runtime.sock"))?;
        let (plegd, address) = daemon(dir.path(), "127.0.0.1:0").await?;
        Ok(Self { sim, plegd, address, dir, _runtime: runtime })
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Kills the daemon and waits for its end.
    async fn kill(&mut self) -> Result<()> {
        self.plegd.kill9().await
    }

    async fn restart(&mut self) -> Result<()> {
        let (plegd, address) = daemon(self.dir.path(), &self.address.to_string()).await?;
        ensure!(address == self.address, "it listens at {address}");
        self.plegd = plegd;
        Ok(())
    }

    /// Runs a pod with one container, and returns the container's id.
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

async fn daemon(dir: &Path, address: &str) -> Result<(Plegd, SocketAddr)> {
    let runtime = dir.join("runtime.sock").display().to_string();
    let arguments =
        ["run", "--config", "/dev/null", "--http-address", address, "--runtime-endpoint", &runtime];
    let environment = [("PLEGD_API_SOCKET", OsString::from(dir.join("plegd.sock")))];
    let (plegd, _) = Plegd::spawn(arguments, environment)?;
    let address_in = |line: &str| {
        let rest = line.split_once("over HTTP.")?.1;
        rest.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
    };
    let address = plegd.wait_for_line("the HTTP address", address_in).await?;
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
async fn a_pod_is_shown_from_its_creation_and_stays_while_the_daemon_is_down() -> Result<()> {
    let mut node = Node::start().await?;
    let mut browser = opened(&node, DESKTOP).await?;
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
    let banner = browser.value("document.querySelector('#trouble').textContent").await?;
    let banner = banner.as_str().context("a text")?;
    ensure!(
        banner.starts_with("plegd is not reachable since ") && banner.contains("trying again"),
        "{banner}"
    );
    ensure!(browser.value(&format!("{} !== null", row("web-1"))).await? == true, "the last state is shown");
    // Changes while the daemon is down are shown after its restart.
    node.run("shop", "web-2", "registry.example/web:2")?;
    node.restart().await?;
    browser.until(LIVE).await?;
    browser.until("document.querySelector('#trouble').hidden").await?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-2"))).await?;
    browser.until(&format!("{}.querySelector('.box.failed')", row("web-1"))).await?;
    let live = node.run("shop", "web-3", "registry.example/web:3")?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-3"))).await?;
    node.exit(&live, 0)?;
    browser.until(&format!("{}.querySelector('.box.done')", row("web-3"))).await?;
    // Failed requests while the daemon is down are no errors of the page.
    browser
        .problems
        .retain(|it| !it.contains("ERR_CONNECTION_REFUSED") && !it.contains("ERR_INCOMPLETE_CHUNKED"));
    ensure!(browser.problems.is_empty(), "{:#?}", browser.problems);
    browser.end().await
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn a_missed_event_is_shown_on_both_paths() -> Result<()> {
    let node = Node::start().await?;
    let mut browser = opened(&node, DESKTOP).await?;
    browser.until("document.querySelector('#stages [aria-current]').dataset.mode === 'probing'").await?;
    ensure!(browser.value("document.querySelector('#t-missed').textContent").await? == "0");
    node.sim.faults().events(EventFault::Drop, Dose::Always);
    node.run("shop", "web-1", "web:1")?;
    browser.until(&format!("{}.querySelector('.box.running')", row("web-1"))).await?;
    browser.until("document.querySelector('#c-share .fill.relist')").await?;
    browser.until("document.querySelector('#event-rows .by.relist')").await?;
    browser.until("document.querySelector('#c-relists .mark.missed')").await?;
    browser.until("document.querySelector('#t-missed').parentElement.classList.contains('bad')").await?;
    ensure!(browser.problems.is_empty(), "{:#?}", browser.problems);
    browser.end().await
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn the_page_is_searched_filtered_and_navigated_by_keyboard() -> Result<()> {
    let node = Node::start().await?;
    for (namespace, name, image) in
        [("shop", "web-1", "web:1"), ("shop", "cart-1", "redis:7"), ("batch", "job-1", "backup:2")]
    {
        node.run(namespace, name, image)?;
    }
    let mut browser = opened(&node, DESKTOP).await?;
    browser.until("document.querySelectorAll('tr.pod').length === 3").await?;
    // The first Tab focuses the skip link.
    browser.press("Tab").await?;
    browser.until("document.activeElement.className === 'skip'").await?;
    browser.press("/").await?;
    browser.until("document.activeElement.id === 'search'").await?;
    browser.write("redis").await?;
    browser.until("document.querySelectorAll('tr.pod').length === 1").await?;
    browser.until(&format!("{}.isConnected", row("cart-1"))).await?;
    browser.until("document.querySelector('#announcement').textContent === '1 pod found.'").await?;
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
    let select_namespace = "(() => { const it = document.querySelector('#f-ns'); it.value = 'batch'; it.dispatchEvent(new Event('input')); })()";
    browser.value(select_namespace).await?;
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
    ensure!(browser.problems.is_empty(), "{:#?}", browser.problems);
    browser.end().await
}

#[tokio::test]
#[ignore = "needs Chromium: see docs/testing.md"]
async fn the_page_is_readable_in_light_and_dark_and_on_a_phone() -> Result<()> {
    let node = Node::start().await?;
    node.run(
        "shop",
        "web-with-a-name-that-is-as-long-as-kubernetes-lets-it-be-and-then-some-abcde",
        "web:1",
    )?;
    let mut browser = opened(&node, DESKTOP).await?;
    let background = "getComputedStyle(document.body).backgroundColor";
    let light = browser.value(background).await?;
    browser.screen(Screen { scheme: "dark", ..DESKTOP }).await?;
    let dark = browser.value(background).await?;
    ensure!(light != dark, "light {light}, dark {dark}");
    // The chosen theme overrides the system's, and is stored.
    browser.press("t").await?;
    browser.until("document.documentElement.dataset.theme === 'light'").await?;
    ensure!(browser.value(background).await? == light);
    browser.open(&node.url()).await?;
    browser.until(LIVE).await?;
    ensure!(browser.value(background).await? == light);

    for screen in [PHONE, Screen { width: 320, ..PHONE }, Screen { width: 800, ..DESKTOP }, DESKTOP] {
        browser.screen(screen).await?;
        // A new screen needs a reload, because a device does not change while a page is open.
        browser.open(&node.url()).await?;
        browser.until(LIVE).await?;
        browser.until("document.querySelectorAll('tr.pod').length === 1").await?;
        let wide = browser.value("document.documentElement.scrollWidth").await?;
        ensure!(wide == screen.width, "{wide} pixels on a screen of {}", screen.width);
        // Every control has a name.
        let nameless = "[...document.querySelectorAll('button, input, select')].filter((it) => !(it.textContent.trim() \
                        || it.getAttribute('aria-label') || it.labels?.[0]?.textContent.trim())).length";
        ensure!(browser.value(nameless).await? == 0);
        let charts = "[...document.querySelectorAll('svg')].every((it) => it.getAttribute('aria-label'))";
        ensure!(browser.value(charts).await? == true);
    }
    ensure!(browser.problems.is_empty(), "{:#?}", browser.problems);
    browser.end().await
}
