// The list of events, newest first. It can be filtered and paused.

import { SOURCES, TYPES, el, latency, number, precise, put } from "./words.js";

/** The number of events shown: more than a user scrolls through. */
const MAX_ROWS = 200;

export class Events {
  constructor(source) {
    this.source = source;
    this.list = document.getElementById("event-rows");
    this.types = [...document.querySelectorAll("[data-type]")];
    this.ns = document.getElementById("f-ns");
    this.from = document.getElementById("f-source");
    this.text = document.getElementById("f-text");
    this.pauseButton = document.getElementById("pause");
    this.frozen = null;
    this.key = "";
    for (const button of this.types) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        this.show();
      });
    }
    for (const it of [this.ns, this.from, this.text]) it.addEventListener("input", () => this.show());
    this.pauseButton.addEventListener("click", () => this.pause());
  }

  pause() {
    this.frozen = this.frozen ? null : { events: [...this.source.events], head: this.source.events.at(-1)?.seq ?? 0 };
    this.pauseButton.setAttribute("aria-pressed", String(this.frozen !== null));
    this.show();
  }

  filter() {
    const types = new Set(this.types.filter((it) => it.getAttribute("aria-pressed") === "true").map((it) => it.dataset.type));
    const terms = this.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [ns, from] = [this.ns.value, this.from.value];
    return (it) => {
      if (!types.has(it.type) || (ns && it.ns !== ns) || (from && it.source !== from)) return false;
      if (!terms.length) return true;
      const text = `${it.ns} ${it.name} ${it.container} ${it.type} ${it.subject} ${it.reason} ${it.id} ${it.exit ?? ""}`.toLowerCase();
      return terms.every((term) => text.includes(term));
    };
  }

  show() {
    this.namespaces();
    const events = this.frozen ? this.frozen.events : this.source.events;
    const passes = this.filter();
    const found = [];
    for (let at = events.length - 1; at >= 0 && found.length < MAX_ROWS; at -= 1) if (passes(events[at])) found.push(events[at]);
    const waiting = this.frozen ? this.source.events.filter((it) => it.seq > this.frozen.head).length : 0;
    const label = this.frozen ? (waiting ? `Resume · ${number(waiting)} new` : "Resume") : "Pause";
    if (this.pauseButton.textContent !== label) this.pauseButton.textContent = label;
    put("events-count", number(this.source.figures?.head ?? events.at(-1)?.seq ?? 0));
    const rows = new Map([...this.list.children].map((row) => [row.dataset.key, row]));
    const epoch = this.source.identity?.started ?? 0;
    const wanted = found.map((it) => rows.get(`${epoch}:${it.seq}`) ?? line(it, `${epoch}:${it.seq}`));
    const keep = new Set(wanted);
    for (const row of [...this.list.children]) if (!keep.has(row)) row.remove();
    wanted.forEach((row, at) => {
      if (this.list.children[at] !== row) this.list.insertBefore(row, this.list.children[at] ?? null);
    });
    const empty = document.getElementById("events-empty");
    empty.hidden = found.length > 0;
    put("events-empty", events.length ? "No recent event matches the filter." : "No events yet.");
    return found.length;
  }

  namespaces() {
    const known = new Set([...this.source.pods.values()].map((pod) => pod.ns));
    for (const it of this.source.events) known.add(it.ns);
    if (this.ns.value) known.add(this.ns.value);
    const names = [...known].sort();
    const key = names.join();
    if (key === this.key) return;
    this.key = key;
    const chosen = this.ns.value;
    this.ns.replaceChildren(el("option", { value: "" }, "all namespaces"), ...names.map((name) => el("option", { value: name }, name)));
    this.ns.value = chosen;
  }
}

function line(it, key) {
  const code = it.type === "ContainerDied" && it.exit != null ? ` ${it.exit}` : "";
  const bad = it.type === "ContainerDied" && it.exit ? " bad" : "";
  const row = el("li", { "data-key": key, class: it.fresh ? "fresh" : null },
    el("time", { datetime: new Date(it.at).toISOString() }, precise(it.at)),
    el("span", { class: `type ${it.type}${bad}` }, TYPES[it.type] + code),
    el("span", { class: "what" }, it.container ? el("b", {}, it.container) : el("span", { class: "faint" }, it.subject), el("span", { class: "ns" }, ` ${it.ns}/`), it.name, it.reason ? el("span", { class: "faint" }, ` ${it.reason}`) : null),
    el("span", { class: `by ${it.source}`, title: it.inferred ? "inferred from a later observation" : `detected first by the ${SOURCES[it.source]}` }, it.inferred ? "inferred" : SOURCES[it.source]),
    el("span", { class: "num" }, it.late == null ? "" : latency(it.late)));
  return row;
}
