// Mode, figures, and the two paths side by side.

import { Chart, WINDOW, columns, marks, scatter } from "./charts.js";
import { activities, age, bytes, clock, latency, number, plural, put, quantile, seconds } from "./words.js";

const KINDS = ["event", "relist", "read"];
const NAMES = { event: "event stream", relist: "relist", read: "targeted read" };
const BIN = 10_000;
const CAUSES = {
  start: "at the start",
  period: "on time",
  stream_lost: "since the stream was lost",
  stream_up: "since the stream came up",
  backlog: "after the stream's backlog",
  request: "on request",
  retry: "again after a failure",
};

const ticked = (ms) => (ms < 1000 ? `${ms} ms` : `${ms / 1000} s`);

export class Paths {
  constructor(source) {
    this.source = source;
    this.latency = new Chart("c-latency", "Detection latency");
    this.share = new Chart("c-share", "Who was first");
    this.relists = new Chart("c-relists", "Relists");
    for (const chart of [this.latency, this.share, this.relists]) chart.redraw = () => this.charts();
  }

  show() {
    this.figures();
    this.charts();
  }

  figures() {
    const it = this.source.figures;
    if (!it) return;
    const doing = activities(this.source.pods.values());
    put("t-pods", `${number(doing.running)} / ${number(this.source.pods.size)}`);
    document.getElementById("t-pods").parentElement.classList.toggle("bad", doing.failing > 0);
    put("t-containers", `${number(it.running)} / ${number(it.containers)}`);
    put("t-missed", number(it.missed));
    document.getElementById("t-missed").parentElement.classList.toggle("bad", it.missed > 0);
    put("t-subscribers", number(it.subscribers));
    const load = this.source.load();
    put("t-process", `${load == null ? "–" : `${(load * 100).toFixed(1)} %`} · ${bytes(it.memory)}`);
    put("t-rate", number(this.source.since(60_000).length));
    for (const stage of document.querySelectorAll("#stages li")) {
      if (stage.dataset.mode === it.mode) stage.setAttribute("aria-current", "step");
      else stage.removeAttribute("aria-current");
    }
    put("why", this.why(it));
    const { both, event_only: event, relist_only: relist } = it.seen;
    const all = both + event + relist;
    const bar = document.getElementById("seen");
    for (const [kind, count] of [["both", both], ["event", event], ["relist", relist]]) {
      bar.querySelector(`.${kind}`).style.flexGrow = all ? count / all : 0;
    }
    const words = all
      ? `${number(both)} by both, ${number(event)} by the stream alone, ${number(relist)} by a relist alone. The stream has missed ${number(it.missed)}.`
      : "Nothing settled yet: a relist must have had its chance to see it too.";
    put("seen-text", words);
    bar.setAttribute("aria-label", words);
  }

  /** The mode in a sentence, and the reason. */
  why(it) {
    if (!it.ready) return `plegd has not yet listed the runtime completely; the event stream is ${it.stream}.`;
    const since = age(this.source.now() - it.mode_since);
    // The line above the page says since when, and why.
    if (it.trouble) {
      const stream = it.stream_up ? "up, and no relist checks it" : `not up (${it.stream})`;
      return `For ${since}: the event stream is ${stream}. The runtime cannot be listed: ${plural(it.failures, "relist")} in a row failed.`;
    }
    const every = seconds(it.period);
    if (it.yielded) {
      const retry = age(it.yielded.retry - this.source.now());
      return `For ${since}: yielded the shared event stream to another subscriber; polling. Everything is listed every ${every}, and the stream is tried again in ${retry}.`;
    }
    if (it.mode === "polling") return `For ${since}: the event stream is not up (${it.stream}), so everything is listed every ${every}.`;
    const up = age(this.source.now() - it.stream_since);
    if (it.mode === "probing") {
      const missed = it.missed ? `It has missed ${plural(it.missed, "change")} since the start. ` : "";
      return `For ${since}: the stream is up since ${up} and on probation. ${missed}A relist every ${every} checks it, and each that finds nothing missed doubles the period.`;
    }
    return `For ${since}: the stream, up since ${up}, has proven right up to the longest period. A relist every ${every} still checks it.`;
  }

  charts() {
    const now = this.source.now();
    const events = this.source.since(WINDOW);
    const late = { event: [], relist: [], read: [] };
    const first = { event: 0, relist: 0, read: 0 };
    const dots = [];
    for (const it of events) {
      first[it.source] += 1;
      if (it.late == null) continue;
      late[it.source].push(it.late);
      const what = it.container ? `${it.name} / ${it.container}` : it.name;
      dots.push({ at: it.at, value: it.late, kind: it.source, words: `${latency(it.late)} · ${it.type} ${what}` });
    }
    const said = [];
    for (const kind of KINDS) {
      const sorted = late[kind].sort((a, b) => a - b);
      const [p50, p99] = [quantile(sorted, 0.5), quantile(sorted, 0.99)];
      const part = events.length ? (100 * first[kind]) / events.length : 0;
      put(`v-${kind}-first`, events.length ? `${part < 10 && part > 0 ? part.toFixed(1) : Math.round(part)} %` : "–");
      put(`v-${kind}-p50`, latency(p50));
      put(`v-${kind}-p99`, latency(p99));
      if (p50 != null) said.push(`${NAMES[kind]}: half within ${latency(p50)}, 99 % within ${latency(p99)}`);
    }
    const label = `Detection latency over 5 minutes. ${said.join("; ") || "Nothing to show yet"}.`;
    const most = dots.reduce((most, dot) => Math.max(most, dot.value), 0);
    scatter(this.latency, now, dots, 0.2, most > 1000 ? 60_000 : 1500, [1, 10, 100, 1000, 10_000, 60_000], ticked, label);
    this.first(now, events);
    this.timeline(now);
  }

  first(now, events) {
    const bins = new Map();
    for (const it of events) {
      const from = Math.floor(it.at / BIN) * BIN;
      let bin = bins.get(from);
      if (!bin) bins.set(from, (bin = { event: 0, relist: 0, read: 0 }));
      bin[it.source] += 1;
    }
    const shown = [...bins].map(([from, bin]) => ({
      from,
      to: from + BIN,
      parts: KINDS.map((kind) => [kind, bin[kind]]),
      words: `${clock(from)} · ${KINDS.filter((kind) => bin[kind]).map((kind) => `${bin[kind]} ${NAMES[kind]}`).join(", ")}`,
    }));
    columns(this.share, now, shown, `Who was first over 5 minutes: ${plural(events.length, "event")}.`);
  }

  timeline(now) {
    const recent = this.source.relists.filter((it) => it.at > now - WINDOW);
    const points = recent.map((it) => ({
      at: it.at,
      value: it.took,
      kind: !it.ok ? "failed" : it.cause === "period" ? "relist" : "called",
      words: `${clock(it.at)} · ${latency(it.took)} · ${CAUSES[it.cause] ?? it.cause}${it.ok ? "" : " · failed"}`,
    }));
    const missed = this.source.misses.filter((it) => it.at > now - WINDOW);
    for (const it of missed) {
      points.push({ at: it.at, value: 5000, kind: "missed", words: `${clock(it.at)} · the stream has missed ${plural(it.count, "change")}` });
    }
    const failed = recent.filter((it) => !it.ok).length;
    const last = recent.at(-1);
    const words = recent.length
      ? `${plural(recent.length, "relist")} in 5 minutes, ${failed ? `${number(failed)} failed` : "none failed"}; the last took ${latency(last.took)}, ${age(now - last.at)} ago${missed.length ? "; red is what the stream missed" : ""}`
      : "none in the last 5 minutes";
    put("c-relists-text", words);
    marks(this.relists, now, points, 0.5, 5000, [1, 100], ticked, `Relists: ${words}.`);
  }
}
