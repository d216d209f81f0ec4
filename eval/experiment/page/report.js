"use strict";
// Builds the page from its data.  Names come from configs and files of others: they become text
// nodes, never HTML.

const page = JSON.parse(document.getElementById("data").textContent);

// --- elements ---

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const SHAPES = [
  "M5,0.8 A4.2,4.2 0 1 1 4.99,0.8 Z", // circle, as Plotly's symbols of the same place
  "M1.2,1.2 H8.8 V8.8 H1.2 Z",
  "M5,0 L10,5 L5,10 L0,5 Z",
  "M5,0.6 L9.8,9 L0.2,9 Z",
  "M3.5,0.5 H6.5 V3.5 H9.5 V6.5 H6.5 V9.5 H3.5 V6.5 H0.5 V3.5 H3.5 Z",
  "M5,9.4 L0.2,1 L9.8,1 Z",
  "M5,0.3 L9.8,3.8 L8,9.4 L2,9.4 L0.2,3.8 Z",
  "M5,0 L6.4,3.4 L10,3.6 L7.2,6 L8.1,9.6 L5,7.6 L1.9,9.6 L2.8,6 L0,3.6 L3.6,3.4 Z",
];
const COLOURS = 8; // beside dense's

function styleOf(family) {
  const place = page.families.indexOf(family);
  if (place <= 0) return { colour: "--c0", shape: 2 };
  const shapes = [0, 1, 3, 4, 5, 6, 7]; // the diamond is dense's
  return {
    colour: `--c${1 + ((place - 1) % COLOURS)}`,
    shape: shapes[(place - 1 + Math.floor((place - 1) / COLOURS)) % shapes.length],
  };
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** The mark of a method, as plots show it; with a dash it is drawn on its line. */
function markOf(family, dash) {
  const { colour, shape } = styleOf(family);
  const wide = dash !== undefined;
  const drawing = svg("svg", { viewBox: wide ? "-10 0 30 10" : "0 0 10 10", "aria-hidden": "true" });
  drawing.classList.add("mark");
  if (wide) {
    drawing.classList.add("wide");
    const line = svg("line", { x1: -10, x2: 20, y1: 5, y2: 5, "stroke-width": 1.6 });
    line.style.stroke = `var(${colour})`;
    if (dash) line.setAttribute("stroke-dasharray", dash);
    drawing.append(line);
  }
  const path = svg("path", { d: SHAPES[shape] });
  path.style.fill = `var(${colour})`;
  drawing.append(path);
  return drawing;
}

// --- tables ---

/** "0.5 ± 0.1" and "+0.5 [0.4, 0.6]": what is uncertain about it stands back. */
function valueNodes(text) {
  const cut = text.search(/ [±[]/);
  if (cut < 0) return [text];
  return [text.slice(0, cut), element("span", { class: "interval" }, text.slice(cut))];
}

/** A name that may be broken where its parts begin. */
function nameNodes(name) {
  return String(name).split(/(?<=[(,+])/).flatMap((part, i) => (i > 0 ? [element("wbr"), part] : [part]));
}

const isNumber = (value) => typeof value === "number";

function compareCells(a, b, direction) {
  const [x, y] = [a.v, b.v];
  if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
  if (y === null || y === undefined) return -1; // what is missing comes last either way
  const order = isNumber(x) && isNumber(y) ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return direction === "descending" ? -order : order;
}

/** A table whose heads sort: up, down, and back to the order it came in. */
function tableElement(table, label, options = {}) {
  const { rowOf = () => null, sortable = true } = options;
  const textual = table.columns.map((_, c) =>
    table.rows.every((row) => !isNumber(row.cells[c].v) && row.cells[c].t !== "–"));
  const body = element("tbody");
  const heads = table.columns.map((column, c) => {
    const content = sortable ? element("button", { type: "button" }, column.label) : column.label;
    const head = element("th", {
      scope: "col", class: textual[c] ? "text" : null, title: column.doc || null,
      "aria-sort": sortable ? "none" : null,
    }, content);
    return head;
  });
  const rows = table.rows.map((row) => {
    const about = rowOf(row);
    const cells = row.cells.map((cell, c) => {
      if (c === 0) {
        return element("th", { scope: "row", title: cell.doc || null },
          about ? markOf(about.family) : null, ...nameNodes(cell.t));
      }
      const classes = [textual[c] ? "text" : "", cell.best ? "best" : ""].join(" ").trim();
      return element("td", { class: classes || null }, ...valueNodes(cell.t));
    });
    return { row, node: element("tr", { class: about && about.dense ? "dense" : null }, ...cells) };
  });
  body.append(...rows.map(({ node }) => node));
  const sortBy = (c) => {
    const turns = { none: "ascending", ascending: "descending", descending: "none" };
    const direction = turns[heads[c].getAttribute("aria-sort")];
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === c ? direction : "none"));
    const sorted = direction === "none" ? rows
      : [...rows].sort((a, b) => compareCells(a.row.cells[c], b.row.cells[c], direction));
    body.append(...sorted.map(({ node }) => node));
  };
  if (sortable) heads.forEach((head, c) => head.firstChild.addEventListener("click", () => sortBy(c)));
  return element("div", { class: options.full ? "scroll full" : "scroll", tabindex: 0, role: "region", "aria-label": label },
    element("table", { class: options.class ?? (rows.some(({ row }) => rowOf(row)) ? null : "plain") },
      element("caption", { class: "skip" }, label),
      element("thead", {}, element("tr", {}, ...heads)), body));
}

const cell = (value, text) => ({ v: value, t: text ?? (value === null || value === undefined ? "–" : String(value)) });

/** As summary.md writes numbers: four digits. */
function digits(value) {
  if (!isNumber(value)) return "–";
  if (Math.abs(value) >= 1e4) return value.toFixed(0);
  return String(Number(value.toPrecision(4)));
}
const digitsCell = (value) => (isNumber(value) ? cell(value, digits(value)) : cell(null));

function details(summary, ...children) {
  return element("details", {}, element("summary", {}, summary), ...children);
}

// --- sections ---

function questionSection(question) {
  const rowOf = (row) => question.rows[row.row] ?? null;
  const section = element("section", { id: question.id, "aria-labelledby": `${question.id}-title` },
    element("h2", { id: `${question.id}-title` }, question.heading),
    element("p", { class: "facts" }, question.facts),
    tableElement(question.table, `${question.heading}: results`, { rowOf, full: true }));
  if (question.tradeoffs) {
    section.append(element("h3", {}, "What the settings of a method trade"),
      tableElement(question.tradeoffs, `${question.heading}: trade-offs`, { rowOf }));
  }
  if (question.plots.length > 0) {
    section.append(element("div", { class: "plots" },
      ...question.plots.map((plot) => plotFigure(plot, question))));
  }
  section.append(details("All metrics", tableElement(question.all, `${question.heading}: all metrics`)));
  return section;
}

function warningsNotice() {
  const items = page.warnings.map(({ where, text }) =>
    element("li", {}, where ? element("b", {}, `${where}: `) : null, text));
  if (page.missing > 0) {
    items.unshift(element("li", {}, `Not finished: ${page.missing === 1 ? "a cell is" : `${page.missing} cells are`} still to be run.`));
  }
  if (items.length === 0) return null;
  return element("div", { class: "notice", role: "note", "aria-label": "Warnings" },
    element("b", {}, "Warnings"), element("ul", {}, ...items));
}

function referencesSection() {
  if (page.references.length === 0) return null;
  const labels = ["method", "model", "benchmark", "metric", "value", "unit", "bits", "cr", "setting", "source"]
    .filter((label) => page.references.some((row) => row[label] !== undefined));
  const table = {
    columns: labels.map((label) => ({ label, doc: "" })),
    rows: page.references.map((row) => ({
      row: -1,
      cells: labels.map((label) => cell(row[label] ?? null)),
    })),
  };
  return element("section", { id: "references", "aria-labelledby": "references-title" },
    element("h2", { id: "references-title" }, "Reported elsewhere"),
    element("p", { class: "facts" },
      "Published by others, on other data, models and machines; not measured here."),
    tableElement(table, "Reported elsewhere", { class: "grey" }));
}

function overviewSection() {
  if (!page.overview) return null;
  const rowOf = (row) => ({ family: row.family, dense: row.family === page.families[0] });
  return element("section", { id: "overview", "aria-labelledby": "overview-title" },
    element("h2", { id: "overview-title" }, "At a glance"),
    element("p", { class: "facts" }, "The headline of every question."),
    tableElement(page.overview, "All questions", { rowOf }));
}

function metricsSection() {
  const table = {
    columns: ["metric", "unit", "better", "meaning"].map((label) => ({ label, doc: "" })),
    rows: Object.entries(page.metrics).map(([name, { unit, better, doc }]) => ({
      row: -1, cells: [cell(name), cell(unit), cell(better), cell(doc)],
    })),
  };
  return element("section", { id: "record", "aria-labelledby": "record-title" },
    element("h2", { id: "record-title" }, "How it was made"),
    details("Metrics, their units and meaning",
      tableElement(table, "Metrics", { sortable: false, class: "prose" })),
    element("details", { class: "record-box" }, element("summary", {}, "Reproducibility record"),
      element("p", { class: "facts" },
        "record.json of the run directory: kvlab reproduce runs it again and compares every digit."),
      element("pre", { class: "record", tabindex: 0, "aria-label": "record.json" },
        JSON.stringify(page.record, null, 2))));
}

function contents(sections) {
  if (sections.length < 2) return null;
  return element("ol", {}, ...sections.map((section) =>
    element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent))));
}

function build() {
  document.getElementById("subtitle").textContent = page.subtitle.join(" · ");
  const sections = [
    overviewSection(), ...page.questions.map(questionSection), referencesSection(), metricsSection(),
  ].filter(Boolean);
  const main = document.getElementById("main");
  const warnings = warningsNotice();
  if (warnings) main.append(warnings);
  main.append(...sections);
  const list = contents(sections);
  if (list) document.getElementById("contents").append(list);
}
