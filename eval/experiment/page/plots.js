"use strict";
// Plots: what is drawn from page data, in the colours of the scheme, when it comes into sight.

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "pentagon", "star"];
const DASHES = [["solid", ""], ["dash", "4 2.4"], ["dot", "1.4 1.8"], ["dashdot", "4 1.8 1.4 1.8"], ["longdash", "7 2.4"]];
const TONES = [1, 0.5, 0.2, 0.75, 0.35, 0.1]; // how full the bars of a family's settings are
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const RAMP = CIVIDIS.map((colour, i) => [i / (CIVIDIS.length - 1), colour]);

/** Plotly reads tags and entities in its texts; names must stay what they are. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const labelOf = (row) => (row.setting ? `${row.family}, ${row.setting}` : row.title);

/** Which of its family's rows this one is: dashes and patterns tell settings apart. */
function placeInFamily(question, place) {
  const { family } = question.rows[place];
  return question.rows.slice(0, place).filter((row) => row.family === family).length;
}

const dashOf = (question, row) => DASHES[placeInFamily(question, row) % DASHES.length];
const toneOf = (question, row) => TONES[placeInFamily(question, row) % TONES.length];

// --- colours ---

const probe = document.createElement("i");
probe.hidden = true;

function schemeColours(scheme) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.colorScheme = scheme;
  return (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
}

const darkScreen = matchMedia("screen and (prefers-color-scheme: dark)");
let colour = null; // of the scheme that is drawn

function baseLayout(extra) {
  const axis = {
    gridcolor: colour("--grid"), linecolor: colour("--rule"), zerolinecolor: colour("--rule"),
    tickcolor: colour("--rule"), ticks: "outside", ticklen: 4, automargin: true, fixedrange: true,
    title: { standoff: 8, font: { size: 12.5 } },
  };
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("--ink") },
    paper_bgcolor: colour("--paper"), plot_bgcolor: colour("--paper"),
    margin: { l: 48, r: 14, t: 14, b: 44 }, showlegend: false, hovermode: "closest", dragmode: false,
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--rule"), font: { color: colour("--ink") }, align: "left" },
    ...extra,
    xaxis: { ...axis, ...extra.xaxis, title: { ...axis.title, ...extra.xaxis?.title } },
    yaxis: { ...axis, ...extra.yaxis, title: { ...axis.title, ...extra.yaxis?.title } },
  };
}

const isFiniteNumber = (value) => typeof value === "number" && Number.isFinite(value);

function padded(values, options = {}) {
  const known = values.filter(isFiniteNumber);
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (options.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const pad = high > low ? 0.09 * (high - low) : Math.max(0.1 * Math.abs(high), 1e-9);
  return [options.zero && low === 0 ? 0 : low - pad, high + pad];
}

/** A logarithmic axis to base 2 for what is positive. */
function octaves(values) {
  const known = values.filter((value) => isFiniteNumber(value) && value > 0);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const pad = Math.max(0.06 * Math.log2(high / low), 0.12);
  const [from, to] = [Math.log2(low) - pad, Math.log2(high) + pad];
  const step = to - from > 10 ? 2 : to - from > 1.6 ? 1 : 0.25;
  const ticks = [];
  for (let k = Math.ceil(from / step); k * step <= to; ++k) ticks.push(2 ** (k * step));
  return {
    type: "log", range: [from * Math.log10(2), to * Math.log10(2)],
    tickvals: ticks, ticktext: ticks.map((tick) => digits(Number(tick.toPrecision(3)))),
  };
}

/** Of equal weight to the eye: Plotly's triangles and crosses are smaller than their size. */
const WEIGHTS = [1, 0.92, 1.08, 1.25, 1.15, 1.25, 1.12, 1.4];

function marker(family, size = 10) {
  const { colour: name, shape } = styleOf(family);
  return { color: colour(name), symbol: SYMBOLS[shape], size: size * WEIGHTS[shape], line: { width: 1, color: colour("--paper") } };
}

const LABEL = { size: 11, height: 14, width: 6.2, gap: 8 }; // CSS pixels; width of a character
const SIDES = [["top center", 0, -1], ["bottom center", 0, 1], ["middle right", 1, 0], ["middle left", -1, 0]];

/**
 * Where each point's text goes so that no two cover each other nor an error bar, "" where there is
 * no room.  Points: {x, y, low, high} as shares of the plot, {text}; it is `width` by `height` pixels.
 */
function placeLabels(points, width, height) {
  const boxes = points.map(({ x, y }) => [x * width - 6, y * height - 6, x * width + 6, y * height + 6]);
  for (const { x, low, high } of points) {
    if (isFiniteNumber(low)) boxes.push([x * width - 3, high * height, x * width + 3, low * height]);
  }
  const overlaps = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return points.map(({ x, y, text }, own) => {
    if (!text) return ["", "top center"];
    const wide = text.length * LABEL.width;
    for (const [side, right, down] of SIDES) {
      const [cx, cy] = [x * width + right * (LABEL.gap + wide / 2), y * height + down * (LABEL.gap + LABEL.height / 2)];
      const box = [cx - wide / 2, cy - LABEL.height / 2, cx + wide / 2, cy + LABEL.height / 2];
      const isInside = box[0] > -30 && box[2] < width + 10 && box[1] > -14 && box[3] < height;
      if (isInside && !boxes.some((other, i) => i !== own && overlaps(box, other))) {
        boxes.push(box);
        return [text, side];
      }
    }
    return ["", "top center"];
  });
}

/** The texts of all points beside their marks: one more trace, without marks. */
function labelTrace(points, question, layout, place) {
  const share = (axis, value) => {
    const at = axis.type === "log" ? Math.log10(value) : value;
    return (at - axis.range[0]) / (axis.range[1] - axis.range[0]);
  };
  const down = (value) => {
    if (!isFiniteNumber(value)) return null;
    const at = 1 - share(layout.yaxis, value);
    return isFiniteNumber(at) ? at : 1; // below a logarithmic axis
  };
  const labels = placeLabels(points.map(({ row, x, y, low, high }) => ({
    x: share(layout.xaxis, x), y: down(y), low: down(low), high: down(high), text: question.rows[row].setting,
  })), place.width - 75, place.height - 60);
  return {
    x: points.map(({ x }) => x), y: points.map(({ y }) => y), mode: "markers+text", hoverinfo: "skip",
    marker: { size: 12, color: "rgba(0,0,0,0)" }, // keeps the text at a distance
    text: labels.map(([text]) => plain(text)), textposition: labels.map(([, side]) => side),
    textfont: { size: LABEL.size, color: colour("--muted"), shadow: halo() }, cliponaxis: false,
  };
}

/** Lines behind a text do not cut it. */
const halo = () => Array(4).fill(`0 0 2px ${colour("--paper")}`).join(", ");

const reference = (x0, x1, y0, y1, refs = {}) => ({
  type: "line", x0, x1, y0, y1, layer: "below", line: { color: colour("--muted"), width: 1.2, dash: "dot" }, ...refs,
});

// --- what each kind draws: { data, layout } of a plot ---

function drawTradeoff(plot, question, place) {
  const values = plot.points.flatMap(({ y, low, high }) => [y, low, high]).filter(isFiniteNumber);
  const isLog = plot.metric === "kl" && usesLogarithm(plot);
  const shown = plot.points.filter((point) => !isLog || point.y > 0);
  const traces = [{
    x: plot.front.map(([x]) => x), y: plot.front.map(([, y]) => (isLog && y <= 0 ? null : y)), mode: "lines",
    line: { color: colour("--muted"), width: 1.4 }, hoverinfo: "skip",
  }];
  for (const family of new Set(shown.map(({ row }) => question.rows[row].family))) {
    const own = shown.filter(({ row }) => question.rows[row].family === family);
    const distance = (end) => own.map((point) => (isFiniteNumber(point[end]) ? Math.abs(point[end] - point.y) : 0));
    traces.push({
      x: own.map(({ x }) => x), y: own.map(({ y }) => y),
      mode: "markers", marker: marker(family), cliponaxis: false,
      error_y: {
        type: "data", array: distance("high"), arrayminus: distance("low"), symmetric: false,
        thickness: 1.2, width: 4, color: colour(styleOf(family).colour),
      },
      hoverinfo: "text",
      hovertext: own.map(({ row, x, y, low, high }) => `<b>${plain(question.rows[row].title)}</b><br>cr ${digits(x)}<br>`
        + `${plain(plot.metric)} ${digits(y)}${isFiniteNumber(low) ? ` [${digits(low)}, ${digits(high)}]` : ""}`),
    });
  }
  const isTime = plot.metric === "tpot_ms";
  const yaxis = isLog
    ? { type: "log", dtick: 1, exponentformat: "power", range: padded(values.filter((y) => y > 0).map(Math.log10)) }
    : { range: padded(values, { zero: isTime }) };
  const layout = baseLayout({
    xaxis: { ...octaves(plot.points.map(({ x }) => x)), title: { text: "compression ratio (log2)" } },
    yaxis: { ...yaxis, title: { text: plain(axisTitle(plot.metric, plot.unit)) } },
    shapes: isFiniteNumber(plot.dense) && !isLog
      ? [reference(0, 1, plot.dense, plot.dense, { xref: "paper" })] : [],
  });
  traces.push(labelTrace(shown, question, layout, place));
  return { data: traces, layout };
}

function usesLogarithm(plot) {
  const positive = plot.points.map(({ y }) => y).filter((y) => y > 0);
  return positive.length > 1 && Math.max(...positive) / Math.min(...positive) > 30;
}

const axisTitle = (metric, unit) => (unit && unit !== "fraction" && unit !== "1" ? `${metric} (${unit})` : metric);

/** Black or white, whichever is further from the colour that a share of the ramp has. */
function inkOn(share) {
  const hex = CIVIDIS[Math.round(Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1))];
  const linear = [1, 3, 5].map((i) => (parseInt(hex.slice(i, i + 2), 16) / 255) ** 2.2);
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return luminance > 0.18 ? "#000" : "#fff";
}

function drawHeat(values, rows, columns, options) {
  const cells = values.flatMap((line, i) => line.map((value, j) => ({ value, row: rows[i], column: columns[j] })))
    .filter(({ value }) => isFiniteNumber(value));
  const range = options.high - options.low || 1;
  const data = [{
    type: "heatmap", z: values, x: columns, y: rows, colorscale: RAMP, zmin: options.low, zmax: options.low + range,
    showscale: false, xgap: 1, ygap: 1, hoverinfo: "text",
    hovertext: values.map((line, i) => line.map((value, j) => options.hover(i, j, value))),
  }];
  if (rows.length * columns.length <= 77) {
    data.push({
      x: cells.map(({ column }) => column), y: cells.map(({ row }) => row), mode: "text", hoverinfo: "skip",
      text: cells.map(({ value }) => shortNumber(value)),
      textfont: { size: 10, color: cells.map(({ value }) => inkOn((value - options.low) / range)) },
    });
  }
  return {
    data,
    layout: baseLayout({
      xaxis: { type: "category", title: { text: options.x }, showgrid: false, ticks: "" },
      yaxis: { type: "category", autorange: "reversed", title: { text: options.y }, showgrid: false, ticks: "" },
    }),
  };
}

const shortNumber = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2))));

function drawDistance(plot, question) {
  const traces = plot.bars.map((bar) => {
    const row = question.rows[bar.row];
    const distance = (end) => bar.values.map((value, i) => (isFiniteNumber(bar[end][i]) && isFiniteNumber(value) ? Math.abs(bar[end][i] - value) : 0));
    const full = colour(styleOf(row.family).colour);
    return {
      type: "bar", x: plot.buckets, y: bar.values,
      marker: { color: full.replace("rgb(", "rgba(").replace(")", `, ${toneOf(question, bar.row)})`), line: { color: full, width: 1.2 } },
      error_y: { type: "data", array: distance("high"), arrayminus: distance("low"), symmetric: false, thickness: 1.2, width: 3, color: colour("--ink") },
      hoverinfo: "text",
      hovertext: bar.values.map((value, i) => `<b>${plain(row.title)}</b><br>${plot.buckets[i]} tokens<br>${digits(value)} [${digits(bar.low[i])}, ${digits(bar.high[i])}]`),
    };
  });
  return {
    data: traces,
    layout: baseLayout({
      barmode: "group", bargap: 0.25,
      xaxis: { type: "category", title: { text: "tokens since the last compression" }, showgrid: false },
      yaxis: { title: { text: plain(axisTitle(plot.metric, plot.unit)) } },
    }),
  };
}

function drawLayers(plot, question) {
  const traces = plot.lines.map((line) => {
    const row = question.rows[line.row];
    return {
      x: line.values.map((_, layer) => layer), y: line.values, mode: "lines+markers",
      marker: marker(row.family, 7),
      line: { color: colour(styleOf(row.family).colour), width: 1.8, dash: dashOf(question, line.row)[0] },
      hoverinfo: "text",
      hovertext: line.values.map((value, layer) => `<b>${plain(row.title)}</b><br>layer ${layer}<br>${plain(plot.metric)} ${digits(value)}`),
    };
  });
  const layers = Math.max(...plot.lines.map(({ values }) => values.length));
  return {
    data: traces,
    layout: baseLayout({
      xaxis: { title: { text: "layer" }, dtick: layers > 16 ? Math.ceil(layers / 12) : 1, range: [-0.4, layers - 0.6], zeroline: false },
      yaxis: { range: padded(plot.lines.flatMap(({ values }) => values)), title: { text: plain(axisTitle(plot.metric, plot.unit)) } },
    }),
  };
}

function scatterTraces(plot, question, text) {
  return plot.points.map(({ row, x, y }) => ({
    x: [x], y: [y], mode: "markers", marker: marker(question.rows[row].family, 11), cliponaxis: false,
    hoverinfo: "text", hovertext: [`<b>${plain(question.rows[row].title)}</b><br>${text(x, y)}`],
  }));
}

const byteText = (bytes) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(bytes) >= 1024 && unit + 1 < units.length) { bytes /= 1024; ++unit; }
  return `${digits(bytes)} ${units[unit]}`;
};

function drawRoofline(plot, question, place) {
  const axis = octaves(plot.points.map(({ x }) => x));
  const ceiling = isFiniteNumber(plot.ceiling) ? plot.ceiling : null;
  const layout = baseLayout({
    xaxis: { ...axis, ticktext: axis.tickvals.map(byteText), title: { text: "bytes moved in a step (log2)" } },
    yaxis: { range: padded([...plot.points.map(({ y }) => y), ceiling ?? 0], { zero: true }), title: { text: "achieved GB/s" } },
    shapes: ceiling ? [reference(0, 1, ceiling, ceiling, { xref: "paper" })] : [],
    annotations: ceiling ? [{
      xref: "paper", x: 0, y: ceiling, xanchor: "left", yanchor: "bottom", showarrow: false,
      text: `read bandwidth, measured: ${digits(ceiling)} GB/s`, font: { size: 11, color: colour("--muted") },
    }] : [],
  });
  const data = scatterTraces(plot, question, (x, y) => `${byteText(x)} in a step<br>${digits(y)} GB/s`
    + (ceiling ? `, ${digits(y / ceiling)} of what was measured` : ""));
  return { data: [...data, labelTrace(plot.points, question, layout, place)], layout };
}

function drawSpeedup(plot, question, place) {
  const most = 1.08 * Math.max(...plot.points.flatMap(({ x, y }) => [x, y]), 1);
  const layout = baseLayout({
    xaxis: { range: [0, most], title: { text: "bound by bandwidth: dense bytes / compressed bytes" } },
    yaxis: { range: [0, most], title: { text: "measured speed-up" } },
    shapes: [reference(0, most, 0, most), reference(0, most, 1, 1)],
  });
  const data = scatterTraces(plot, question, (x, y) => `bound ${digits(x)}x<br>measured ${digits(y)}x, ${digits(y / x)} of it`);
  return { data: [...data, labelTrace(plot.points, question, layout, place)], layout };
}

// --- the same as tables and sentences ---

const tableOf = (labels, rows) => ({
  columns: labels.map((label) => ({ label, doc: "" })),
  rows: rows.map((cells) => ({ row: -1, cells })),
});
const names = (plot, question) => plot.points.map(({ row }) => question.rows[row].title);

const KINDS = {
  tradeoff: {
    draw: drawTradeoff,
    legend: (plot, question) => familyLegend(plot.points, question),
    note: (plot, question) => {
      const zero = plot.metric === "kl" && usesLogarithm(plot) ? plot.points.filter(({ y }) => y <= 0) : [];
      const parts = [`${plot.better} is better`];
      if (isFiniteNumber(plot.dense) && zero.length === 0) parts.push("dotted: dense");
      if (zero.length > 0) parts.push(`0, so not on this logarithmic axis: ${zero.map(({ row }) => question.rows[row].title).join(", ")}`);
      return parts.join("; ");
    },
    say: (plot) => `${plot.metric} over the compression ratio, ${plot.points.length} points. Front: `
      + plot.front.map(([x, y]) => `${digits(y)} at cr ${digits(x)}`).join(", ") + ".",
    table: (plot, question) => tableOf(["method", "cr", plot.metric, "from", "to"],
      plot.points.map((p) => [cell(question.rows[p.row].title), digitsCell(p.x), digitsCell(p.y), digitsCell(p.low), digitsCell(p.high)])),
  },
  distance: {
    draw: drawDistance, wide: true,
    legend: (plot, question) => rowLegend(plot.bars, question, (row) => toneMark(question, row)),
    note: () => "difference to dense, with 95 % intervals",
    say: (plot, question) => `Loss of NLL by distance for ${plot.bars.length} methods: `
      + plot.bars.map((bar) => `${question.rows[bar.row].title} ${bar.values.map(digits).join(", ")}`).join("; ") + ".",
    table: (plot, question) => tableOf(["method", ...plot.buckets], plot.bars.map((bar) =>
      [cell(question.rows[bar.row].title), ...bar.values.map((v, i) => cell(v, `${digits(v)} [${digits(bar.low[i])}, ${digits(bar.high[i])}]`))])),
  },
  layers: {
    draw: drawLayers, wide: true,
    legend: (plot, question) => rowLegend(plot.lines, question,
      (row) => markOf(question.rows[row].family, dashOf(question, row)[1])),
    note: (plot) => (plot.panels.length > 0 ? "lines: mean over heads; below: each head" : ""),
    say: (plot, question) => `${plot.metric} of each layer for ${plot.lines.length} methods: `
      + plot.lines.map((line) => `${question.rows[line.row].title} from ${digits(Math.min(...line.values.filter(isFiniteNumber)))} to ${digits(Math.max(...line.values.filter(isFiniteNumber)))}`).join("; ") + ".",
    table: (plot, question) => tableOf(["method", ...plot.lines[0].values.map((_, i) => `layer ${i}`)],
      plot.lines.map((line) => [cell(question.rows[line.row].title), ...plot.lines[0].values.map((_, i) => digitsCell(line.values[i]))])),
  },
  roofline: {
    draw: drawRoofline,
    legend: (plot, question) => familyLegend(plot.points, question),
    note: (plot) => (isFiniteNumber(plot.ceiling) ? "dotted: what a sum over memory reached in the same process" : ""),
    say: (plot, question) => `Achieved bandwidth of ${names(plot, question).map((name, i) => `${name} ${digits(plot.points[i].y)} GB/s`).join(", ")}`
      + (isFiniteNumber(plot.ceiling) ? `; measured ceiling ${digits(plot.ceiling)} GB/s.` : "."),
    table: (plot, question) => tableOf(["method", "bytes moved in a step", "GB/s", "of the ceiling"], plot.points.map((p) =>
      [cell(question.rows[p.row].title), cell(p.x, byteText(p.x)), digitsCell(p.y), digitsCell(isFiniteNumber(plot.ceiling) ? p.y / plot.ceiling : null)])),
  },
  speedup: {
    draw: drawSpeedup,
    legend: (plot, question) => familyLegend(plot.points, question),
    note: () => "on the diagonal all saved bytes become time; under 1 it is slower than dense",
    say: (plot, question) => `Speed-up of ${names(plot, question).map((name, i) => `${name} ${digits(plot.points[i].y)} of ${digits(plot.points[i].x)}`).join(", ")}.`,
    table: (plot, question) => tableOf(["method", "bound", "measured", "fraction reached"], plot.points.map((p) =>
      [cell(question.rows[p.row].title), digitsCell(p.x), digitsCell(p.y), digitsCell(p.y / p.x)])),
  },
};

function familyLegend(points, question) {
  const families = [...new Set(points.map(({ row }) => question.rows[row].family))];
  return element("ul", { class: "legend" }, ...families.map((family) => element("li", {}, markOf(family), family)));
}

function rowLegend(entries, question, mark) {
  return element("ul", { class: "legend" }, ...entries.map(({ row }) =>
    element("li", {}, mark(row), labelOf(question.rows[row]))));
}

function toneMark(question, row) {
  const drawing = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
  drawing.classList.add("mark");
  const bar = svg("rect", { x: 0.8, y: 0.8, width: 8.4, height: 8.4, "stroke-width": 1.2, "fill-opacity": toneOf(question, row) });
  bar.style.fill = bar.style.stroke = `var(${styleOf(question.rows[row].family).colour})`;
  drawing.append(bar);
  return drawing;
}

// --- figures ---

const drawn = new Map(); // a plot's element -> how to draw it

function plotElement(label, draw) {
  const made = element("div", { class: "plot", role: "img", "aria-label": label });
  drawn.set(made, { draw, done: false });
  return made;
}

function dataDetails(table, label) {
  const made = details("Data of this plot", tableElement(table, label));
  made.classList.add("plot-data");
  return made;
}

function plotFigure(plot, question) {
  if (plot.kind === "needle") return needleFigure(plot, question);
  const kind = KINDS[plot.kind];
  const note = kind.note(plot, question);
  const figure = element("figure", { class: kind.wide ? "wide" : null, "data-plot": plot.kind, "data-metric": plot.metric ?? null },
    element("figcaption", {}, element("h3", {}, plot.title),
      note ? element("p", { class: "note" }, note) : null, kind.legend(plot, question)),
    plotElement(kind.say(plot, question), (place) => kind.draw(plot, question, place)));
  if (plot.panels && plot.panels.length > 0) figure.append(...headPanels(plot, question));
  figure.append(dataDetails(kind.table(plot, question), plot.title));
  return figure;
}

function scaleElement(low, high, label) {
  const ramp = element("span", { class: "ramp", "aria-hidden": "true" });
  ramp.style.background = `linear-gradient(to right, ${CIVIDIS.join(", ")})`;
  return element("p", { class: "scale" }, digits(low), ramp, digits(high), ` ${label}`);
}

function panelElement(title, family, label, draw) {
  return element("div", { class: "panel" }, element("h4", {}, markOf(family), title), plotElement(label, draw));
}

function headPanels(plot, question) {
  const values = plot.panels.flatMap(({ heads }) => heads.flat()).filter(isFiniteNumber);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const panels = plot.panels.map(({ row, heads }) => {
    const about = question.rows[row];
    const grid = heads.map((layer) => (Array.isArray(layer) ? layer : [layer]));
    const columns = Math.max(...grid.map((layer) => layer.length));
    return panelElement(labelOf(about), about.family,
      `${plot.metric} of ${about.title}, ${heads.length} layers by ${columns} heads, from ${digits(Math.min(...grid.flat().filter(isFiniteNumber)))} to ${digits(Math.max(...grid.flat().filter(isFiniteNumber)))}`,
      () => drawHeat(grid, grid.map((_, i) => String(i)), Array.from({ length: columns }, (_, i) => String(i)), {
        x: "head", y: "layer", low, high,
        hover: (layer, head, value) => `layer ${layer}, head ${head}<br>${plain(plot.metric)} ${digits(value)}`,
      }));
  });
  return [scaleElement(low, high, axisTitle(plot.metric, plot.unit)), element("div", { class: "panels" }, ...panels)];
}

function needleFigure(plot, question) {
  const depths = plot.depths.map(digits), lengths = plot.lengths.map(digits);
  const across = (scores) => plot.depths.map((_, d) => plot.lengths.map((_, l) => scores[l][d]));
  const panels = plot.panels.map(({ row, scores, counts }) => {
    const about = question.rows[row];
    const known = scores.flat().filter(isFiniteNumber);
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    return panelElement(labelOf(about), about.family,
      `${plot.metric} of ${about.title} by length and depth of the needle: mean ${digits(mean)}, lowest ${digits(Math.min(...known))}`,
      () => drawHeat(across(scores), depths, lengths, {
        x: "length (tokens)", y: "depth", low: 0, high: 1,
        hover: (d, l, value) => `length ${lengths[l]}, depth ${depths[d]}<br>${plain(plot.metric)} ${digits(value)}, ${counts[l][d]} samples`,
      }));
  });
  const rows = plot.panels.flatMap(({ row, scores, counts }) => scores.flatMap((line, l) => line.map((score, d) =>
    [cell(question.rows[row].title), digitsCell(plot.lengths[l]), digitsCell(plot.depths[d]), digitsCell(score), digitsCell(counts[l][d])])));
  return element("figure", { class: "wide", "data-plot": "needle" },
    element("figcaption", {}, element("h3", {}, plot.title), scaleElement(0, 1, plot.metric)),
    element("div", { class: "panels" }, ...panels),
    dataDetails(tableOf(["method", "length", "depth", plot.metric, "samples"], rows), plot.title));
}

// --- drawing ---

let plotly = null;

/** Plotly lies in the page compressed; it is unpacked once, after the tables are there. */
async function loadPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  plotly = window.Plotly;
}

function drawOne(place, options = {}) {
  const entry = drawn.get(place);
  const size = { width: options.width ?? place.clientWidth, height: options.height ?? place.clientHeight };
  const { data, layout } = entry.draw(size);
  if (options.width) Object.assign(layout, size);
  plotly.react(place, data, layout, { displayModeBar: false, responsive: !options.width });
  entry.done = true;
}

/** Draws what is drawn already in the colours of now; with `all` also what never came into sight. */
function drawAgain(all = false) {
  colour = schemeColours(darkScreen.matches ? "dark" : "light");
  for (const [place, entry] of drawn) if (all || entry.done) drawOne(place);
}

const PRINT_WIDTH = 690; // CSS pixels across A4 inside the margins; heights as in report.css

function drawForPrint() {
  if (!plotly) return;
  colour = schemeColours("light");
  for (const place of drawn.keys()) {
    const isPanel = place.parentElement.classList.contains("panel");
    drawOne(place, { width: isPanel ? PRINT_WIDTH / 2 - 20 : PRINT_WIDTH, height: isPanel ? 210 : 300 });
  }
}

function watch() {
  const sight = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      sight.unobserve(target);
      if (!drawn.get(target).done) drawOne(target);
    }
  }, { rootMargin: "600px" });
  for (const place of drawn.keys()) sight.observe(place);
  darkScreen.addEventListener("change", () => drawAgain());
  const print = matchMedia("print");
  print.addEventListener("change", ({ matches }) => (matches ? drawForPrint() : drawAgain(true)));
  addEventListener("beforeprint", drawForPrint);
  addEventListener("afterprint", () => drawAgain(true));
}

async function drawPlots() {
  if (drawn.size === 0) return;
  await loadPlotly();
  colour = schemeColours(darkScreen.matches ? "dark" : "light");
  watch();
}

try {
  build();
} finally {
  document.documentElement.classList.remove("building");
}
document.addEventListener("DOMContentLoaded", () => {
  drawPlots().then(() => { document.documentElement.dataset.ready = "yes"; });
});
