// SVG charts: a scatter plot on a logarithmic scale, stacked columns, and marks on a timeline. page.css sets the colors.

const SVG = "http://www.w3.org/2000/svg";

export const WINDOW = 5 * 60_000;

function shape(name, attributes, ...children) {
  const it = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
  it.append(...children);
  return it;
}

/** A chart that fills its container. `redraw` is called when the pointer moves. */
export class Chart {
  constructor(id, label) {
    this.container = document.getElementById(id);
    this.svg = shape("svg", { role: "img", "aria-label": label });
    this.tip = document.createElement("output");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.container.append(this.svg, this.tip);
    this.at = null;
    this.container.addEventListener("pointermove", (move) => {
      const box = this.container.getBoundingClientRect();
      this.at = [move.clientX - box.left, move.clientY - box.top];
      this.redraw?.();
    });
    this.container.addEventListener("pointerleave", () => {
      this.at = null;
      this.redraw?.();
    });
  }

  begin(now) {
    this.now = now;
    [this.width, this.height] = [this.container.clientWidth, this.container.clientHeight];
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.left = 48;
    this.right = this.width - 8;
    this.top = 8;
    this.bottom = this.height - 20;
    this.shapes = [];
    for (let minute = 0; minute <= 5; minute += 1) {
      const x = this.x(now - minute * 60_000);
      this.line("grid", x, this.top, x, this.bottom);
      // A narrow screen has space for every second label only.
      if (this.width < 420 && minute % 2 === 0 && minute) continue;
      const label = minute === 0 ? "now" : `−${minute} min`;
      this.text("tick", x, this.height - 5, label, minute === 0 ? "end" : minute === 5 ? "start" : "middle");
    }
  }

  x(at) {
    return this.right - ((this.now - at) / WINDOW) * (this.right - this.left);
  }

  line(kind, x1, y1, x2, y2) {
    this.shapes.push(shape("path", { class: kind, d: `M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}` }));
  }

  path(kind, d) {
    if (d) this.shapes.push(shape("path", { class: kind, d }));
  }

  text(kind, x, y, content, anchor = "start") {
    const it = shape("text", { class: kind, x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor });
    it.textContent = content;
    this.shapes.push(it);
  }

  end(label, tip) {
    this.svg.replaceChildren(...this.shapes);
    if (this.svg.getAttribute("aria-label") !== label) this.svg.setAttribute("aria-label", label);
    this.tip.hidden = !tip;
    if (tip) {
      this.tip.textContent = tip.label;
      const maxLeft = this.width - this.tip.offsetWidth - 4;
      this.tip.style.left = `${Math.max(4, Math.min(maxLeft, tip.x + 10))}px`;
      this.tip.style.top = `${Math.max(2, tip.y - 30)}px`;
    }
  }
}

/** Dots `{ at, value, kind, label }` on a logarithmic scale from `low` to `high`. */
export function scatter(chart, now, dots, low, high, ticks, unit, label) {
  chart.begin(now);
  const [a, b] = [Math.log(low), Math.log(high)];
  const y = (value) => {
    const part = (Math.log(Math.min(high, Math.max(low, value))) - a) / (b - a);
    return chart.bottom - part * (chart.bottom - chart.top);
  };
  for (const tick of ticks.filter((it) => it <= high)) {
    chart.line("grid", chart.left, y(tick), chart.right, y(tick));
    chart.text("tick", chart.left - 6, y(tick) + 3.5, unit(tick), "end");
  }
  // One path per kind. Each dot is a line of almost no length with round caps, so thousands of dots are cheap.
  const paths = {};
  let near = null;
  for (const dot of dots) {
    const [cx, cy] = [chart.x(dot.at), y(dot.value)];
    if (cx < chart.left) continue;
    paths[dot.kind] = `${paths[dot.kind] ?? ""}M${cx.toFixed(1)} ${cy.toFixed(1)}h.01`;
    if (chart.at) {
      const distance = Math.hypot(cx - chart.at[0], cy - chart.at[1]);
      if (distance < 22 && !(near?.distance <= distance)) near = { distance, x: cx, y: cy, label: dot.label };
    }
  }
  for (const kind of ["event", "read", "relist"]) chart.path(`dots ${kind}`, paths[kind]);
  if (near) chart.path("halo", `M${near.x} ${near.y}h.01`);
  chart.end(label, near);
}

/** Stacked columns `{ from, to, parts: [[kind, count]], label }`. */
export function columns(chart, now, bins, label) {
  chart.begin(now);
  const max = Math.max(4, ...bins.map((bin) => bin.parts.reduce((sum, [, count]) => sum + count, 0)));
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000].find((it) => max / it <= 4) ?? 20_000;
  const top = Math.ceil(max / step) * step;
  const y = (count) => chart.bottom - (count / top) * (chart.bottom - chart.top);
  for (let tick = 0; tick <= top; tick += step) {
    chart.line("grid", chart.left, y(tick), chart.right, y(tick));
    chart.text("tick", chart.left - 6, y(tick) + 3.5, String(tick), "end");
  }
  const paths = {};
  let near = null;
  for (const bin of bins) {
    const [x1, x2] = [Math.max(chart.left, chart.x(bin.from) + 1), Math.min(chart.right, chart.x(bin.to) - 1)];
    if (x2 - x1 < 0.5) continue;
    let below = 0;
    for (const [kind, count] of bin.parts) {
      if (!count) continue;
      paths[kind] = `${paths[kind] ?? ""}M${x1.toFixed(1)} ${y(below).toFixed(1)}V${y(below + count).toFixed(1)}H${x2.toFixed(1)}V${y(below).toFixed(1)}Z`;
      below += count;
    }
    if (chart.at && chart.at[0] >= x1 - 1 && chart.at[0] <= x2 + 1) near = { x: x2, y: chart.at[1], label: bin.label };
  }
  for (const kind of Object.keys(paths)) chart.path(`fill ${kind}`, paths[kind]);
  chart.end(label, near);
}

/** Marks `{ at, value, kind, label }` on a timeline. Their height is the value on a logarithmic scale. */
export function marks(chart, now, points, low, high, ticks, unit, label) {
  chart.begin(now);
  const [a, b] = [Math.log(low), Math.log(high)];
  const y = (value) => {
    const part = (Math.log(Math.min(high, Math.max(low, value))) - a) / (b - a);
    return chart.bottom - (0.12 + 0.88 * part) * (chart.bottom - chart.top);
  };
  for (const tick of ticks) {
    chart.line("grid", chart.left, y(tick), chart.right, y(tick));
    chart.text("tick", chart.left - 6, y(tick) + 3.5, unit(tick), "end");
  }
  chart.line("axis", chart.left, chart.bottom, chart.right, chart.bottom);
  const paths = {};
  let near = null;
  for (const point of points) {
    const [x, top] = [chart.x(point.at), y(point.value)];
    if (x < chart.left) continue;
    paths[point.kind] = `${paths[point.kind] ?? ""}M${x.toFixed(1)} ${chart.bottom.toFixed(1)}V${top.toFixed(1)}`;
    const distance = chart.at ? Math.abs(x - chart.at[0]) : Infinity;
    if (distance < 14 && !(near?.distance <= distance)) near = { distance, x, y: top, label: point.label };
  }
  for (const kind of Object.keys(paths)) chart.path(`mark ${kind}`, paths[kind]);
  chart.end(label, near);
}
