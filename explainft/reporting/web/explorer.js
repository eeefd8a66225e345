// The list of predictions: found by filters, opened one by one.

const PAGE = 50; // rows of the list that are made at a time

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
  const reference = gold === null ? missing("no such step") : both ? marked(gold, said, "gold") : [gold];
  const className = verdict ? "first" : said === gold ? "same" : null;
  return el("tr", { role: "row", class: className },
    el("th", { role: "rowheader", scope: "row" }, name),
    el("td", { role: "cell", "data-label": "model" }, ...model, verdict ? el("span", { class: "verdict" }, `✗ first error: ${verdict}`) : ""),
    el("td", { role: "cell", "data-label": "reference" }, ...reference));
}

function detail(row) {
  const verdict = row.kind === "valid" ? null : data.kinds[row.kind].label;
  const rows = [];
  for (let i = 0; i < Math.max(row.steps.length, row.gold.length); i += 1) {
    rows.push(stepRow(`step ${i + 1}`, row.steps[i] ?? null, row.gold[i] ?? null, i === row.step ? verdict : null));
  }
  const inAnswer = row.step === null ? verdict : null;
  rows.push(stepRow("answer", row.final || null, row.goldFinal, inAnswer));
  const head = ["", "the model's explanation", "the reference explanation"];
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
  const rows = unpacked.get(Number(set.value));
  if (!rows) return; // they are being unpacked, and filtered then
  const words = squeeze(search.value);
  found = rows.filter((row) =>
    (!kind.value || row.kind === kind.value) &&
    (!answer.value || (row.answer === row.goldAnswer) === (answer.value === "correct")) &&
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
  const answered = row.answer === row.goldAnswer ? `✓ ${row.answer}` : `✗ ${row.answer ?? "none"} (reference: ${row.goldAnswer})`;
  const button = el("button", { type: "button", class: "row", "aria-expanded": "false" },
    el("span", { class: "number" }, `#${row.number}`),
    el("span", { class: `label kind-${row.kind}` }, el("i", { class: "swatch" }), data.kinds[row.kind].label),
    el("span", { class: "expression" }, row.expression),
    el("span", { class: "said" }, answered));
  const whole = el("li", {}, button);
  button.addEventListener("click", () => {
    const opens = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opens));
    if (opens) {
      whole.append(detail(row));
      centre(whole.querySelector(".tree"));
    } else {
      whole.lastChild.remove();
    }
  });
  return whole;
}

function startExplorer() {
  if (!("DecompressionStream" in window)) {
    byId("filters").hidden = true;
    byId("count").textContent = "This browser cannot unpack the predictions; any of 2023 or later can.";
    return;
  }
  if (!data.sets.length) {
    byId("filters").hidden = true;
    byId("first-errors").hidden = true;
    byId("count").textContent = "These runs have no predictions of ListOps expressions.";
    return;
  }
  data.sets.forEach(({ label, split, step }, i) => {
    const name = `${label} · ${split} · step ${step.toLocaleString("en")}`;
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

startExplorer();
