// Formats of times, sizes and numbers, and helpers for elements.

export const SOURCES = { event: "stream", relist: "relist", read: "read" };

export const TYPES = {
  ContainerStarted: "Started",
  ContainerDied: "Died",
  ContainerRemoved: "Removed",
  ContainerChanged: "Changed",
  PodSync: "Sync",
};

/** Creates an element with attributes and children. Strings become text nodes, never HTML. */
export function el(name, attributes = {}, ...children) {
  const it = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) it.setAttribute(key, "");
    else if (value !== false && value != null) it.setAttribute(key, value);
  }
  it.append(...children.filter((child) => child != null));
  return it;
}

export function put(id, text) {
  const it = document.getElementById(id);
  if (it.textContent !== text) it.textContent = text;
}

/** Formats a latency in milliseconds. */
export function latency(ms) {
  if (ms == null) return "–";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** Formats an age in milliseconds. */
export function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${String(seconds % 60).padStart(2, "0")}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h ${String(minutes % 60).padStart(2, "0")}m`;
  return `${Math.floor(hours / 24)}d ${hours % 24}h`;
}

export function seconds(s) {
  return s < 60 ? `${+s.toFixed(1)} s` : `${+(s / 60).toFixed(1)} min`;
}

const two = (n) => String(n).padStart(2, "0");

export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function precise(ms) {
  return `${clock(ms)}.${String(new Date(ms).getMilliseconds()).padStart(3, "0")}`;
}

export function bytes(n) {
  return n < 1 << 30 ? `${Math.round(n / (1 << 20))} MiB` : `${(n / (1 << 30)).toFixed(1)} GiB`;
}

export const number = (n) => Number(n).toLocaleString("en", { useGrouping: true }).replaceAll(",", "\u202f");

export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

/** The number of pods for each activity. */
export function activities(pods) {
  const counts = { running: 0, failing: 0, waiting: 0, completed: 0 };
  for (const pod of pods) counts[pod.activity] += 1;
  return counts;
}

/** The quantile `q` of sorted values. */
export function quantile(sorted, q) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : null;
}
