// Entry point: connects the data source with the views, and handles the theme and the keyboard.

import { Events } from "./events.js";
import { Paths } from "./paths.js";
import { Pods } from "./pods.js";
import { Source } from "./source.js";
import { age, clock, plural, put } from "./words.js";

const get = (id) => document.getElementById(id);

const source = new Source((kind) => {
  if (kind === "link" || kind === "hello" || kind === "ended") showLink();
  scheduleDraw();
});
const [paths, pods, events] = [new Paths(source), new Pods(source), new Events(source)];

// === Drawing: at most once per frame and four times per second, and never while the page is hidden ===

let scheduled = false;
let drawnAt = 0;

function scheduleDraw() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, 250 - (performance.now() - drawnAt)));
}

function draw() {
  scheduled = false;
  drawnAt = performance.now();
  showLink();
  paths.show();
  pods.show();
  pods.tick();
  events.show();
  if (source.figures && source.identity) {
    put("foot", `plegd ${source.identity.version}, up ${age(source.now() - source.identity.started)}. The journal holds ${plural(source.figures.held, "event")}.`);
  }
}

document.addEventListener("visibilitychange", scheduleDraw);
addEventListener("resize", scheduleDraw);
// Ages grow without a message.
setInterval(scheduleDraw, 1000);

// === The connection ===

let announced = "";

/** Announces a text to screen readers. */
function announce(text) {
  if (text !== announced) put("announcement", (announced = text));
}

function showLink() {
  const { state, since, why } = source.link;
  const label = { connecting: "connecting", live: "live", lost: "disconnected", refused: "waiting", ended: "ended" }[state];
  const pill = get("link");
  pill.className = `pill ${{ live: "good", connecting: "wait" }[state] ?? "bad"}`;
  const text = pill.querySelector("span");
  if (text.textContent !== label) text.textContent = label;
  document.body.classList.toggle("stale", state !== "live" && source.synced);
  const trouble = {
    lost: `plegd is not reachable since ${clock(since)}; trying again. This page shows the state as of then.`,
    refused: `plegd has refused this page since ${clock(since)}: the limit of open pages is reached. Trying again.`,
    ended: `This page receives no more updates: ${why}. Reload it to reconnect.`,
    live: source.figures?.trouble,
  }[state];
  get("trouble").hidden = !trouble;
  put("trouble", trouble ?? "");
  if (source.identity) {
    put("node", source.identity.node);
    put("about", [source.figures?.runtime ?? "no runtime connected", `plegd ${source.identity.version}`].join(" · "));
    document.title = `${source.identity.node} · plegd`;
  }
  if (state === "live" && source.figures) announce(`Live. Mode ${source.figures.mode}.`);
}

// === The theme: the system's, unless the user chooses one ===

const THEMES = ["system", "light", "dark"];

function theme(name) {
  const root = document.documentElement;
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  const button = get("theme");
  button.textContent = { system: "◐", light: "☀", dark: "☾" }[name];
  button.setAttribute("aria-label", `Theme: ${name === "system" ? "system default" : name}`);
  try {
    localStorage.setItem("plegd-theme", name);
  } catch {
    // Without storage, the choice is lost when the page is closed.
  }
  return name;
}

function storedTheme() {
  try {
    const name = localStorage.getItem("plegd-theme");
    return THEMES.includes(name) ? name : "system";
  } catch {
    return "system";
  }
}

let currentTheme = theme(storedTheme());

function nextTheme() {
  currentTheme = theme(THEMES[(THEMES.indexOf(currentTheme) + 1) % THEMES.length]);
  announce(get("theme").getAttribute("aria-label"));
}

get("theme").addEventListener("click", nextTheme);
get("help").addEventListener("click", () => get("keys").showModal());

// === The keyboard ===

const KEYS = {
  "/": () => get("search").focus(),
  f: () => get("f-text").focus(),
  p: () => events.pause(),
  t: nextTheme,
  "?": () => get("keys").showModal(),
  j: () => pods.move(1),
  k: () => pods.move(-1),
};

document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey || get("keys").open) return;
  const typing = press.target.matches("input, select, textarea");
  if (press.key === "Escape" && typing) {
    if (press.target.value && press.target.matches("input")) {
      press.target.value = "";
      press.target.dispatchEvent(new Event("input"));
    } else press.target.blur();
    press.preventDefault();
    return;
  }
  const inPods = press.target.closest("#pods");
  const arrows = { ArrowDown: 1, ArrowUp: -1 };
  if (inPods && press.key in arrows) {
    pods.move(arrows[press.key]);
    press.preventDefault();
    return;
  }
  if (typing || !(press.key in KEYS)) return;
  press.preventDefault();
  KEYS[press.key]();
});

get("search").addEventListener("input", () => announce(`${plural(pods.show(), "pod")} found.`));
get("f-text").addEventListener("input", () => announce(`${plural(events.show(), "event")} shown.`));
showLink();
