/** Charts with axes and ticks, drawn at the width that they have on the screen. */

function niceTicks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low) / count || 1));
  const width = [1, 2, 5, 10].map((m) => m * step).find((w) => (high - low) / w <= count) || step * 10;
  const ticks = [];
  for (let i = Math.ceil(low / width - 1e-9); i * width <= high + width * 1e-6; i++) ticks.push(Number((i * width).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const step = Math.max(1, Math.ceil((last - first) / 6));
  const ticks = [];
  for (let e = first; e <= last; e += step) ticks.push(10 ** e);
  return ticks;
}

const tickText = (v) => v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(1).replace(".0e", "e").replace("e+", "e") : short(v);
const chartText = (x, y, text, anchor = "middle", strong = false) => withText(
  svg("text", { x, y, "text-anchor": anchor, class: strong ? "strong" : "" }), text);
const rule = (x1, y1, x2, y2) => svg("line", { x1, y1, x2, y2, class: "axis" });

function hover(node, text) {
  node.addEventListener("pointermove", (event) => tip(event, text));
  node.addEventListener("pointerleave", noTip);
  return node;
}

function fitText(text, room) {
  if (measure(text, "11.5px system-ui, sans-serif") <= room) return text;
  const tail = text.includes(".") && !text.includes(" ");  // of a module's name the end tells more
  const cut = (n) => tail ? "…" + text.slice(text.length - n) : text.slice(0, n) + "…";
  let n = text.length;
  while (n > 1 && measure(cut(n), "11.5px system-ui, sans-serif") > room) n--;
  return cut(n);
}

function drawBars(block, width) {
  const rows = block.rows, values = rows.map((r) => r.value || 0).filter((v) => v > 0);
  const left = Math.min(width * .4, Math.max(60, ...rows.map((r) => measure(r.label, "11.5px system-ui, sans-serif") + 16)));
  const right = block.room || 70, step = 22, bottom = rows.length * step;
  const plot = Math.max(width - left - right, 40);
  const highest = Math.max(...values, 0) || 1;
  const ticks = block.log && values.length ? logTicks(Math.min(...values) * .8, highest) : niceTicks(0, highest, Math.max(2, Math.floor(plot / 80)));
  const top = block.log ? ticks[ticks.length - 1] : Math.max(highest, ticks[ticks.length - 1]);
  const end = Math.max(top, highest);
  const start = ticks[0];
  const x = block.log ? (v) => left + plot * Math.log(v / start) / Math.log(end / start || Math.E) : (v) => left + plot * v / end;
  const node = svg("svg", { height: bottom + (block.unit ? 34 : 20), role: "img", "aria-label": block.title });
  for (const t of ticks) node.append(rule(x(t), 0, x(t), bottom + 4), chartText(x(t), bottom + 16, tickText(t)));
  if (block.unit) node.append(chartText(left + plot / 2, bottom + 31, block.unit + (block.log ? " (log)" : "")));
  rows.forEach((row, i) => {
    const y = i * step, long = row.value > 0 ? Math.max(x(row.value) - left, 1) : 0;
    const bar = svg("rect", { class: "bar " + (row.state || ""), x: left, y: y + 4, width: long, height: step - 8, rx: 2 });
    node.append(hover(bar, `${row.label}: ${row.shown}${row.note ? "\n" + row.note : ""}`),
      chartText(left - 8, y + 15, fitText(row.label, left - 12), "end", true), chartText(left + long + 6, y + 15, row.shown, "start", true));
    if (row.action) {
      const target = svg("rect", { x: 0, y, width, height: step, fill: "transparent", role: "link", "aria-label": row.label, "data-bar": row.label, tabindex: 0 });
      target.style.cursor = "pointer";
      target.addEventListener("click", row.action);
      target.addEventListener("keydown", (event) => { if (event.key === "Enter") row.action(); });
      node.append(hover(target, `${row.label}: ${row.shown}${row.note ? "\n" + row.note : ""}`));
    }
  });
  return node;
}

function drawHistogram(block, width) {
  const left = 38, height = 120, plot = width - left - 8, { low, high, counts } = block;
  const most = Math.max(...counts), y = (n) => height - height * Math.log10(n + 1) / Math.log10(most + 1);
  const x = (v) => left + plot * (v - low) / (high - low);
  const node = svg("svg", { height: height + 22, role: "img", "aria-label": block.title });
  for (let n = 1; n <= most; n *= most > 1e4 ? 100 : 10) node.append(rule(left, y(n), left + plot, y(n)), chartText(left - 5, y(n) + 4, tickText(n), "end"));
  for (const t of niceTicks(low, high, Math.max(2, Math.floor(plot / 70)))) node.append(rule(x(t), height, x(t), height + 4), chartText(x(t), height + 16, tickText(t)));
  const step = plot / counts.length;
  counts.forEach((n, i) => {
    const from = low + (high - low) * i / counts.length;
    if (n) node.append(hover(svg("rect", { class: "bar", x: left + i * step, y: y(n), width: Math.max(step - 1, .5), height: height - y(n) }),
      `from ${short(from)} to ${short(from + (high - low) / counts.length)}: ${n.toLocaleString("en")}`));
  });
  node.append(rule(left, height, left + plot, height));
  return node;
}

function drawLine(block, width) {
  const left = 56, height = 170, top = 16, plot = width - left - 16, points = block.points;
  const mx = Math.max(...points.map((p) => p[0])) || 1, my = Math.max(...points.map((p) => p[1])) || 1;
  const x = (v) => left + plot * v / mx, y = (v) => height - (height - top) * v / my;
  const node = svg("svg", { height: height + 36, role: "img", "aria-label": block.title });
  for (const t of niceTicks(0, my, 5)) node.append(rule(left, y(t), left + plot, y(t)), chartText(left - 6, y(t) + 4, tickText(t), "end"));
  for (const t of niceTicks(0, mx, Math.max(2, Math.floor(plot / 90)))) node.append(rule(x(t), height, x(t), height + 4), chartText(x(t), height + 16, tickText(t)));
  node.append(chartText(left, 8, block.y, "start"), chartText(left + plot / 2, height + 32, block.x),
    svg("polyline", { class: "line", points: points.map((p) => `${x(p[0])},${y(p[1])}`).join(" ") }));
  const nearest = (event) => {
    const at = (event.clientX - node.getBoundingClientRect().left - left) / plot * mx;
    const p = points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
    tip(event, `${block.x} ${short(p[0])}: ${block.y} ${short(p[1])}`);
  };
  node.addEventListener("pointermove", nearest);
  node.addEventListener("pointerleave", noTip);
  return node;
}

/** A color of its own for each of any number of curves, seen on light and dark. */
const curveColor = (i) => { const hue = Math.round(212 + i * 137.5) % 360; return `light-dark(hsl(${hue} 75% 36%), hsl(${hue} 75% 66%))`; };

/** Curves over 0..1 in both directions. */
function drawCurves(block, width) {
  const left = 46, height = Math.min(360, Math.max(220, width * .5)), top = 18, plot = Math.min(width - left - 16, 900);
  const x = (v) => left + plot * v, y = (v) => height - (height - top) * v;
  const node = svg("svg", { height: height + 36, role: "img", "aria-label": block.title });
  for (const t of niceTicks(0, 1, 5)) node.append(rule(left, y(t), left + plot, y(t)), chartText(left - 6, y(t) + 4, tickText(t), "end"));
  for (const t of niceTicks(0, 1, Math.max(2, Math.floor(plot / 90)))) node.append(rule(x(t), height, x(t), height + 4), chartText(x(t), height + 16, tickText(t)));
  node.append(chartText(left, 8, block.y, "start"), chartText(left + plot / 2, height + 32, block.x));
  const shown = block.series.map((s, i) => [s, i]).filter(([s]) => s.on);
  for (const [s, i] of shown) {
    const line = svg("polyline", { class: "line curve" + (s.strong ? " strong" : "") + (s.dashed ? " dashed" : ""), points: s.points.map((p) => `${x(p[0])},${y(p[1])}`).join(" ") });
    if (!s.strong && !s.dashed) line.style.stroke = curveColor(i);
    node.append(line);
    if (s.marks) for (const p of s.points) node.append(svg("circle", { class: "mark", cx: x(p[0]), cy: y(p[1]), r: 4 }));
  }
  node.addEventListener("pointermove", (event) => {
    const area = node.getBoundingClientRect(), at = (event.clientX - area.left - left) / plot, level = (height - (event.clientY - area.top)) / (height - top);
    const near = shown.filter(([s]) => !s.dashed && s.points.length).map(([s]) => [s, s.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)]);
    near.sort((a, b) => Math.abs(a[1][1] - level) - Math.abs(b[1][1] - level));
    if (near.length) tip(event, near.slice(0, 5).map(([s, p]) => `${s.name}: ${block.y} ${short(p[1], 3)} at ${block.x} ${short(p[0], 3)}`).join("\n"));
  });
  node.addEventListener("pointerleave", noTip);
  return node;
}

/** The curves of a chart, each with a box that turns it on and off. */
function legend(block, changed) {
  return make("div", { class: "curve-names" }, ...block.series.map((s, i) => {
    const check = make("input", { type: "checkbox" }), swatch = make("i", { class: (s.strong ? "strong" : "") + (s.dashed ? "dashed" : "") });
    check.checked = s.on;
    check.dataset.curve = s.name;
    if (!s.strong && !s.dashed) swatch.style.borderColor = curveColor(i);
    check.addEventListener("change", () => { s.on = check.checked; changed(); });
    return make("label", {}, check, swatch, s.name);
  }));
}

function drawChart(block) {
  const draw = { bars: drawBars, histogram: drawHistogram, line: drawLine, curves: drawCurves }[block.kind];
  const place = make("div", {});
  const panel = make("section", { class: "panel chart" + (block.wide ? " wide" : "") }, make("h3", {}, block.title), place);
  let drawn = 0;
  if (block.kind === "curves") panel.append(legend(block, () => place.replaceChildren(draw(block, drawn))));
  panel.redraw = () => {  // at once where the panel is in the page, and whenever its width changes
    const width = Math.floor(place.clientWidth);
    if (width > 0 && width !== drawn) { drawn = width; place.replaceChildren(draw(block, width)); }
  };
  new ResizeObserver(panel.redraw).observe(place);
  return panel;
}
