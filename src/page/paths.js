// The mode, the figures, and the comparison of both detection paths.

import { Chart, WINDOW, columns, marks, scatter } from "./charts.js";
import { activities, age, bytes, clock, latency, number, plural, put, quantile, seconds } from "./words.js";

const KINDS = ["event", "relist", "read"];
const NAMES = { event: "event stream", relist: "relist", read: "targeted read" };
const BIN_MS = 10_000;
const CAUSES = {
  start: "initial",
  period: "periodic",
  stream_lost: "stream lost",
  stream_up: "stream connected",
  backlog: "stream backlog",
  request: "on request",
  retry: "retry after a failure",
};

const ticked = (ms) => (ms < 1000 ? `${ms} ms` : `${ms / 1000} s`);

export class Paths {
  constructor(source) {
    this.source = source;
    this.latency = new Chart("c-latency", "Detection latency");
    this.share = new Chart("c-share", "First detection");
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
    const counts = activities(this.source.pods.values());
    put("t-pods", `${number(counts.running)} / ${number(this.source.pods.size)}`);
    document.getElementById("t-pods").parentElement.classList.toggle("bad", counts.failing > 0);
    put("t-containers", `${number(it.running)} / ${number(it.containers)}`);
    put("t-missed", number(it.missed));
    document.getElementById("t-missed").parentElement.classList.toggle("bad", it.missed > 0);
    put("t-subscribers", number(it.subscribers));
    const usage = this.source.cpuUsage();
    put("t-process", `${usage == null ? "–" : `${(usage * 100).toFixed(1)} %`} · ${bytes(it.memory)}`);
    put("t-rate", number(this.source.since(60_000).length));
    for (const stage of document.querySelectorAll("#stages li")) {
      if (stage.dataset.mode === it.mode) stage.setAttribute("aria-current", "step");
      else stage.removeAttribute("aria-current");
    }
    put("mode-reason", this.modeReason(it));
    const { both, event_only: event, relist_only: relist } = it.seen;
    const all = both + event + relist;
    const bar = document.getElementById("seen");
    for (const [kind, count] of [["both", both], ["event", event], ["relist", relist]]) {
      bar.querySelector(`.${kind}`).style.flexGrow = all ? count / all : 0;
    }
    const summary = all
      ? `${number(both)} by both, ${number(event)} by the stream only, ${number(relist)} by a relist only. The stream missed ${number(it.missed)}.`
      : "No data yet: a change is counted after the next relist.";
    put("seen-text", summary);
    bar.setAttribute("aria-label", summary);
  }

  /** The reason for the mode, as text. */
  modeReason(it) {
    if (!it.ready) return `The first relist is not complete yet; the event stream is ${it.stream}.`;
    const since = age(this.source.now() - it.mode_since);
    // The banner shows the time and the error.
    if (it.trouble) {
      const stream = it.stream_up ? "up, but not verified by relists" : `down (${it.stream})`;
      return `For ${since}: the event stream is ${stream}. ${plural(it.failures, "consecutive relist")} failed.`;
    }
    const every = seconds(it.period);
    if (it.yielded) {
      const retry = age(it.yielded.retry - this.source.now());
      return `For ${since}: yielded the shared event stream to another subscriber; polling. Relist every ${every}; next attempt to reconnect the stream in ${retry}.`;
    }
    if (it.mode === "polling") return `For ${since}: the event stream is down (${it.stream}). Relist every ${every}.`;
    const up = age(this.source.now() - it.stream_since);
    if (it.mode === "probing") {
      const missed = it.missed ? ` It missed ${plural(it.missed, "change")} since the start of plegd.` : "";
      return `For ${since}: the event stream, up for ${up}, is not trusted yet.${missed} Relist every ${every}; each relist that finds no missed change doubles the period.`;
    }
    return `For ${since}: the event stream, up for ${up}, is trusted. Verification relist every ${every}.`;
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
      const object = it.container ? `${it.name} / ${it.container}` : it.name;
      dots.push({ at: it.at, value: it.late, kind: it.source, label: `${latency(it.late)} · ${it.type} ${object}` });
    }
    const summary = [];
    for (const kind of KINDS) {
      const sorted = late[kind].sort((a, b) => a - b);
      const [p50, p99] = [quantile(sorted, 0.5), quantile(sorted, 0.99)];
      const part = events.length ? (100 * first[kind]) / events.length : 0;
      put(`v-${kind}-first`, events.length ? `${part < 10 && part > 0 ? part.toFixed(1) : Math.round(part)} %` : "–");
      put(`v-${kind}-p50`, latency(p50));
      put(`v-${kind}-p99`, latency(p99));
      if (p50 != null) summary.push(`${NAMES[kind]}: p50 ${latency(p50)}, p99 ${latency(p99)}`);
    }
    const label = `Detection latency over 5 minutes. ${summary.join("; ") || "No data yet"}.`;
    const max = dots.reduce((max, dot) => Math.max(max, dot.value), 0);
    scatter(this.latency, now, dots, 0.2, max > 1000 ? 60_000 : 1500, [1, 10, 100, 1000, 10_000, 60_000], ticked, label);
    this.first(now, events);
    this.timeline(now);
  }

  first(now, events) {
    const bins = new Map();
    for (const it of events) {
      const from = Math.floor(it.at / BIN_MS) * BIN_MS;
      let bin = bins.get(from);
      if (!bin) bins.set(from, (bin = { event: 0, relist: 0, read: 0 }));
      bin[it.source] += 1;
    }
    const shown = [...bins].map(([from, bin]) => ({
      from,
      to: from + BIN_MS,
      parts: KINDS.map((kind) => [kind, bin[kind]]),
      label: `${clock(from)} · ${KINDS.filter((kind) => bin[kind]).map((kind) => `${bin[kind]} ${NAMES[kind]}`).join(", ")}`,
    }));
    columns(this.share, now, shown, `First detection over 5 minutes: ${plural(events.length, "event")}.`);
  }

  timeline(now) {
    const recent = this.source.relists.filter((it) => it.at > now - WINDOW);
    const points = recent.map((it) => ({
      at: it.at,
      value: it.took,
      kind: !it.ok ? "failed" : it.cause === "period" ? "relist" : "called",
      label: `${clock(it.at)} · ${latency(it.took)} · ${CAUSES[it.cause] ?? it.cause}${it.ok ? "" : " · failed"}`,
    }));
    const missed = this.source.misses.filter((it) => it.at > now - WINDOW);
    for (const it of missed) {
      points.push({ at: it.at, value: 5000, kind: "missed", label: `${clock(it.at)} · the stream missed ${plural(it.count, "change")}` });
    }
    const failed = recent.filter((it) => !it.ok).length;
    const last = recent.at(-1);
    const summary = recent.length
      ? `${plural(recent.length, "relist")} in 5 minutes, ${failed ? `${number(failed)} failed` : "none failed"}; the last one took ${latency(last.took)}, ${age(now - last.at)} ago${missed.length ? "; red: missed by the stream" : ""}`
      : "none in the last 5 minutes";
    put("c-relists-text", summary);
    marks(this.relists, now, points, 0.5, 5000, [1, 100], ticked, `Relists: ${summary}.`);
  }
}
