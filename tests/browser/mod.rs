//! A headless Chromium, driven over the DevTools protocol through a pair of pipes.
//!
//! The protocol is JSON with a NUL after each message, so the few calls of the tests need no crate. This module owns the process and the
//! directory of its profile, and removes both. It opens only the address that it is given.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Deadline of one call; long, because the machine may be under load.
const DEADLINE: Duration = Duration::from_secs(90);

/// Its names in Debian and other distributions.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
    session: Option<String>,
    /// Exceptions in the page, and requests that its content security policy refused.
    pub problems: Vec<String>,
    _profile: tempfile::TempDir,
}

/// The screen on which the page is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub phone: bool,
    pub scheme: &'static str,
}

// === impl Browser ===

impl Browser {
    /// Starts Chromium with an empty page.
    pub async fn start() -> Result<Self> {
        let program = installed().context(
            "there is no Chromium on this machine; install it (Debian: apt-get install chromium) to run the page's tests",
        )?;
        let profile = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        // The protocol uses descriptors 3 and 4.
        command.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#]).arg(program);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
        ]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-dev-shm-usage", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting Chromium")?;
        let to = child.stdin.take().context("Chromium has no stdin")?;
        let from = BufReader::new(child.stdout.take().context("Chromium has no stdout")?);
        let mut it =
            Self { child, to, from, last: 0, session: None, problems: Vec::new(), _profile: profile };
        let target = it.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = it.call("Target.attachToTarget", attach).await?;
        it.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            it.call(domain, json!({})).await?;
        }
        Ok(it)
    }

    pub async fn screen(&mut self, screen: Screen) -> Result<()> {
        let Screen { width, height, phone, scheme } = screen;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", size).await?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    pub async fn open(&mut self, address: &str) -> Result<()> {
        let opened = self.call("Page.navigate", json!({ "url": address })).await?;
        match opened["errorText"].as_str() {
            Some(error) => bail!("{address} cannot be opened: {error}"),
            None => Ok(()),
        }
    }

    /// The value of an expression in the page.
    pub async fn value(&mut self, expression: &str) -> Result<Value> {
        let request = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", request).await?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&mut self, expression: &str) -> Result<()> {
        let whole = format!(
            "new Promise((done) => {{ const poll = () => {{ let is = false; try {{ is = Boolean({expression}); }} catch {{}} \
             if (is) done(true); else setTimeout(poll, 20); }}; poll(); }})"
        );
        self.value(&whole).await.with_context(|| format!("the page does not reach: {expression}"))?;
        Ok(())
    }

    /// Presses and releases a key.
    pub async fn press(&mut self, key: &str) -> Result<()> {
        let text = if key.chars().count() == 1 { key } else { "" };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { text };
        let down = json!({ "type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", down).await?;
        let up = json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", up).await?;
        Ok(())
    }

    pub async fn write(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// Closes the browser.
    pub async fn end(mut self) -> Result<()> {
        self.session = None;
        // Chromium may end before it has answered.
        let _ = self.call("Browser.close", json!({})).await;
        timeout(DEADLINE, self.child.wait()).await.context("Chromium does not end")??;
        Ok(())
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).await?;
        let (last, from, problems) = (self.last, &mut self.from, &mut self.problems);
        let answered = async {
            loop {
                let mut bytes = Vec::new();
                if from.read_until(0, &mut bytes).await? == 0 {
                    bail!(
                        "Chromium has ended; as root it needs a machine that allows it to run without its sandbox"
                    );
                }
                bytes.pop();
                let message: Value = serde_json::from_slice(&bytes)?;
                match message["method"].as_str() {
                    Some("Runtime.exceptionThrown" | "Log.entryAdded") => {
                        problems.push(message["params"].to_string())
                    }
                    _ if message["id"] == last => return Ok(message),
                    _ => {}
                }
            }
        };
        let answer =
            timeout(DEADLINE, answered).await.map_err(|_| anyhow!("Chromium does not answer {method}"))??;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer["result"].clone()),
        }
    }
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    NAMES.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|it| it.is_file())
}
