// Curves and dots with their intervals, and each chart as numbers.

// The next ones each time the colours are used up: of lines, and of what stands for a point.
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const SHAPES = ["M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0", "M-.9-.9h1.8v1.8h-1.8z", "M0-1.2 1.15.8h-2.3z", "M0-1.3 1.3 0 0 1.3-1.3 0z"];
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const dash = (run) => DASHES[data.runs[run].turn];
const colour = (run) => data.runs[run].colour;
const dot = (run, x, y, size, ...children) => svg("path",
  { class: "dot", d: SHAPES[data.runs[run].turn], transform: `translate(${x} ${y}) scale(${size})`, fill: colour(run), stroke: "none" }, ...children);

function key(items, drawLine) {
  const line = (run) => svg("line", { x1: 0, x2: 32, y1: 6, y2: 6, stroke: colour(run), "stroke-width": 2.5, "stroke-dasharray": dash(run) });
  return el("ul", { class: "key" }, ...items.map(({ run, label }) =>
    el("li", {}, svg("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" }, drawLine ? line(run) : null, dot(run, drawLine ? 16 : 25, 6, 4.5)), label)));
}

function numbers(head, rows) {
  return el("details", {}, el("summary", {}, "As numbers"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The chart as numbers" },
    el("table", {},
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...rows.map(([name, ...cells]) =>
        el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell))))))));
}

// The frame that all charts share: shares from 0% to 100% upwards. `x` maps what lies along the bottom to pixels.
function frame(width, height, left, bottom, label) {
  const y = (share) => 8 + (1 - share) * (height - 8 - bottom);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    chart.append(
      svg("line", { class: "grid", x1: left, x2: width, y1: y(share), y2: y(share) }),
      svg("text", { class: "tick", x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}%`));
  }
  return { chart, y };
}

const AXES = {
  step: { label: "steps", title: "training steps", unit: 1 },
  examples: { label: "examples", title: "training examples seen", unit: 1 },
  flops: { label: "FLOPs", title: "training FLOPs", unit: 1 },
  seconds: { label: "minutes", title: "minutes of training", unit: 60 },
};

function scientific(value) {
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(value));
  const superscript = String(power).replace(/./g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit] ?? "⁻");
  return `${+(value / 10 ** power).toFixed(2)}·10${superscript}`;
}
const axisNumber = (axis, value) => (axis === "flops" ? scientific(value) : compact.format(value));

function ticks(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step);
}

function drawCurves(axis) {
  const host = byId("curves");
  const { title, unit } = AXES[axis];
  const place = (point) => (point[axis] === null ? null : point[axis] / unit);
  const curves = data.curves
    .map((curve) => ({ ...curve, points: curve.points.filter((point) => place(point) !== null) }))
    .filter((curve) => curve.points.length);
  const missing = data.runs.filter((_, run) => !curves.some((curve) => curve.run === run)).map((run) => run.name);
  const [left, bottom, height] = [44, 40, 300];
  const width = Math.max(host.clientWidth, 240);
  const { chart, y } = frame(width, height, left, bottom, `Exact match on validation against ${title}`);
  const most = Math.max(...curves.flatMap((curve) => curve.points.map(place)), 1e-9);
  const x = (value) => left + (value / most) * (width - left - 12);
  for (const tick of ticks(most, width > 600 ? 6 : 4)) {
    chart.append(svg("text", { class: "tick", x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, axisNumber(axis, tick)));
  }
  chart.append(svg("text", { class: "tick", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, title));
  const line = (points, bound) => points.map((point) => `${x(place(point))},${y(point[bound])}`);
  for (const { run, points } of curves) { // all of them first: no interval covers another run's line
    chart.append(svg("polygon", { points: [...line(points, "high"), ...line(points, "low").reverse()].join(" "), fill: colour(run), opacity: 0.16 }));
  }
  for (const { run, label, points } of curves) {
    chart.append(svg("polyline", { points: line(points, "share").join(" "), fill: "none", stroke: colour(run), "stroke-width": 2.5, "stroke-dasharray": dash(run) }));
    for (const point of points) {
      const words = `${label}: ${percent(point.share)} [${percent(point.low)}, ${percent(point.high)}] at ${axisNumber(axis, place(point))} ${title}`;
      chart.append(dot(run, x(place(point)), y(point.share), points.length > 40 ? 2 : 4, svg("title", {}, words)));
    }
  }
  const rows = curves.flatMap(({ label, points }) => points.map((point) =>
    [label, axisNumber(axis, place(point)), percent(point.share), `${percent(point.low)} – ${percent(point.high)}`]));
  const note = missing.length ? el("p", { class: "note" }, `Not drawn, for want of validation evaluations or of metrics.jsonl: ${missing.join(", ")}`) : null;
  const open = host.querySelector("details")?.open;
  host.replaceChildren(key(curves, true), chart, ...(note ? [note] : []), numbers(["run", title, "exact match", "95% interval"], rows));
  host.querySelector("details").open = Boolean(open);
}

function drawGroups(split) {
  const host = byId("groups");
  const evaluations = data.evaluations.filter((evaluation) => evaluation.split === split);
  const wide = evaluations.length > 8; // a panel a row then, so that the dots stand apart
  host.classList.toggle("wide", wide);
  const panels = [["operator", "last operator"], ["depth", "depth"], ["length", "length in tokens"]].map(([kind, title]) => {
    const all = new Map();
    for (const { groups } of evaluations) for (const { name } of groups[kind]) all.set(name, parseInt(name, 10) || 0);
    const names = [...all.keys()].sort((a, b) => all.get(a) - all.get(b) || a.localeCompare(b));
    const [left, height] = [40, 230];
    const width = wide ? Math.max(host.clientWidth, 330) : 330;
    const tilted = names.join("").length > 34;
    const bottom = tilted ? 46 : 24;
    const { chart, y } = frame(width, height, left, bottom, `Exact match by ${title}`);
    const gap = (width - left) / Math.max(names.length, 1);
    names.forEach((name, i) => {
      const middle = left + (i + 0.5) * gap;
      const at = tilted ? `rotate(-45 ${middle} ${height - bottom + 14})` : null;
      chart.append(svg("text", { class: "tick", x: middle, y: height - bottom + 17, "text-anchor": tilted ? "end" : "middle", transform: at }, name));
      evaluations.forEach(({ run, label, groups }, place) => {
        const group = groups[kind].find((candidate) => candidate.name === name);
        if (!group) return;
        const x = middle + (place - (evaluations.length - 1) / 2) * Math.min(12, (0.8 * gap) / evaluations.length);
        chart.append(svg("g", { stroke: colour(run) },
          svg("title", {}, `${label}, ${name}: ${percent(group.share)} [${percent(group.low)}, ${percent(group.high)}], n = ${group.n}`),
          svg("line", { x1: x, x2: x, y1: y(group.low), y2: y(group.high), "stroke-width": 2 }),
          dot(run, x, y(group.share), 4)));
      });
    });
    const rows = evaluations.flatMap(({ label, groups }) => groups[kind].map((group) =>
      [label, group.name, percent(group.share), `${percent(group.low)} – ${percent(group.high)}`, String(group.n)]));
    return el("div", {}, el("h3", {}, `by ${title}`), chart, numbers(["run", title, "exact match", "95% interval", "n"], rows));
  });
  host.replaceChildren(key(evaluations, false), ...panels);
}

function startCharts() {
  const known = Object.keys(AXES).filter((axis) => data.curves.some(({ points }) => points.some((point) => point[axis] !== null)));
  if (known.length) {
    let axis = known.includes("examples") ? "examples" : known[0];
    for (const name of known) {
      const input = el("input", { type: "radio", name: "axis", value: name });
      input.checked = name === axis;
      input.addEventListener("change", () => drawCurves((axis = name)));
      byId("axis").append(el("label", {}, input, AXES[name].label));
    }
    let width = 0;
    new ResizeObserver(() => {
      if (byId("curves").clientWidth === width) return;
      width = byId("curves").clientWidth;
      drawCurves(axis);
    }).observe(byId("curves"));
  } else {
    byId("training").hidden = true;
  }

  const splits = data.splits.filter((split) => data.evaluations.some((evaluation) => evaluation.split === split));
  const select = byId("kinds-split");
  for (const split of splits) select.append(el("option", { value: split }, split));
  if (splits.length) {
    select.value = splits.includes("test") ? "test" : splits[0];
    select.addEventListener("change", () => drawGroups(select.value));
    drawGroups(select.value);
  } else {
    byId("kinds").hidden = true;
  }
  byId("meanings").append(...Object.values(data.kinds).map(({ label, meaning }) =>
    el("div", {}, el("dt", {}, `${label}: `), el("dd", {}, meaning))));
}

startCharts();
