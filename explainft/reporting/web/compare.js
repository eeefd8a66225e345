// An output beside its reference: a table, a row for each step or line.

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

const absent = (text) => [el("span", { class: "none" }, text)];

// `model` and `reference` are what stands there without text of that side, or in its place.
function compareRow({ name, said, gold, verdict = null, model = null, reference = null }) {
  const both = said !== null && gold !== null;
  model ??= said === null ? absent("nothing") : both ? marked(said, gold, "wrong") : [said];
  reference ??= gold === null ? absent("no such step") : both ? marked(gold, said, "gold") : [gold];
  const className = verdict ? "first" : said === gold ? "same" : null;
  return el("tr", { role: "row", class: className },
    el("th", { role: "rowheader", scope: "row" }, name),
    el("td", { role: "cell", "data-label": "model" }, ...model, verdict ? el("span", { class: "verdict" }, verdict) : ""),
    el("td", { role: "cell", "data-label": "reference" }, ...reference));
}

function comparison(label, rows, className = "") {
  const head = ["", "the model's explanation", "the reference explanation"];
  return el("table", { class: `steps ${className}`, role: "table", "aria-label": label },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head.map((text) => el("th", { role: "columnheader", scope: "col" }, text)))),
    el("tbody", { role: "rowgroup" }, ...rows.map(compareRow)));
}

const CUT = "✂ cut at the length limit";

function verdictOf(row) {
  if (row.kind === "valid" || row.kind === "correct") return null;
  return row.kind === "cut" ? CUT : `✗ first error: ${data.kinds[row.kind].label}`;
}

const cutNote = (row) => row.cut ? el("p", { class: "cut-note" }, "✂ The output was cut at the length limit.") : "";
