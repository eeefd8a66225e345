"use strict";
// Text reaches the page as text nodes and attributes only, never as HTML: a model may have written anything.

const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 50; // rows of the list that are made at a time
const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const spoken = (name) => name.replaceAll("_", " ");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// ---- charts

const dash = (run) => DASHES[Math.floor(run / 7) % DASHES.length]; // there are seven colours
const colour = (run) => data.runs[run].colour;

function key(items, drawLine) {
  const mark = ({ run }) => drawLine
    ? svg("line", { x1: 0, x2: 26, y1: 5, y2: 5, stroke: colour(run), "stroke-width": 3, "stroke-dasharray": dash(run) })
    : svg("circle", { cx: 20, cy: 5, r: 5, fill: colour(run) });
  return el("ul", { class: "key" }, ...items.map((item) =>
    el("li", {}, svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, mark(item)), item.label)));
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
  for (const { run, label, points } of curves) {
    const line = (bound) => points.map((point) => `${x(place(point))},${y(point[bound])}`);
    chart.append(
      svg("polygon", { points: [...line("high"), ...line("low").reverse()].join(" "), fill: colour(run), opacity: 0.16 }),
      svg("polyline", { points: line("share").join(" "), fill: "none", stroke: colour(run), "stroke-width": 2.5, "stroke-dasharray": dash(run) }));
    for (const point of points) {
      const words = `${label}: ${percent(point.share)} [${percent(point.low)}, ${percent(point.high)}] at ${axisNumber(axis, place(point))} ${title}`;
      chart.append(svg("circle", { cx: x(place(point)), cy: y(point.share), r: points.length > 40 ? 2 : 4, fill: colour(run) }, svg("title", {}, words)));
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
  const panels = [["operator", "last operator"], ["depth", "depth"], ["length", "length in tokens"]].map(([kind, title]) => {
    const all = new Map();
    for (const { groups } of evaluations) for (const { name } of groups[kind]) all.set(name, parseInt(name, 10) || 0);
    const names = [...all.keys()].sort((a, b) => all.get(a) - all.get(b) || a.localeCompare(b));
    const [left, height] = [40, 230];
    const width = 330;
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
        chart.append(svg("g", { fill: colour(run), stroke: colour(run) },
          svg("title", {}, `${label}, ${name}: ${percent(group.share)} [${percent(group.low)}, ${percent(group.high)}], n = ${group.n}`),
          svg("line", { x1: x, x2: x, y1: y(group.low), y2: y(group.high), "stroke-width": 2 }),
          svg("circle", { cx: x, cy: y(group.share), r: 4, stroke: "none" })));
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
  for (const split of splits) select.append(el("option", { value: split }, spoken(split)));
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

// ---- an expression as a tree

// Operators are numbered in the order in which they are applied, as the steps of an explanation are.
function parse(expression, values) {
  let done = 0;
  const open = [{ children: [] }];
  for (const [token] of expression.matchAll(/\[[A-Z]+|\]|[0-9]+/g)) {
    if (token === "]") {
      const node = open.pop();
      Object.assign(node, { order: done, value: values[done] });
      done += 1;
      open.at(-1).children.push(node);
    } else if (token[0] === "[") {
      open.push({ operator: token.slice(1), children: [] });
    } else {
      open.at(-1).children.push({ text: token, children: [] });
    }
  }
  return open[0].children[0];
}

const GAP = 18; // between siblings; the number of an operator's step stands in it

function layOut(node, left, depth) {
  node.text ??= `${node.operator} ${node.value}`;
  node.box = 8.2 * node.text.length + (node.operator ? 14 : 0);
  node.y = 14 + depth * 52;
  let at = left;
  for (const child of node.children) {
    layOut(child, at, depth + 1);
    at += child.width + GAP;
  }
  const below = at - left - GAP;
  node.width = Math.max(node.box, below);
  if (below >= node.box) {
    node.x = (node.children[0].x + node.children.at(-1).x) / 2;
    node.x = Math.min(Math.max(node.x, left + node.box / 2), left + node.width - node.box / 2);
  } else {
    node.x = left + node.box / 2;
    for (const child of node.children) shift(child, (node.box - below) / 2);
  }
}

function shift(node, by) {
  node.x += by;
  for (const child of node.children) shift(child, by);
}

function drawTree(row) {
  const root = parse(row.expression, row.values);
  layOut(root, 4, 0);
  const [lines, nodes] = [[], []];
  let height = 0;
  const visit = (node) => {
    height = Math.max(height, node.y + 18);
    for (const child of node.children) {
      lines.push(svg("line", { x1: node.x, y1: node.y + 13, x2: child.x, y2: child.y - 13 }));
      visit(child);
    }
    const first = node.operator && node.order === row.step;
    nodes.push(svg("g", { class: first ? "first" : null },
      node.operator ? svg("rect", { x: node.x - node.box / 2, y: node.y - 13, width: node.box, height: 26, rx: 6 }) : null,
      svg("text", { x: node.x, y: node.y + 4.5, "text-anchor": "middle" }, node.text),
      node.operator ? svg("text", { class: "order", x: node.x + node.box / 2 + 3, y: node.y - 6 }, `${first ? "✗" : ""}${node.order + 1}`) : null));
  };
  visit(root);
  const width = root.width + 20;
  const label = `Tree of ${row.expression}; each operator with its right value and the number of its step`;
  return el("div", { class: "tree", tabindex: 0, role: "region", "aria-label": "The expression as a tree" },
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...lines, ...nodes));
}

// ---- a prediction

// The text with what differs from the other one marked: all between the words that both begin and end with.
function marked(text, other, className) {
  const [mine, its] = [text, other].map((line) => line.match(/\w+|\s+|[^\w\s]/g) ?? []);
  const shorter = Math.min(mine.length, its.length);
  let [start, end] = [0, 0];
  while (start < shorter && mine[start] === its[start]) start += 1;
  while (end < shorter - start && mine.at(-1 - end) === its.at(-1 - end)) end += 1;
  const middle = mine.slice(start, mine.length - end).join("");
  return [mine.slice(0, start).join(""), middle ? el("mark", { class: className }, middle) : "", mine.slice(mine.length - end).join("")];
}

function stepRow(name, said, gold, verdict) {
  const missing = (text) => [el("span", { class: "none" }, text)];
  const both = said !== null && gold !== null;
  const model = said === null ? missing("nothing") : both ? marked(said, gold, "wrong") : [said];
  const right = gold === null ? missing("no such step") : both ? marked(gold, said, "right") : [gold];
  const className = verdict ? "first" : said === gold ? "same" : null;
  return el("tr", { role: "row", class: className },
    el("th", { role: "rowheader", scope: "row" }, name),
    el("td", { role: "cell", "data-label": "model" }, ...model, verdict ? el("span", { class: "verdict" }, `✗ first mistake: ${verdict}`) : ""),
    el("td", { role: "cell", "data-label": "right" }, ...right));
}

function detail(row) {
  const verdict = row.kind === "valid" ? null : data.kinds[row.kind].label;
  const rows = [];
  for (let i = 0; i < Math.max(row.steps.length, row.gold.length); i += 1) {
    rows.push(stepRow(`step ${i + 1}`, row.steps[i] ?? null, row.gold[i] ?? null, i === row.step ? verdict : null));
  }
  const inAnswer = row.step === null ? verdict : null;
  rows.push(stepRow("answer", row.final || null, row.goldFinal, inAnswer));
  const head = ["", "the model's explanation", "the right explanation"];
  return el("div", { class: "detail" }, drawTree(row),
    el("table", { class: "steps", role: "table", "aria-label": "Step by step" },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head.map((text) => el("th", { role: "columnheader", scope: "col" }, text)))),
      el("tbody", { role: "rowgroup" }, ...rows)));
}

// ---- the list of predictions

const filters = byId("filters").elements;
const unpacked = new Map(); // the rows of a set, from when it was first shown
let found = [];
let asked = 0;

async function unpack(index) {
  if (!unpacked.has(index)) {
    const bytes = Uint8Array.from(atob(byId(`set-${index}`).textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const rows = await new Response(stream).json();
    rows.forEach((row, i) => {
      row.number = i + 1;
      row.text = squeeze([row.expression, ...row.steps, row.final].join(" "));
    });
    unpacked.set(index, rows);
  }
  return unpacked.get(index);
}

// Blanks do not count in a search: [MED 2 2, sum is12 and SUM IS 12 are found alike.
const squeeze = (text) => text.toLowerCase().replace(/\s+/g, "");

function options(select, first, pairs) {
  const kept = select.value;
  select.replaceChildren(el("option", { value: "" }, first), ...pairs.map(([value, label]) => el("option", { value }, label)));
  select.value = pairs.some(([value]) => value === kept) ? kept : "";
}

function counted(rows, field) {
  const counts = new Map();
  for (const row of rows) counts.set(String(row[field]), (counts.get(String(row[field])) ?? 0) + 1);
  const names = [...counts.keys()].sort((a, b) => a - b || a.localeCompare(b));
  return names.map((name) => [name, `${name} (${counts.get(name)})`]);
}

async function choose() {
  const index = Number(filters.set.value);
  asked = index;
  const rows = await unpack(index);
  if (asked !== index) return; // another one was chosen meanwhile
  const kinds = new Map(counted(rows, "kind").map(([kind, label]) => [kind, label.replace(kind, data.kinds[kind].label)]));
  options(filters.kind, "any, or none", Object.keys(data.kinds).filter((kind) => kinds.has(kind)).map((kind) => [kind, kinds.get(kind)]));
  options(filters.operator, "any", counted(rows.filter((row) => row.operator), "operator"));
  options(filters.depth, "any", counted(rows, "depth"));
  filter();
}

function filter() {
  const { kind, answer, operator, depth, search, set } = filters;
  const words = squeeze(search.value);
  found = unpacked.get(Number(set.value)).filter((row) =>
    (!kind.value || row.kind === kind.value) &&
    (!answer.value || (row.answer === row.goldAnswer) === (answer.value === "right")) &&
    (!operator.value || row.operator === operator.value) &&
    (!depth.value || String(row.depth) === depth.value) &&
    row.text.includes(words));
  const { shown, total } = data.sets[Number(set.value)];
  const cut = shown < total ? `; the page holds the first ${shown.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
  byId("count").textContent = `${found.length.toLocaleString("en")} of ${shown.toLocaleString("en")} predictions${cut}`;
  byId("results").replaceChildren();
  showMore();
}

function showMore() {
  const list = byId("results");
  const start = list.children.length;
  list.append(...found.slice(start, start + PAGE).map(item));
  const left = found.length - list.children.length;
  byId("more").hidden = left === 0;
  byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left.toLocaleString("en")}`;
  return list.children[start];
}

function item(row) {
  const answered = row.answer === row.goldAnswer ? `✓ ${row.answer}` : `✗ ${row.answer ?? "none"} (right: ${row.goldAnswer})`;
  const button = el("button", { type: "button", class: "row", "aria-expanded": "false" },
    el("span", { class: "number" }, `#${row.number}`),
    el("span", { class: `label kind-${row.kind}` }, el("i", { class: "swatch" }), data.kinds[row.kind].label),
    el("span", { class: "expression" }, row.expression),
    el("span", { class: "said" }, answered));
  const whole = el("li", {}, button);
  button.addEventListener("click", () => {
    const opens = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opens));
    if (opens) whole.append(detail(row));
    else whole.lastChild.remove();
  });
  return whole;
}

function startExplorer() {
  if (!data.sets.length) {
    byId("filters").hidden = true;
    byId("mistakes").hidden = true;
    byId("count").textContent = "These runs have no predictions of ListOps expressions.";
    return;
  }
  data.sets.forEach(({ run, split, step }, i) => {
    const name = `${data.runs[run].name} · ${spoken(split)} · step ${step.toLocaleString("en")}`;
    filters.set.append(el("option", { value: i }, name));
  });
  // The test split of a run that explains, if there is one.
  const start = data.sets.findIndex(({ split, style }) => split === "test" && style !== "none");
  filters.set.value = Math.max(start, 0);
  filters.set.addEventListener("change", choose);
  for (const name of ["kind", "answer", "operator", "depth"]) filters[name].addEventListener("change", filter);
  filters.search.addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", (event) => {
    event.preventDefault(); // the run stays
    for (const name of ["kind", "answer", "operator", "depth", "search"]) filters[name].value = "";
    filter();
  });
  byId("more").addEventListener("click", () => showMore().firstChild.focus());
  byId("results").addEventListener("keydown", (event) => {
    const here = event.target.closest(".row");
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!here || !by) return;
    const rows = [...byId("results").querySelectorAll(".row")];
    rows[rows.indexOf(here) + by]?.focus();
    event.preventDefault();
  });
  for (const link of document.querySelectorAll("a[data-set]")) {
    link.addEventListener("click", () => {
      filters.set.value = link.dataset.set;
      choose();
    });
  }
  choose();
}

startCharts();
startExplorer();
