// The table of pods, with search, sorting and details. A row is created once for each pod and updated when the pod changes.

import { TYPES, activities, age, clock, el, number, plural, put } from "./words.js";

/** The largest number of rows. Beyond it, a search is more useful than scrolling. */
const MAX_ROWS = 250;

export class Pods {
  constructor(source) {
    this.source = source;
    this.rows = new Map();
    this.open = new Set();
    this.by = { key: "name", up: true };
    this.body = document.getElementById("pod-rows");
    this.search = document.getElementById("search");
    this.search.addEventListener("input", () => this.show());
    for (const button of document.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => this.sort(button));
    }
    this.body.addEventListener("click", (click) => {
      const row = click.target.closest("tr.pod");
      if (row && !getSelection().toString()) this.toggle(row.dataset.uid);
    });
    this.body.addEventListener("keydown", (press) => this.onKey(press));
  }

  sort(button) {
    const key = button.dataset.sort;
    this.by = { key, up: this.by.key === key ? !this.by.up : key === "name" };
    for (const head of document.querySelectorAll(".pods th[aria-sort]")) head.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", this.by.up ? "ascending" : "descending");
    this.show();
  }

  onKey(press) {
    const row = press.target.closest("tr.pod");
    if (!row || press.target !== row) return;
    if (press.key === "Enter" || press.key === " ") this.toggle(row.dataset.uid);
    else return;
    press.preventDefault();
  }

  /** Moves the focus by `by` rows, or into the table if it is elsewhere. */
  move(by) {
    const rows = [...this.body.querySelectorAll("tr.pod")];
    const at = rows.indexOf(document.activeElement?.closest?.("tr.pod"));
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  toggle(uid) {
    if (!this.open.delete(uid)) this.open.add(uid);
    this.show();
  }

  matches(pod, terms) {
    const parts = [pod.ns, pod.name, pod.uid, pod.activity, pod.status];
    for (const it of pod.containers) parts.push(it.name, it.image, it.state, it.reason, it.id);
    for (const it of pod.sandboxes) parts.push(it.id, it.state);
    const text = parts.join(" ").toLowerCase();
    return terms.every((term) => text.includes(term));
  }

  show() {
    const { pods, last, synced } = this.source;
    const terms = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...pods.values()].filter((pod) => this.matches(pod, terms));
    const createdAt = (pod) => pod.sandboxes.at(-1)?.created ?? 0;
    const keys = {
      name: (a, b) => a.ns.localeCompare(b.ns) || a.name.localeCompare(b.name),
      age: (a, b) => createdAt(a) - createdAt(b),
      last: (a, b) => (last.get(a.uid)?.seq ?? 0) - (last.get(b.uid)?.seq ?? 0),
    };
    found.sort((a, b) => (this.by.up ? 1 : -1) * keys[this.by.key](a, b) || a.uid.localeCompare(b.uid));
    put("pods-count", terms.length ? `${found.length} of ${pods.size}` : headline(pods));
    const shown = found.slice(0, MAX_ROWS);
    const focused = document.activeElement?.closest?.("tr.pod");
    const wanted = [];
    for (const pod of shown) {
      const row = this.row(pod);
      wanted.push(row.main);
      if (this.open.has(pod.uid)) wanted.push(row.detail);
    }
    for (const uid of this.rows.keys()) if (!pods.has(uid)) this.forget(uid);
    arrange(this.body, wanted);
    // A row loses the focus when it is moved in the document.
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
    const empty = document.getElementById("pods-empty");
    empty.hidden = shown.length > 0 && shown.length === found.length;
    put(
      "pods-empty",
      !synced ? "Waiting for the first relist."
        : !pods.size ? "No pods on this node."
        : !found.length ? `No pod matches “${this.search.value}”.`
        : `${plural(found.length - MAX_ROWS, "more pod")}: use the search to find them.`,
    );
    return found.length;
  }

  /** Updates the ages. */
  tick() {
    const now = this.source.now();
    for (const { main, pod } of this.rows.values()) {
      if (!main.isConnected) continue;
      const createdAt = pod.sandboxes.at(-1)?.created;
      set(main.querySelector(".age"), createdAt ? age(now - createdAt) : "–");
      const ago = main.querySelector("time");
      if (ago) set(ago, `${age(now - ago.dataset.at)} ago`);
    }
  }

  forget(uid) {
    this.rows.delete(uid);
    this.open.delete(uid);
  }

  row(pod) {
    const last = this.source.last.get(pod.uid) ?? impliedEvent(pod);
    const open = this.open.has(pod.uid);
    let row = this.rows.get(pod.uid);
    if (row && row.pod === pod && row.last?.seq === last?.seq && row.opened === open) return row;
    const fresh = row && row.pod !== pod;
    const main = row?.main ?? el("tr", { class: "pod", tabindex: "0", "data-uid": pod.uid });
    main.setAttribute("aria-expanded", String(open));
    const label = activity(pod);
    main.replaceChildren(
      el("td", { class: "name" },
        el("i", { class: `dot ${pod.activity}`, title: label }), el("span", { class: "hidden" }, `${label}: `),
        el("span", { class: "ns" }, pod.ns), el("b", {}, pod.name)),
      el("td", { class: "boxes" }, ...current(pod).map(chip)),
      el("td", { class: "num age" }),
      el("td", { class: "last" }, ...(last ? lastEvent(last) : [el("span", { class: "faint" }, "–")])),
    );
    if (fresh) flash(main);
    row = { main, pod, last, opened: open, detail: row?.detail };
    if (open) row.detail = detail(pod, row.detail);
    this.rows.set(pod.uid, row);
    return row;
  }
}

/** `7 · 5 running · 2 failing`. */
function headline(pods) {
  const counts = Object.entries(activities(pods.values())).filter(([, count]) => count > 0);
  return [number(pods.size), ...counts.map(([activity, count]) => `${number(count)} ${activity}`)].join(" · ");
}

function set(it, text) {
  if (it.textContent !== text) it.textContent = text;
}

/** Sets the children of `parent` and their order. Children that are already in position stay untouched. */
function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}

function flash(row) {
  row.classList.remove("flash");
  requestAnimationFrame(() => row.classList.add("flash"));
}

/** The newest container of each name in the newest sandbox, oldest first. */
function current(pod) {
  return pod.containers.filter((it) => it.current).reverse();
}

function stateOf(it) {
  if (it.state !== "exited") return it.state;
  if (it.exit === 0) return "done";
  // 143 means that SIGTERM ended it, as in a normal stop.
  return it.exit == null || it.exit === 143 ? "exited" : "failed";
}

/** The pod's activity, and its status as `plegd get pods` shows it. */
function activity(pod) {
  return pod.status.toLowerCase() === pod.activity ? pod.activity : `${pod.activity}: ${pod.status}`;
}

function chip(it) {
  const state = stateOf(it);
  const again = it.attempt ? ` ×${it.attempt + 1}` : "";
  const label = `${it.name}: ${it.state}${it.exit == null ? "" : `, exit code ${it.exit}`}${it.reason ? `, ${it.reason}` : ""}`;
  return el("span", { class: `box ${state}`, title: label }, el("i"), `${it.name}${again}`, el("span", { class: "hidden" }, ` ${it.state} `));
}

/** The last change of the pod's newest container, for a pod without known events. The state decides, not the times. */
function impliedEvent(pod) {
  const it = pod.containers.find((container) => container.current);
  if (it?.finished) return { type: "ContainerDied", container: it.name, at: it.finished, exit: it.exit };
  if (it?.started) return { type: "ContainerStarted", container: it.name, at: it.started };
  return undefined;
}

function lastEvent(event) {
  const died = event.type === "ContainerDied";
  const code = died && event.exit != null ? ` ${event.exit}` : "";
  const bad = died && event.exit ? " bad" : "";
  return [
    el("span", { class: `type ${event.type}${bad}` }, TYPES[event.type] + code), " ",
    el("span", { class: "faint" }, event.container || event.subject),
    el("time", { "data-at": event.at, datetime: new Date(event.at).toISOString() }),
  ];
}

function detail(pod, before) {
  const it = before ?? el("tr", { class: "detail" });
  const times = (c) => [c.created && `created ${clock(c.created)}`, c.started && `started ${clock(c.started)}`, c.finished && `finished ${clock(c.finished)}`].filter(Boolean).join(", ");
  const line = (state, name, text, id, image) =>
    el("li", { class: state }, el("i"), el("b", {}, name), el("span", {}, text), image && el("span", { class: "faint" }, image), el("code", { title: id }, id.slice(0, 13)));
  it.replaceChildren(el("td", { colspan: "4" }, el("ul", {},
    ...pod.sandboxes.map((s) => line(s.state === "ready" ? "running" : "exited", "sandbox", `${s.state}${s.attempt ? `, attempt ${s.attempt}` : ""}${s.created ? `, created ${clock(s.created)}` : ""}`, s.id)),
    ...pod.containers.map((c) => line(stateOf(c), c.name, [c.state, c.attempt && `attempt ${c.attempt}`, c.exit != null && `exit code ${c.exit}`, c.reason, times(c)].filter(Boolean).join(", "), c.id, c.image)),
    el("li", { class: "uid" }, el("span", { class: "faint" }, "pod UID"), el("code", {}, pod.uid)))));
  return it;
}
