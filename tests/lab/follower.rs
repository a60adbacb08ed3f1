//! A plegd that follows a runtime of the lab, in the test's own process, and a subscriber who writes down all it tells.
//!
//! Owns the running `App`. What it was told is kept in order from the first event on, so that a test can hold it against the
//! client's history; every look at it also checks what must never happen, whatever a test is about.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use plegd::{
    app::App,
    clock::Clock,
    config::Config,
    cri::{Endpoint, Link},
    journal::{Cursor, Record},
    model::{EventType, Pod, Subject},
    supervisor::Mode,
};

use super::{
    Client, Containerd, History, good_relists,
    stories::{Order, Stories, is_told, line, words},
    truth,
};

pub struct Follower {
    pub app: App,
    pub told: Vec<Arc<Record>>,
    /// Whether the runtime may have again what it had removed: see [`Order`].
    pub may_return: bool,
    cursor: Cursor,
    order: Order,
    /// How many of `told` the order was told of.
    checked: usize,
    modes: BTreeSet<&'static str>,
}

// === impl Follower ===

impl Follower {
    /// Follows with the default configuration.
    pub fn start(containerd: &Containerd) -> Result<Self> {
        Self::start_with(containerd, |_| ())
    }

    pub fn start_with(containerd: &Containerd, configure: impl FnOnce(&mut Config)) -> Result<Self> {
        let mut config = Config::default();
        config.http.address = None;
        configure(&mut config);
        let endpoint: Endpoint = containerd.endpoint().parse().map_err(anyhow::Error::msg)?;
        let app = App::start(&config, Link::unix(endpoint), Clock::system());
        let cursor = app.journal().cursor(0);
        Ok(Self {
            app,
            told: Vec::new(),
            may_return: false,
            cursor,
            order: Order::default(),
            checked: 0,
            modes: BTreeSet::new(),
        })
    }

    /// Waits until the first relist is complete and, on a runtime that has events, until those that a new stream calls for
    /// are too: from then on it is the stream that tells, and the period that relists.
    pub async fn settled(&mut self, has_events: bool) -> Result<()> {
        self.until("the first relist", super::PATIENCE, |it| it.app.health().ready().ok).await?;
        if has_events {
            let backlog = r#"plegd_relists_total{cause="backlog",result="ok"}"#;
            self.until("the stream and its backlog", super::PATIENCE, |it| it.metric(backlog) > 0.0).await?;
        }
        Ok(())
    }

    /// Waits until `is` holds of what was told or of the app. Fails at once on what must never happen.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut is: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let end = tokio::time::Instant::now() + within;
        loop {
            self.drain()?;
            if is(self) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                let text = self.app.metrics().scrape().unwrap_or_default();
                let calls =
                    |line: &&str| line.starts_with("plegd_cri_requests") || line.starts_with("plegd_relist");
                let counted: Vec<&str> =
                    text.lines().filter(calls).filter(|line| !line.ends_with(" 0")).collect();
                bail!(
                    "waited {within:?} for {what}; told so far:\n{}\n{}",
                    self.lines().join("\n"),
                    counted.join("\n")
                );
            }
            // Wakes up when something is told, and now and then for what is not told: modes and metrics.
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(10), self.cursor.next()).await {
                self.told.push(event?);
            }
        }
    }

    /// Takes what was told meanwhile and checks all of it.
    pub fn drain(&mut self) -> Result<()> {
        while let Some(event) = self.cursor.try_next()? {
            self.told.push(event);
        }
        self.modes.insert(self.app.follower_status().mode.as_str());
        while let Some(event) = self.told.get(self.checked) {
            self.checked += 1;
            let taken = self.order.take(event).and_then(|()| match self.order.returned().first() {
                Some(id) if !self.may_return => bail!("{id} was removed and has come again"),
                _ => Ok(()),
            });
            taken.with_context(|| format!("told so far:\n{}", self.lines().join("\n")))?;
        }
        Ok(())
    }

    // --- What was told ---

    /// The events told of an id, as `Started!` (inferred), `Died(1 Error)` and so on.
    pub fn story(&self, id: &str) -> Vec<String> {
        words(self.events_of(id).map(|event| &event.event))
    }

    pub fn events_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Arc<Record>> {
        self.told.iter().filter(move |event| event.id.as_str() == id)
    }

    pub fn has_told(&self, id: &str, kind: EventType) -> bool {
        self.events_of(id).any(|event| event.kind == kind)
    }

    /// Containers of whose death the exit code is not told.
    pub fn unknown_exits(&self) -> Vec<&Record> {
        let unknown = |event: &&Arc<Record>| {
            event.subject == Subject::Container
                && event.kind == EventType::ContainerDied
                && event.exit_code.is_none()
        };
        self.told.iter().filter(unknown).map(Arc::as_ref).collect()
    }

    pub fn lines(&self) -> Vec<String> {
        self.told.iter().map(|event| line(event)).collect()
    }

    /// Waits until all that a client did has been told, and nothing else of those ids. An exit code that is told is the
    /// right one; see [`Self::unknown_exits`].
    pub async fn until_told(&mut self, history: &History, within: Duration) -> Result<()> {
        self.until_told_of(history, within, |_| true).await
    }

    /// The same for some ids only.
    pub async fn until_told_of(
        &mut self,
        history: &History,
        within: Duration,
        of: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let result = self.until("the whole history", within, |it| it.untold(history, &of).is_empty()).await;
        let untold = self.untold(history, &of);
        match result {
            Err(_) if !untold.is_empty() => {
                bail!("told otherwise than done:\n{}\nof\n{}", untold.join("\n"), self.lines().join("\n"))
            }
            result => result,
        }
    }

    /// Ids whose story has no end, of those that were told of.
    pub fn unfinished(&self) -> Vec<String> {
        let mut stories = Stories::default();
        self.told.iter().for_each(|event| stories.push(event));
        stories.unfinished()
    }

    /// Ids that were told removed, and that a read has found again.
    pub fn returned(&self) -> &BTreeSet<String> {
        self.order.returned()
    }

    /// Relists that were complete.
    pub fn relists(&self) -> f64 {
        let text = self.app.metrics().scrape().unwrap_or_default();
        good_relists(&text)
    }

    /// In what the stories differ from what was done.
    fn untold(&self, history: &History, of: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for (id, done) in history.by_id().iter().filter(|(id, _)| of(id)) {
            if !is_told(done, self.events_of(id).map(|event| &event.event)) {
                found.push(format!("{id}: {done:?}, told {:?}", self.story(id)));
            }
        }
        found
    }

    // --- What is served ---

    pub fn pod(&self, pod: &super::Pod) -> Option<Arc<Pod>> {
        self.app.cache().get(&pod.uid.as_str().into())
    }

    /// Waits until the cache is what the runtime says. The runtime must be at rest.
    pub async fn until_truth(&mut self, client: &Client, within: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + within;
        loop {
            self.drain()?;
            let found = truth::differences(&self.app.cache().list(), client).await?;
            if found.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                bail!("after {within:?} the cache is not the truth:\n{}", found.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    // --- What the app says of itself ---

    pub fn mode(&self) -> Mode {
        self.app.follower_status().mode
    }

    /// The modes that were seen at any look since the last call.
    pub fn modes(&mut self) -> BTreeSet<&'static str> {
        std::mem::take(&mut self.modes)
    }

    /// The samples of the metrics whose name and labels begin like this, added up.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.app.metrics().scrape().unwrap_or_default();
        let values = text.lines().filter(|line| line.starts_with(sample));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Ends it, after a last look.
    pub async fn stop(mut self) -> Result<()> {
        self.drain()?;
        self.app.stop().await;
        Ok(())
    }
}
