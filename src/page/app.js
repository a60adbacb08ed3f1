// Joins the parts: what plegd tells, what is shown of it, the theme and the keyboard.

import { Events } from "./events.js";
import { Paths } from "./paths.js";
import { Pods } from "./pods.js";
import { Source } from "./source.js";
import { age, clock, plural, put } from "./words.js";

const get = (id) => document.getElementById(id);

const source = new Source((what) => {
  if (what === "link" || what === "hello" || what === "ended") link();
  soon();
});
const [paths, pods, events] = [new Paths(source), new Pods(source), new Events(source)];

// === Drawing: at most once a frame, four times a second, and not at all while nobody looks ===

let waiting = false;
let drawn = 0;

function soon() {
  if (waiting || document.hidden) return;
  waiting = true;
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, 250 - (performance.now() - drawn)));
}

function draw() {
  waiting = false;
  drawn = performance.now();
  link();
  paths.show();
  pods.show();
  pods.tick();
  events.show();
  if (source.figures && source.who) {
    put("foot", `plegd ${source.who.version}, up ${age(source.now() - source.who.started)}. The journal holds ${plural(source.figures.held, "event")}.`);
  }
}

document.addEventListener("visibilitychange", soon);
addEventListener("resize", soon);
// The time of what does not move goes on as well.
setInterval(soon, 1000);

// === The connection ===

let told = "";

function tell(words) {
  if (words !== told) put("told", (told = words));
}

function link() {
  const { state, since, why } = source.link;
  const words = { connecting: "connecting", live: "live", lost: "disconnected", refused: "waiting", ended: "ended" }[state];
  const pill = get("link");
  pill.className = `pill ${{ live: "good", connecting: "wait" }[state] ?? "bad"}`;
  const text = pill.querySelector("span");
  if (text.textContent !== words) text.textContent = words;
  document.body.classList.toggle("stale", state !== "live" && source.synced);
  const trouble = {
    lost: `plegd is not reachable since ${clock(since)}, trying again. What is shown is as of then.`,
    refused: `plegd answers, but has no place for this page since ${clock(since)}: as many are open as there may be. Trying again.`,
    ended: `This page is no longer told anything: ${why}. Load it again to go on.`,
    live: source.figures?.trouble,
  }[state];
  get("trouble").hidden = !trouble;
  put("trouble", trouble ?? "");
  if (source.who) {
    put("node", source.who.node);
    put("about", [source.figures?.runtime ?? "no runtime yet", `plegd ${source.who.version}`].join(" · "));
    document.title = `${source.who.node} · plegd`;
  }
  if (state === "live" && source.figures) tell(`Live. Mode ${source.figures.mode}.`);
}

// === The theme: as the system has it, unless somebody has chosen ===

const THEMES = ["system", "light", "dark"];

function theme(name) {
  const root = document.documentElement;
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  const button = get("theme");
  button.textContent = { system: "◐", light: "☀", dark: "☾" }[name];
  button.setAttribute("aria-label", `Theme: ${name === "system" ? "as the system" : name}`);
  try {
    localStorage.setItem("plegd-theme", name);
  } catch {
    // A browser that keeps nothing forgets it.
  }
  return name;
}

function remembered() {
  try {
    const name = localStorage.getItem("plegd-theme");
    return THEMES.includes(name) ? name : "system";
  } catch {
    return "system";
  }
}

let chosen = theme(remembered());

function nextTheme() {
  chosen = theme(THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]);
  tell(get("theme").getAttribute("aria-label"));
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

get("search").addEventListener("input", () => tell(`${plural(pods.show(), "pod")} found.`));
get("f-text").addEventListener("input", () => tell(`${plural(events.show(), "event")} shown.`));
link();
