//! A plegd that follows a runtime of the lab, in the test's process, and a subscriber that records every event.
//!
//! Owns the running `App`. It keeps the events in order from the first one on, for comparison with the client's history. Each
//! read of new events also checks their order, in every test.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use plegd::{
    app::App,
    clock::Clock,
    config::Config,
    cri::{Endpoint, Link},
    journal::{Cursor, Record},
    model::{EventType, Mode, Pod, Subject},
};

use super::{
    Client, Containerd, History,
    checker::{OrderChecker, PublishedHistories, is_complete, line, words},
    successful_relists, truth,
};

pub struct Follower {
    pub app: App,
    pub published: Vec<Arc<Record>>,
    /// Whether removed ids may reappear: see [`OrderChecker`].
    pub may_return: bool,
    cursor: Cursor,
    order: OrderChecker,
    /// How many of `published` were checked.
    checked: usize,
    modes: BTreeSet<&'static str>,
}

// === impl Follower ===

impl Follower {
    /// Starts a plegd with the default configuration.
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
            published: Vec::new(),
            may_return: false,
            cursor,
            order: OrderChecker::default(),
            checked: 0,
            modes: BTreeSet::new(),
        })
    }

    /// Waits until the first relist is complete and, on a runtime that has events, the relists after a new stream too. After
    /// that, changes come from the stream and from periodic relists.
    pub async fn until_following(&mut self, has_events: bool) -> Result<()> {
        self.until("the first relist", super::TIMEOUT, |it| it.app.health().ready().ok).await?;
        if has_events {
            let backlog = r#"plegd_relists_total{cause="backlog",result="ok"}"#;
            self.until("the relist after the stream's backlog", super::TIMEOUT, |it| {
                it.metric(backlog) > 0.0
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until `is` holds. Fails at once on an invalid event.
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
                    "waited {within:?} for {what}; published so far:\n{}\n{}",
                    self.lines().join("\n"),
                    counted.join("\n")
                );
            }
            // Wakes up at each event, and every 10 ms for modes and metrics.
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(10), self.cursor.next()).await {
                self.published.push(event?);
            }
        }
    }

    /// Reads the new events and checks their order.
    pub fn drain(&mut self) -> Result<()> {
        while let Some(event) = self.cursor.try_next()? {
            self.published.push(event);
        }
        self.modes.insert(self.app.follower_status().mode.as_str());
        while let Some(event) = self.published.get(self.checked) {
            self.checked += 1;
            let taken = self.order.take(event).and_then(|()| match self.order.returned().first() {
                Some(id) if !self.may_return => bail!("{id} was removed and reappeared"),
                _ => Ok(()),
            });
            taken.with_context(|| format!("published so far:\n{}", self.lines().join("\n")))?;
        }
        Ok(())
    }

    // --- Published events ---

    /// The events published for an id, as `Started!` (inferred), `Died(1 Error)` and so on.
    pub fn history_of(&self, id: &str) -> Vec<String> {
        words(self.events_of(id).map(|event| &event.event))
    }

    pub fn events_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Arc<Record>> {
        self.published.iter().filter(move |event| event.id.as_str() == id)
    }

    pub fn has_published(&self, id: &str, kind: EventType) -> bool {
        self.events_of(id).any(|event| event.kind == kind)
    }

    /// Deaths of containers that were published without an exit code.
    pub fn unknown_exits(&self) -> Vec<&Record> {
        let unknown = |event: &&Arc<Record>| {
            event.subject == Subject::Container
                && event.kind == EventType::ContainerDied
                && event.exit_code.is_none()
        };
        self.published.iter().filter(unknown).map(Arc::as_ref).collect()
    }

    pub fn lines(&self) -> Vec<String> {
        self.published.iter().map(|event| line(event)).collect()
    }

    /// Waits until every change in a client's history is published, and nothing else for these ids. A published exit code must
    /// be right; see [`Self::unknown_exits`].
    pub async fn until_published(&mut self, history: &History, within: Duration) -> Result<()> {
        self.until_published_for(history, within, |_| true).await
    }

    /// The same for some ids only.
    pub async fn until_published_for(
        &mut self,
        history: &History,
        within: Duration,
        of: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let result =
            self.until("the whole history", within, |it| it.incomplete(history, &of).is_empty()).await;
        let incomplete = self.incomplete(history, &of);
        match result {
            Err(_) if !incomplete.is_empty() => {
                bail!(
                    "events differ from the history:\n{}\nall events:\n{}",
                    incomplete.join("\n"),
                    self.lines().join("\n")
                )
            }
            result => result,
        }
    }

    /// Published ids without a removal.
    pub fn without_removal(&self) -> Vec<String> {
        let mut histories = PublishedHistories::default();
        self.published.iter().for_each(|event| histories.push(event));
        histories.without_removal()
    }

    /// Ids whose removal was published and which a read has found again.
    pub fn returned(&self) -> &BTreeSet<String> {
        self.order.returned()
    }

    /// The number of successful relists.
    pub fn relists(&self) -> f64 {
        let text = self.app.metrics().scrape().unwrap_or_default();
        successful_relists(&text)
    }

    /// Differences between the published events and the history.
    fn incomplete(&self, history: &History, of: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for (id, done) in history.by_id().iter().filter(|(id, _)| of(id)) {
            if !is_complete(done, self.events_of(id).map(|event| &event.event)) {
                found.push(format!("{id}: {done:?}, published {:?}", self.history_of(id)));
            }
        }
        found
    }

    // --- Served state ---

    pub fn pod(&self, pod: &super::Pod) -> Option<Arc<Pod>> {
        self.app.cache().get(&pod.uid.as_str().into())
    }

    /// Waits until the cache equals the runtime's state. Nothing may change meanwhile.
    pub async fn until_truth(&mut self, client: &Client, within: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + within;
        loop {
            self.drain()?;
            let found = truth::differences(&self.app.cache().list(), client).await?;
            if found.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                bail!("after {within:?} the cache differs from the runtime:\n{}", found.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    // --- Status of the app ---

    pub fn mode(&self) -> Mode {
        self.app.follower_status().mode
    }

    /// The modes observed since the last call.
    pub fn modes(&mut self) -> BTreeSet<&'static str> {
        std::mem::take(&mut self.modes)
    }

    /// The sum of the metric samples whose name and labels start with `sample`.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.app.metrics().scrape().unwrap_or_default();
        let values = text.lines().filter(|line| line.starts_with(sample));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Checks the last events and stops plegd.
    pub async fn stop(mut self) -> Result<()> {
        self.drain()?;
        self.app.stop().await;
        Ok(())
    }
}
