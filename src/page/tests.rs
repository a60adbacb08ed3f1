//! The page's stream as a browser receives it: over loopback, from a plegd on a simulated runtime, in real time.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    cri::{Connection, Link},
    http::{self, CLIENT_TIMEOUT, Served},
    sim::{
        Profile, SimRuntime, Target,
        truth::{ContainerSpec, SandboxSpec},
    },
};

/// Far more time than any test here takes.
const DEADLINE: Duration = Duration::from_secs(60);

struct Node {
    sim: SimRuntime,
    app: App,
    address: SocketAddr,
    page: Option<Page>,
    subscribers: Subscribers,
    serving: JoinHandle<()>,
}

/// One message of the stream.
#[derive(Debug)]
struct Message {
    id: Option<String>,
    event: String,
    data: Value,
}

struct Browser {
    stream: TcpStream,
    text: String,
}

// === impl Node ===

impl Node {
    async fn start() -> Self {
        Self::with(|_| (), CLIENT_TIMEOUT, |_| ()).await
    }

    async fn with(
        configure: impl FnOnce(&mut Config),
        client_timeout: Duration,
        history: impl FnOnce(&SimRuntime),
    ) -> Self {
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
        history(&sim);
        let mut config = Config::default();
        configure(&mut config);
        let connector = sim.connector();
        let link = Link::new("the simulated runtime", move || {
            let connection = connector.connect();
            Box::pin(async move { connection.map(|stream| Box::new(stream) as Box<dyn Connection>) })
        });
        let app = App::start(&config, link, Clock::system());
        let subscribers = Subscribers::new(config.api.subscribers);
        let page = Page::new(&app, &config, subscribers.clone());
        let served = Served {
            metrics: app.metrics().clone(),
            health: app.health().clone(),
            page: page.clone().map(Page::router),
        };
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = app.metrics().api.http_connections.clone();
        let router = http::router(served);
        let serving =
            tokio::spawn(http::serve_router(listener, router, open, client_timeout, app.stop_token()));
        Self { sim, app, address, page, subscribers, serving }
    }

    /// Runs a pod with a container and returns the container's id.
    fn pod(&self, name: &str) -> String {
        let spec = SandboxSpec::of_pod("default", name, &format!("uid-{name}"));
        self.sim.change(|truth| {
            let sandbox = truth.run_sandbox(spec.clone()).unwrap();
            let container = ContainerSpec::of_pod(&spec, "main", 0, "registry.example/app:1");
            let id = truth.create_container(&sandbox, container).unwrap();
            truth.start_container(&id).unwrap();
            id
        })
    }

    fn exit(&self, id: &str, code: i32) {
        self.sim.change(|truth| truth.exit(id, code).unwrap());
    }

    /// The response to a request for `path` with these headers.
    async fn request(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("it ends").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Pages that were refused.
    fn refused(&self) -> u64 {
        self.app.metrics().api.refused.with(metrics::Refusal::Page).get()
    }

    async fn open(&self) -> Browser {
        self.open_with("/page/events", "").await
    }

    async fn open_with(&self, path: &str, headers: &str) -> Browser {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // An answer in HTTP/1.0 has no chunks.
        let request = format!("GET {path} HTTP/1.0\r\nhost: localhost:7534\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut browser = Browser { stream, text: String::new() };
        let head = browser.block("\r\n\r\n").await.expect("a head").to_ascii_lowercase();
        assert!(head.starts_with("http/1.0 200"), "{head}");
        for header in ["text/event-stream", "no-store", "nosniff", "default-src 'none'"] {
            assert!(head.contains(header), "{head}");
        }
        browser
    }

    async fn until_watched_by(&self, count: usize) {
        let all = async {
            while self.subscribers.count() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, all).await.unwrap_or_else(|_| panic!("{} watch", self.subscribers.count()));
    }
}

// === impl Browser ===

impl Browser {
    /// The text before the next `end`; `None` at the end of the stream.
    async fn block(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once(end) {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let mut bytes = vec![0; 65536];
            match timeout(DEADLINE, self.stream.read(&mut bytes)).await.expect("data arrives") {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap()),
            }
        }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            let block = self.block("\n\n").await?;
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(event), Some(data)) = (field("event: "), field("data: ")) {
                return Some(Message {
                    id: field("id: "),
                    event,
                    data: serde_json::from_str(&data).unwrap(),
                });
            }
            assert!(block.starts_with("retry: "), "{block}");
        }
    }

    /// The next message of this kind, and the kinds of all messages before it except figures.
    async fn until(&mut self, event: &str) -> (Message, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("no {event} after {before:?}"));
            if message.event == event {
                return (message, before);
            }
            if message.event != "figures" {
                before.push(message.event);
            }
        }
    }

    /// The next change that meets the condition.
    async fn until_change(&mut self, is: impl Fn(&Value) -> bool) -> Message {
        loop {
            let (change, _) = self.until("change").await;
            if is(&change.data) {
                return change;
            }
        }
    }
}

fn sequence(message: &Message) -> u64 {
    message.id.as_ref().unwrap().parse::<Position>().unwrap().sequence
}

#[tokio::test]
async fn a_page_receives_a_snapshot_and_then_the_changes() {
    let node = Node::start().await;
    node.pod("web");
    let mut browser = node.open().await;
    let (hello, before) = browser.until("hello").await;
    assert!(before.is_empty() && hello.data["node"].is_string(), "{before:?} {hello:?}");
    let (synced, before) = browser.until("synced").await;
    assert!(before.iter().all(|event| event == "pod"), "{before:?}");
    assert_eq!(synced.data["pods"].as_u64().unwrap() as usize, before.len());
    let head = sequence(&synced);
    assert_eq!(synced.data["lately"].as_array().unwrap().len() as u64, head, "all events so far");

    let id = node.pod("api");
    let started =
        browser.until_change(|it| it["type"] == "ContainerStarted" && it["id"].as_str() == Some(&id)).await;
    assert!(sequence(&started) > head);
    assert_eq!(started.data["name"], "api");
    assert_eq!(started.data["pod"]["containers"][0]["state"], "running");
    assert_eq!(started.data["pod"]["containers"][0]["image"], "registry.example/app:1");
    node.exit(&id, 3);
    let died = browser.until_change(|it| it["type"] == "ContainerDied").await;
    assert_eq!((&died.data["exit"], &died.data["source"]), (&3.into(), &"event".into()));
    assert!(died.data["late"].as_f64().unwrap() >= 0.0);
    assert_eq!(died.data["pod"]["containers"][0]["state"], "exited");
    let (figures, _) = browser.until("figures").await;
    assert_eq!(figures.data["subscribers"], 1);
    assert_eq!(figures.data["head"].as_u64().unwrap(), sequence(&died));
    assert_eq!(node.subscribers.list()[0].info.client_name, "page");
    drop(browser);
    node.until_watched_by(0).await;
}

#[tokio::test]
async fn a_pod_has_its_activity_and_its_current_containers() {
    let node = Node::start().await;
    let id = node.pod("web");
    let mut browser = node.open().await;
    browser.until("synced").await;
    node.exit(&id, 0);
    let finished = browser.until_change(|it| it["pod"]["containers"][0]["state"] == "exited").await;
    let pod = &finished.data["pod"];
    assert_eq!((&pod["activity"], &pod["status"]), (&"waiting".into(), &"Waiting".into()));
    node.sim.change(|truth| {
        let sandbox = truth.container(&id).unwrap().sandbox_id.clone();
        let spec = SandboxSpec::of_pod("default", "web", "uid-web");
        let again =
            truth.create_container(&sandbox, ContainerSpec::of_pod(&spec, "main", 1, "app:1")).unwrap();
        truth.start_container(&again).unwrap();
    });
    let running = |it: &Value| it["pod"]["containers"].as_array().is_some_and(|all| all.len() == 2);
    let restarted = browser.until_change(|it| running(it) && it["pod"]["activity"] == "running").await;
    let containers = restarted.data["pod"]["containers"].as_array().unwrap();
    let current: Vec<_> =
        containers.iter().map(|it| (it["attempt"].as_u64(), it["current"].as_bool())).collect();
    assert_eq!(current, [(Some(1), Some(true)), (Some(0), Some(false))]);
}

#[tokio::test]
async fn a_name_cannot_reverse_the_text_of_the_page() {
    let node = Node::start().await;
    let mut browser = node.open().await;
    browser.until("synced").await;
    node.pod("a\u{202e}b\u{1b}[2J\u{2066}");
    let change = browser.until_change(|it| it["pod"]["containers"][0]["state"] == "running").await;
    let shown = "a\\u{202e}b\\u{1b}[2J\\u{2066}";
    assert_eq!((&change.data["name"], &change.data["pod"]["name"]), (&shown.into(), &shown.into()));
}

#[tokio::test]
async fn the_removal_of_a_pod_is_reported() {
    let node = Node::start().await;
    let id = node.pod("web");
    let mut browser = node.open().await;
    browser.until("synced").await;
    node.exit(&id, 0);
    let sandbox = node.sim.read(|truth| truth.container(&id).unwrap().sandbox_id.clone());
    node.sim.change(|truth| {
        truth.stop_sandbox(&sandbox).unwrap();
        truth.remove_container(&id).unwrap();
        truth.remove_sandbox(&sandbox).unwrap();
    });
    let gone = browser.until_change(|it| it.get("pod").is_some_and(Value::is_null)).await;
    assert_eq!(gone.data["uid"], "uid-web");
}

#[tokio::test]
async fn a_page_that_reconnects_resumes_at_its_position() {
    let node = Node::start().await;
    let id = node.pod("web");
    let mut browser = node.open().await;
    let (synced, _) = browser.until("synced").await;
    let mut last = sequence(&synced);
    if !synced.data["lately"].as_array().unwrap().iter().any(|it| it["id"].as_str() == Some(&id)) {
        let started = |it: &Value| it["id"].as_str() == Some(&id) && it["type"] == "ContainerStarted";
        last = sequence(&browser.until_change(started).await);
    }
    drop(browser);
    node.exit(&id, 1);
    let position = node.app.journal().position(last);
    for (path, headers) in [
        ("/page/events".to_owned(), format!("last-event-id: {position}\r\n")),
        (format!("/page/events?after={position}"), String::new()),
        // The browser's own position is newer than the position in the page's query.
        (format!("/page/events?after={:016x}:0", 1), format!("last-event-id: {position}\r\n")),
    ] {
        let mut again = node.open_with(&path, &headers).await;
        let (change, before) = again.until("change").await;
        assert_eq!(before, ["hello"], "{path}");
        assert_eq!(sequence(&change), last + 1, "{path}");
    }
}

#[tokio::test]
async fn a_page_whose_position_is_lost_receives_a_gap_and_a_new_snapshot() {
    let node = Node::with(|config| config.journal.events = 64, CLIENT_TIMEOUT, |_| ()).await;
    for n in 0..40 {
        let id = node.pod(&format!("web-{n}"));
        node.exit(&id, 0);
    }
    let all = async {
        while node.app.journal().stats().oldest < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, all).await.expect("events leave the journal");
    let old = node.app.journal().position(1);
    let foreign = Position { epoch: !old.epoch, sequence: 1 };
    for (position, reason) in [(old, "compacted"), (foreign, "foreign_epoch")] {
        let mut browser = node.open_with("/page/events", &format!("last-event-id: {position}\r\n")).await;
        let (gap, before) = browser.until("gap").await;
        assert_eq!((&gap.data["reason"], &before[..]), (&reason.into(), &["hello".to_owned()][..]));
        assert!(
            gap.id.is_none(),
            "a page that disconnects before the end of the snapshot must get another one"
        );
        let (synced, before) = browser.until("synced").await;
        assert!(before.iter().all(|event| event == "pod") && before.len() as u64 == synced.data["pods"]);
    }
}

#[tokio::test]
async fn confidential_data_is_not_sent() {
    let secret = |truth: &mut crate::sim::Truth, name: &str| {
        let mut spec = SandboxSpec::of_pod("default", name, name);
        spec.labels.insert("team".into(), "S3CRET-label".into());
        spec.annotations.insert("token".into(), "S3CRET-annotation".into());
        let sandbox = truth.run_sandbox(spec.clone()).unwrap();
        let mut container = ContainerSpec::of_pod(&spec, "main", 0, "app:1");
        container.labels.insert("team".into(), "S3CRET-label".into());
        container.annotations.insert("token".into(), "S3CRET-annotation".into());
        let id = truth.create_container(&sandbox, container).unwrap();
        truth.fail_start(&id, "cannot set env S3CRET-message").unwrap();
        truth.sandbox(&sandbox).unwrap().clone()
    };
    let node =
        Node::with(|_| (), CLIENT_TIMEOUT, |sim| drop(sim.change(|truth| secret(truth, "before")))).await;
    let mut browser = node.open().await;
    let mut received = String::new();
    node.sim.change(|truth| secret(truth, "after"));
    let complete =
        |text: &str| ["\"before\"", "\"after\"", "ContainerDied"].iter().all(|it| text.contains(it));
    while !complete(&received) {
        received += &browser.block("\n\n").await.expect("the stream continues");
    }
    assert!(!received.contains("S3CRET"), "{received}");
    let held = node.app.cache().list();
    let pod = held.iter().find(|pod| &*pod.identity.name == "before").unwrap();
    assert_eq!(pod.sandboxes[0].annotations.get("token"), Some("S3CRET-annotation"), "plegd itself has it");
    for ip in pod.ips.iter().filter(|ip| !ip.is_empty()) {
        assert!(!received.contains(ip.as_str()), "{ip}");
    }
}

#[tokio::test]
async fn the_number_of_pages_is_limited_and_each_page_counts_as_a_subscriber() {
    let node = Node::start().await;
    let mut pages = Vec::new();
    for _ in 0..MAX_PAGES {
        pages.push(node.open().await);
    }
    assert_eq!(node.subscribers.count(), MAX_PAGES);
    let full = node.request("/page/events", "host: localhost\r\n").await;
    assert!(full.starts_with("HTTP/1.0 503") && full.contains("close one"), "{full}");
    assert_eq!(node.refused(), 1);
    // All other paths are served as before.
    assert!(node.request("/livez", "").await.starts_with("HTTP/1.0 200"));
    pages.pop();
    node.until_watched_by(MAX_PAGES - 1).await;
    node.open().await.until("hello").await;

    let few = Node::with(|config| config.api.subscribers = 1, CLIENT_TIMEOUT, |_| ()).await;
    let _first = few.open().await;
    let full = few.request("/page/events", "host: localhost\r\n").await;
    assert!(full.starts_with("HTTP/1.0 503") && full.contains("api.subscribers"), "{full}");
    assert_eq!(few.refused(), 1);
}

#[tokio::test]
async fn a_page_that_does_not_read_is_disconnected() {
    let node = Node::with(|_| (), Duration::from_millis(200), |_| ()).await;
    // The names are so long that a snapshot of few pods is larger than all buffers between server and client.
    for n in 0..60 {
        node.pod(&format!("{}-{n}", "x".repeat(40_000)));
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(node.address).await.unwrap();
    stuck.write_all(b"GET /page/events HTTP/1.0\r\nhost: localhost\r\n\r\n").await.unwrap();
    node.until_watched_by(1).await;
    node.until_watched_by(0).await;
    assert_eq!(node.page.as_ref().unwrap().0.permits.available_permits(), MAX_PAGES);
}

#[tokio::test]
async fn by_default_the_page_is_available_to_browsers_on_this_machine_only() {
    let html = "accept: text/html,*/*;q=0.8\r\n";
    let node = Node::start().await;
    let page = node.request("/", &format!("host: 127.0.0.1:7534\r\n{html}")).await;
    assert!(page.starts_with("HTTP/1.0 200") && page.contains("<!doctype html>"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    let curl = node.request("/", "host: 127.0.0.1:7534\r\naccept: */*\r\n").await;
    assert!(curl.contains("text/plain") && curl.contains("/metrics  metrics"), "{curl}");
    for file in files::ALL {
        let answer = node.request(file.path, "host: localhost\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200") && answer.contains(file.kind), "{answer}");
        assert!(answer.contains("cache-control: no-store") && answer.ends_with(file.text), "{answer}");
    }
    for path in ["/", "/page/app.js", "/page/events"] {
        let answer = node.request(path, &format!("host: evil.example:7534\r\n{html}")).await;
        assert!(
            answer.starts_with("HTTP/1.0 403") && answer.contains("http://localhost"),
            "{path}: {answer}"
        );
        assert!(!answer.contains("<!doctype"), "{path}");
    }
    let cross = node.request("/page/events", "host: localhost\r\nsec-fetch-site: cross-site\r\n").await;
    assert!(cross.starts_with("HTTP/1.0 403"), "{cross}");

    let off = Node::with(|config| config.http.page = PageAccess::Off, CLIENT_TIMEOUT, |_| ()).await;
    assert!(off.page.is_none());
    assert!(off.request("/", &format!("host: localhost\r\n{html}")).await.contains("/metrics  metrics"));
    for path in ["/page/app.js", "/page/events"] {
        assert!(off.request(path, "host: localhost\r\n").await.starts_with("HTTP/1.0 404"), "{path}");
    }
    let on = Node::with(|config| config.http.page = PageAccess::On, CLIENT_TIMEOUT, |_| ()).await;
    assert!(on.request("/", &format!("host: node-1.example\r\n{html}")).await.contains("<!doctype html>"));
}

#[tokio::test]
async fn a_page_ends_when_an_operator_disconnects_it_or_plegd_stops() {
    let node = Node::start().await;
    let mut first = node.open().await;
    first.until("synced").await;
    assert!(node.subscribers.disconnect(node.subscribers.list()[0].id));
    let (ended, _) = first.until("ended").await;
    assert!(ended.data["why"].as_str().unwrap().contains("operator"), "{ended:?}");
    assert!(first.next().await.is_none(), "nothing follows");

    let mut second = node.open().await;
    second.until("synced").await;
    node.app.stop().await;
    while second.next().await.is_some() {}
    timeout(DEADLINE, node.serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_page_shows_that_listing_the_runtime_fails_until_it_succeeds_again() {
    let short_timeout = |config: &mut Config| config.runtime.request_timeout = Duration::from_millis(100);
    let node = Node::with(short_timeout, CLIENT_TIMEOUT, |_| ()).await;
    let mut browser = node.open().await;
    browser.until("synced").await;
    let (figures, _) = browser.until("figures").await;
    assert!(figures.data["trouble"].is_null(), "{figures:?}");
    node.sim.faults().hang(Target::Process);
    let trouble = async |browser: &mut Browser, expected: bool| loop {
        let (figures, _) = browser.until("figures").await;
        if figures.data["trouble"].is_string() == expected {
            return figures;
        }
    };
    let hung = timeout(DEADLINE, trouble(&mut browser, true)).await.expect("the error is shown");
    let text = hung.data["trouble"].as_str().unwrap();
    assert!(text.starts_with("Listing the runtime has failed since "), "{text}");
    assert!(
        text.contains(" UTC: ")
            && text.contains(" was not answered within 100ms. This page shows the state as of "),
        "{text}"
    );
    assert!(hung.data["failures"].as_u64().unwrap() >= 2, "{hung:?}");
    assert_ne!(hung.data["mode"], "evented");
    node.sim.faults().release(&Target::Process);
    timeout(DEADLINE, trouble(&mut browser, false)).await.expect("the error disappears");
}

#[tokio::test]
async fn each_relist_is_reported_once() {
    let node = Node::start().await;
    let mut browser = node.open().await;
    let mut numbers: Vec<u64> = Vec::new();
    while numbers.len() < 3 {
        let (figures, _) = browser.until("figures").await;
        for relist in figures.data["relists"].as_array().unwrap() {
            assert!(relist["ok"].as_bool().unwrap() && relist["took"].as_f64().unwrap() > 0.0, "{relist}");
            numbers.push(relist["n"].as_u64().unwrap());
        }
    }
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected);
}
