// The list of predictions: found by filters, opened one by one.

const PAGE = 50; // rows of the list that are made at a time

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
      row.text = squeeze(searched(row).join(" "));
    });
    unpacked.set(index, rows);
  }
  return unpacked.get(index);
}

function searched(row) {
  if (isListops(row)) return [row.expression, ...row.steps, row.final];
  return [row.question, ...row.choices.map(({ text }) => text), row.explanation, row.final, row.id];
}

const isListops = (row) => "expression" in row;

// Blanks do not count in a search: [MED 2 2, sum is12 and SUM IS 12 are found alike.
const squeeze = (text) => text.toLowerCase().replace(/\s+/g, "");

function options(select, first, pairs) {
  const kept = select.value;
  select.replaceChildren(el("option", { value: "" }, first), ...pairs.map(([value, label]) => el("option", { value }, label)));
  select.value = pairs.some(([value]) => value === kept) ? kept : "";
}

function counted(rows, valueOf) {
  const counts = new Map();
  for (const row of rows) {
    const value = valueOf(row);
    if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const names = [...counts.keys()].sort((a, b) => a - b || a.localeCompare(b));
  return names.map((name) => [name, `${name} (${counts.get(name)})`]);
}

async function choose() {
  const index = Number(filters.set.value);
  asked = index;
  const rows = await unpack(index);
  if (asked !== index) return; // another one was chosen meanwhile
  const kinds = new Map(counted(rows, (row) => row.kind).map(([kind, label]) => [kind, label.replace(kind, data.kinds[kind].label)]));
  options(filters.kind, "any", Object.keys(data.kinds).filter((kind) => kinds.has(kind)).map((kind) => [kind, kinds.get(kind)]));
  makeGroupFilters(index, rows);
  filters.search.placeholder = data.sets[index].listops ? "[MED 2 2, sum is 12, …" : "question, output, id";
  filter();
}

const groupFilters = () => [...byId("group-filters").querySelectorAll("select")];

// A select for each kind of groups by which the predictions of the set differ.
function makeGroupFilters(index, rows) {
  const earlier = new Map(groupFilters().map((select) => [select.dataset.group, select.value]));
  const labels = [];
  for (const [kind, title] of Object.entries(data.sets[index].groups)) {
    const pairs = counted(rows, (row) => row.groups[kind]);
    if (pairs.length < 2) continue;
    const select = el("select", { "data-group": kind });
    options(select, "any", pairs);
    if (pairs.some(([value]) => value === earlier.get(kind))) select.value = earlier.get(kind);
    select.addEventListener("change", filter);
    labels.push(el("label", {}, `${title[0].toUpperCase()}${title.slice(1)} `, select));
  }
  byId("group-filters").replaceChildren(...labels);
}

function filter() {
  const { kind, answer, search, set } = filters;
  const groups = groupFilters().filter((select) => select.value);
  const rows = unpacked.get(Number(set.value));
  if (!rows) return; // they are being unpacked, and filtered then
  const words = squeeze(search.value);
  found = rows.filter((row) =>
    (!kind.value || row.kind === kind.value) &&
    (!answer.value || row.correct === (answer.value === "correct")) &&
    groups.every((select) => row.groups[select.dataset.group] === select.value) &&
    row.text.includes(words));
  const { shown, total } = data.sets[Number(set.value)];
  const cut = shown < total ? `; the page holds the first ${shown.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
  byId("count").textContent = `${found.length.toLocaleString("en")} of ${shown.toLocaleString("en")} predictions${cut}`;
  byId("results").replaceChildren();
  byId("results").dataset.set = set.value; // whose predictions are shown
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
  const answered = row.correct ? `✓ ${row.answer}` : `✗ ${row.answer ?? "none"} (reference: ${row.goldAnswer})`;
  const button = el("button", { type: "button", class: "row", "aria-expanded": "false" },
    el("span", { class: "number" }, `#${row.number}`),
    el("span", { class: `label kind-${row.kind}` }, el("i", { class: "swatch" }), data.kinds[row.kind].label),
    isListops(row) ? el("span", { class: "expression" }, row.expression) : el("span", { class: "first-line" }, row.question.trim().split("\n", 1)[0]),
    el("span", { class: "said" }, answered));
  const whole = el("li", {}, button);
  button.addEventListener("click", () => {
    const opens = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opens));
    if (opens) {
      whole.append(isListops(row) ? listopsDetail(row) : questionDetail(row));
      if (isListops(row)) centre(whole.querySelector(".tree"));
    } else {
      whole.lastChild.remove();
    }
  });
  return whole;
}

function startExplorer() {
  byId("meanings").append(...Object.values(data.kinds).map(({ label, meaning }) =>
    el("div", {}, el("dt", {}, `${label}: `), el("dd", {}, meaning))));
  if (!("DecompressionStream" in window)) {
    byId("filters").hidden = true;
    byId("count").textContent = "This browser cannot unpack the predictions; any of 2023 or later can.";
    return;
  }
  if (!data.sets.length) {
    byId("filters").hidden = true;
    byId("first-errors")?.setAttribute("hidden", ""); // of a page that has it
    byId("count").textContent = "These runs have no predictions of a known problem.";
    return;
  }
  data.sets.forEach(({ label, split, step }, i) => {
    const name = [label, split, ...(step === null ? [] : [`step ${step.toLocaleString("en")}`])].join(" · ");
    filters.set.append(el("option", { value: i }, name));
  });
  // The test split of a run that explains, if there is one.
  const start = data.sets.findIndex(({ split, explains }) => split === "test" && explains);
  filters.set.value = Math.max(start, 0);
  filters.set.addEventListener("change", choose);
  for (const name of ["kind", "answer"]) filters[name].addEventListener("change", filter);
  filters.search.addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", (event) => {
    event.preventDefault(); // the run stays
    for (const field of [filters.kind, filters.answer, filters.search, ...groupFilters()]) field.value = "";
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
