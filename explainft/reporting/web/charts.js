// Charts: Vega draws the descriptions that the page holds; each has a key above it and its numbers below.

// `ast`: expressions are interpreted, for the page's policy refuses code made from text.
const DRAWING = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: { theme: "custom" } };

function key(items) {
  return el("ul", { class: "key" }, ...items.map(({ colour, marker, label }) =>
    el("li", {}, el("i", { style: `color:${colour}`, "aria-hidden": "true" }, marker), label)));
}

function numbers({ columns, rows }) {
  return el("details", {}, el("summary", {}, "As numbers"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The chart as numbers" },
    el("table", {},
      el("thead", {}, el("tr", {}, ...columns.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...rows.map(([name, ...cells]) =>
        el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell))))))));
}

function draw(chart, host) {
  const place = el("div", { class: "chart" });
  host.append(place, numbers(chart));
  vegaEmbed(place, structuredClone(chart.spec), DRAWING); // it changes what it is given
}

function drawTraining(axis) {
  const host = byId("curves");
  const chart = data.training[axis];
  const open = host.querySelector("details")?.open;
  host.replaceChildren(key(chart.key));
  draw(chart, host);
  if (chart.missing.length) {
    host.querySelector(".chart").after(el("p", { class: "note" },
      `Not drawn, without validation evaluations or metrics.jsonl: ${chart.missing.join(", ")}`));
  }
  host.querySelector("details").open = Boolean(open);
}

function drawGroups(split) {
  const host = byId("groups");
  const { panels, wide, key: items } = data.groups[split];
  host.classList.toggle("wide", wide); // a panel a row then, so that the dots stand apart
  host.replaceChildren(key(items));
  for (const panel of panels) {
    const place = el("div");
    host.append(place);
    draw(panel, place);
  }
}

function drawSamples(axis) {
  const host = byId("votes");
  host.replaceChildren(key(data.samples[axis].key));
  draw(data.samples[axis], host);
}

function offerAxes(place, charts, start, show) {
  for (const [axis, { label }] of Object.entries(charts)) {
    const input = el("input", { type: "radio", name: place, value: axis });
    input.checked = axis === start;
    input.addEventListener("change", () => show(axis));
    byId(place).append(el("label", {}, input, label));
  }
  if (start) show(start);
}

function startCharts() {
  const axes = Object.keys(data.training);
  offerAxes("axis", data.training, axes.includes("examples") ? "examples" : axes[0], drawTraining);
  byId("training").hidden = !axes.length;
  const [samples] = Object.keys(data.samples);
  offerAxes("samples-axis", data.samples, samples, drawSamples);
  byId("samples").hidden = !samples;
  document.querySelector('nav a[href="#samples"]').hidden = !samples;

  const splits = Object.keys(data.groups);
  const select = byId("kinds-split");
  for (const split of splits) select.append(el("option", { value: split }, split));
  if (splits.length) {
    select.value = splits.includes("test") ? "test" : splits[0];
    select.addEventListener("change", () => drawGroups(select.value));
    drawGroups(select.value);
  } else {
    byId("kinds").hidden = true;
  }
}

startCharts();
