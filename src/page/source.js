// What plegd tells, held as the page shows it: pods, events of late, relists, figures. It knows no element.

const EVENTS = 3000;
const RELISTS = 400;

/** Follows plegd until the page is closed. `changed(what)` is called after each message. */
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
    this.who = null;
    this.synced = false;
    this.link = { state: "connecting", since: Date.now() };
    this.skew = 0;
    this.snapshot = null;
    this.id = "";
    this.retry = null;
    this.connect();
  }

  /** Now, by plegd's clock. */
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
        this.alive();
        then(JSON.parse(message.data));
        this.changed(kind);
      });
    on("hello", (who) => {
      // Another run of plegd counts from the beginning.
      if (this.who && this.who.started !== who.started) this.relists = [];
      this.who = who;
      this.cpu = [];
      this.snapshot = null;
      this.set("live");
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
    on("change", (event) => this.happened(event));
    on("gap", () => {});
    on("bookmark", () => {});
    on("mode", () => {});
    on("figures", (figures) => this.measured(figures));
    on("ended", ({ why }) => {
      stream.close();
      this.set("ended", why);
    });
    stream.onerror = () => {
      if (this.link.state === "ended") return;
      const refused = stream.readyState === EventSource.CLOSED;
      this.set(refused ? "refused" : "lost");
      // The browser tries again by itself, unless it was given an answer.
      if (refused) this.retry = setTimeout(() => this.connect(), 5000);
      this.changed("link");
    };
  }

  /** A connection that says nothing for so long is none: figures come every second. */
  alive() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.stream.close();
      this.set("lost");
      this.changed("link");
      this.connect();
    }, 15_000);
  }

  set(state, why = "") {
    if (this.link.state === state) return;
    const troubled = (it) => it === "lost" || it === "refused";
    const since = troubled(state) && troubled(this.link.state) ? this.link.since : Date.now();
    this.link = { state, why, since };
  }

  happened(event) {
    if (event.pod) this.pods.set(event.uid, event.pod);
    else if (event.pod === null) this.pods.delete(event.uid);
    delete event.pod;
    event.fresh = true;
    this.last.set(event.uid, event);
    if (!this.pods.has(event.uid)) this.last.delete(event.uid);
    this.events.push(event);
    if (this.events.length > EVENTS + 500) this.events.splice(0, this.events.length - EVENTS);
  }

  measured(figures) {
    this.skew = figures.at - Date.now();
    const more = figures.missed - (this.figures?.missed ?? figures.missed);
    if (more > 0) this.misses.push({ at: figures.at, count: more });
    if (this.misses.length > RELISTS) this.misses.shift();
    this.figures = figures;
    const known = this.relists.at(-1)?.n ?? 0;
    this.relists.push(...figures.relists.filter((relist) => relist.n > known));
    if (this.relists.length > RELISTS) this.relists.splice(0, this.relists.length - RELISTS);
    this.cpu.push([figures.at, figures.cpu]);
    if (this.cpu.length > 30) this.cpu.shift();
    this.set("live");
  }

  /** Part of one core that was used of late; none before there are two figures. */
  load() {
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
