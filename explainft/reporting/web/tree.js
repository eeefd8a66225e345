// An expression as a tree.

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
  const label = `Tree of ${row.expression}; each operator with its value and the number of its step`;
  return el("div", { class: "tree", tabindex: 0, role: "region", "aria-label": "The expression as a tree" },
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...lines, ...nodes));
}

// Scrolls a tree that is wider than its place to the operator of its first error, or else its root, which is drawn last.
function centre(tree) {
  const shown = (tree.querySelector(".first") ?? tree.querySelector("g:last-of-type")).getBoundingClientRect();
  const place = tree.getBoundingClientRect();
  tree.scrollLeft = shown.left + shown.width / 2 - place.left - place.width / 2;
}

// ---- a ListOps prediction, opened: its tree, and both explanations step by step

function listopsDetail(row) {
  const rows = [];
  for (let i = 0; i < Math.max(row.steps.length, row.gold.length); i += 1) {
    rows.push({ name: `step ${i + 1}`, said: row.steps[i] ?? null, gold: row.gold[i] ?? null, verdict: i === row.step ? verdictOf(row) : null });
  }
  rows.push({ name: "answer", said: row.final || null, gold: row.goldFinal, verdict: row.step === null ? verdictOf(row) : null });
  return el("div", { class: "detail" }, cutNote(row), drawTree(row), comparison("Step by step", rows));
}
