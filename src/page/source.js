// The data from plegd: pods, recent events, relists and figures. Independent of the document.

/** Events and relists kept in memory. */
const MAX_EVENTS = 3000;
const MAX_RELISTS = 400;

/** Receives updates until the page is closed. `changed(kind)` is called after each message. */
export class Source {
  constructor(changed) {
    this.changed = changed;
    this.pods = new Map();
    this.last = new Map();
    this.events = [];
    this.relists = [];
    this.misses = [];
    this.cpu = [];
    this.figures = null;
    this.identity = null;
    this.synced = false;
    this.link = { state: "connecting", since: Date.now() };
    this.skew = 0;
    this.snapshot = null;
    this.id = "";
    this.retry = null;
    this.connect();
  }

  /** The current time of plegd's clock. */
  now() {
    return Date.now() + this.skew;
  }

  connect() {
    clearTimeout(this.retry);
    const after = this.id ? `?after=${encodeURIComponent(this.id)}` : "";
    const stream = (this.stream = new EventSource(`/page/events${after}`));
    const on = (kind, then) =>
      stream.addEventListener(kind, (message) => {
        if (message.lastEventId) this.id = message.lastEventId;
        this.resetWatchdog();
        then(JSON.parse(message.data));
        this.changed(kind);
      });
    on("hello", (identity) => {
      // A restarted plegd numbers its relists from 1.
      if (this.identity && this.identity.started !== identity.started) this.relists = [];
      this.identity = identity;
      this.cpu = [];
      this.snapshot = null;
      this.setLink("live");
    });
    on("pod", (pod) => (this.snapshot ??= new Map()).set(pod.uid, pod));
    on("synced", ({ lately }) => {
      this.pods = this.snapshot ?? new Map();
      this.snapshot = null;
      this.events = lately;
      this.last.clear();
      for (const event of lately) this.last.set(event.uid, event);
      this.synced = true;
    });
    on("change", (event) => this.applyChange(event));
    on("gap", () => {});
    on("bookmark", () => {});
    on("mode", () => {});
    on("figures", (figures) => this.applyFigures(figures));
    on("ended", ({ why }) => {
      stream.close();
      this.setLink("ended", why);
    });
    stream.onerror = () => {
      if (this.link.state === "ended") return;
      const refused = stream.readyState === EventSource.CLOSED;
      this.setLink(refused ? "refused" : "lost");
      // The browser reconnects automatically, unless it received an HTTP error.
      if (refused) this.retry = setTimeout(() => this.connect(), 5000);
      this.changed("link");
    };
  }

  /** Reconnects after 15 s without a message. Figures arrive every second. */
  resetWatchdog() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => {
      this.stream.close();
      this.setLink("lost");
      this.changed("link");
      this.connect();
    }, 15_000);
  }

  setLink(state, why = "") {
    if (this.link.state === state) return;
    const down = (it) => it === "lost" || it === "refused";
    const since = down(state) && down(this.link.state) ? this.link.since : Date.now();
    this.link = { state, why, since };
  }

  applyChange(event) {
    if (event.pod) this.pods.set(event.uid, event.pod);
    else if (event.pod === null) this.pods.delete(event.uid);
    delete event.pod;
    event.fresh = true;
    this.last.set(event.uid, event);
    if (!this.pods.has(event.uid)) this.last.delete(event.uid);
    this.events.push(event);
    if (this.events.length > MAX_EVENTS + 500) this.events.splice(0, this.events.length - MAX_EVENTS);
  }

  applyFigures(figures) {
    this.skew = figures.at - Date.now();
    const more = figures.missed - (this.figures?.missed ?? figures.missed);
    if (more > 0) this.misses.push({ at: figures.at, count: more });
    if (this.misses.length > MAX_RELISTS) this.misses.shift();
    this.figures = figures;
    const known = this.relists.at(-1)?.n ?? 0;
    this.relists.push(...figures.relists.filter((relist) => relist.n > known));
    if (this.relists.length > MAX_RELISTS) this.relists.splice(0, this.relists.length - MAX_RELISTS);
    this.cpu.push([figures.at, figures.cpu]);
    if (this.cpu.length > 30) this.cpu.shift();
    this.setLink("live");
  }

  /** Recent CPU usage as a fraction of one core; null before the second figures. */
  cpuUsage() {
    const [first, last] = [this.cpu[0], this.cpu.at(-1)];
    return first && last[0] > first[0] ? ((last[1] - first[1]) * 1000) / (last[0] - first[0]) : null;
  }

  since(ms) {
    const from = this.now() - ms;
    let at = this.events.length;
    while (at > 0 && this.events[at - 1].at >= from) at -= 1;
    return this.events.slice(at);
  }
}
