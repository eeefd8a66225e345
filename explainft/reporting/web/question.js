// An imported question, opened: its choices, both explanations line by line, and the user's own fields.

// The lines that are not empty, each with the place in the text where it begins.
function linesOf(text) {
  let at = 0;
  const lines = text.split("\n").map((line) => {
    const found = { text: line, at };
    at += line.length + 1;
    return found;
  });
  return lines.filter((line) => line.text.trim());
}

function similarity(mine, its) {
  const [a, b] = [mine, its].map((text) => text.toLowerCase().match(/\w+/g) ?? []);
  const left = new Map();
  for (const word of b) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of a) {
    if (left.get(word) > 0) {
      left.set(word, left.get(word) - 1);
      common += 1;
    }
  }
  return (2 * common) / (a.length + b.length || 1);
}

const FEW = 200; // lines; more are paired in order

// Pairs of lines, in order, so that the pairs are as alike as can be; null beside a line that has no other.
function align(mine, its) {
  const pairs = [];
  if (mine.length > FEW || its.length > FEW) {
    for (let i = 0; i < Math.max(mine.length, its.length); i += 1) pairs.push([mine[i] ?? null, its[i] ?? null]);
    return pairs;
  }
  const best = Array.from({ length: mine.length + 1 }, () => new Array(its.length + 1).fill(0)); // from (i, j) on
  const pair = mine.map((a) => its.map((b) => similarity(a.text, b.text) + 0.01)); // lines of no common word too
  for (let i = mine.length - 1; i >= 0; i -= 1) {
    for (let j = its.length - 1; j >= 0; j -= 1) {
      best[i][j] = Math.max(pair[i][j] + best[i + 1][j + 1], best[i + 1][j], best[i][j + 1]);
    }
  }
  let [i, j] = [0, 0];
  while (i < mine.length || j < its.length) {
    if (i < mine.length && j < its.length && best[i][j] === pair[i][j] + best[i + 1][j + 1]) pairs.push([mine[i++], its[j++]]);
    else if (j >= its.length || (i < mine.length && best[i][j] === best[i + 1][j])) pairs.push([mine[i++], null]);
    else pairs.push([null, its[j++]]);
  }
  return pairs;
}

// The line with the part of the first wrong step marked that stands in it; null where none does.
function wrongPart(line, place) {
  const [start, end] = place.map((at) => Math.min(Math.max(at - line.at, 0), line.text.length));
  if (start >= end) return null;
  return [line.text.slice(0, start), el("mark", { class: "wrong" }, line.text.slice(start, end)), line.text.slice(end)];
}

function explanationRows(row) {
  if (row.form === "answer") return [];
  let verdict = row.place ? verdictOf(row) : null;
  return align(linesOf(row.explanation), linesOf(row.gold)).map(([mine, its], i) => {
    const model = mine && row.place ? wrongPart(mine, row.place) : null;
    const found = { name: `line ${i + 1}`, said: mine?.text ?? null, gold: its?.text ?? null, model, verdict: model && verdict };
    if (!its) found.reference = absent("no such line");
    if (model) verdict = null; // once
    return found;
  });
}

function answerRow(row) {
  const verdict = row.kind === "step" ? null : verdictOf(row);
  const found = { name: "answer", said: row.final || null, gold: row.goldFinal, verdict };
  if (!row.final && row.answer !== null) found.model = absent(`read from the output: ${row.answer}`);
  return found;
}

function choiceItem({ letter, text, gold, said }) {
  return el("li", { class: gold ? "gold" : said ? "wrong" : null }, `${letter} ${text}`,
    gold ? el("span", { class: "badge" }, "✓ reference") : "",
    said ? el("span", { class: "badge" }, gold ? "✓ model" : "✗ model") : "");
}

function ownFields(row) {
  const fields = [...(row.id ? [["id", row.id]] : []), ...row.fields];
  if (row.form === "answer" && row.gold) fields.push(["reference explanation", row.gold]);
  if (!fields.length) return "";
  return el("dl", { class: "fields" }, ...fields.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function questionDetail(row) {
  const [explanation, answer] = [explanationRows(row), answerRow(row)];
  const rows = row.form === "answer_explain" ? [answer, ...explanation] : [...explanation, answer];
  const unplaced = row.kind === "step" && !row.place;
  return el("div", { class: "detail" }, cutNote(row),
    el("p", { class: "question" }, row.question),
    row.choices.length ? el("ul", { class: "choices", "aria-label": "Choices" }, ...row.choices.map(choiceItem)) : "",
    unplaced ? el("p", { class: "verdict" }, `${verdictOf(row)}: step ${row.step + 1}`) : "",
    comparison("Line by line", rows, "prose"),
    ownFields(row));
}
