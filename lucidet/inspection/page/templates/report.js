"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLORS = ["#3da5ff", "#ff9f1c", "#2ee56b", "#ff4d6d", "#b98cff", "#9aa7b4", "#00d9d9", "#ffe14d"];
const SVG = "http://www.w3.org/2000/svg";
let here = -1;
let serial = 0;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && typeof value !== "string") node[key] = value; else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}
function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function tip(event, text) {
  const box = $("tip");
  box.textContent = text;
  box.hidden = false;
  const x = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8);
  const below = event.clientY + 18;
  const y = below + box.offsetHeight > innerHeight ? event.clientY - box.offsetHeight - 12 : below;
  box.style.left = Math.max(4, x) + "px";
  box.style.top = Math.max(4, y) + "px";
}

function drawLayer(layer) {
  const group = svg("g", { "data-layer": layer.name });
  if (layer.heat) {
    const [width, height] = layer.extent;
    group.append(svg("image", { href: layer.heat, width, height, preserveAspectRatio: "none", class: "heat" }));
  }
  // small boxes last, so that large ones don't cover them
  const boxes = (layer.boxes || []).map((row, i) => [row, i]);
  boxes.sort((a, b) => (b[0][2] - b[0][0]) * (b[0][3] - b[0][1]) - (a[0][2] - a[0][0]) * (a[0][3] - a[0][1]));
  for (const [[x1, y1, x2, y2, label, color, owner], i] of boxes) {
    const width = Math.max(x2 - x1, 0), height = Math.max(y2 - y1, 0);
    const rect = svg("rect", { x: x1, y: y1, width, height, stroke: COLORS[color], "data-group": owner,
      "data-index": i, "data-label": label,
      "data-numbers": `x1 ${x1}  y1 ${y1}  x2 ${x2}  y2 ${y2}  (${width.toFixed(1)} x ${height.toFixed(1)})` });
    if (layer.dashed) rect.classList.add("dashed");
    group.append(rect);
  }
  if (layer.points) {
    const d = layer.points.map(([x, y]) => `M${x} ${y}h.01`).join("");
    group.append(svg("path", { d, stroke: COLORS[layer.color], "stroke-width": 3, "stroke-linecap": "round",
      "vector-effect": "non-scaling-stroke", fill: "none" }));
  }
  return group;
}

function zoomable(picture, width, height) {
  let view = [0, 0, width, height];
  const apply = () => picture.setAttribute("viewBox", view.join(" "));
  const zoom = (factor, px = .5, py = .5) => {
    const w = Math.min(width, Math.max(width / 40, view[2] * factor)), h = w * height / width;
    view = [view[0] + (view[2] - w) * px, view[1] + (view[3] - h) * py, w, h];
    view[0] = Math.min(Math.max(0, view[0]), width - w);
    view[1] = Math.min(Math.max(0, view[1]), height - h);
    apply();
  };
  const reset = () => { view = [0, 0, width, height]; apply(); };
  let drag = null;
  picture.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey && view[2] === width && event.deltaY > 0) return;
    event.preventDefault();
    const area = picture.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : .8, (event.clientX - area.left) / area.width,
      (event.clientY - area.top) / area.height);
  }, { passive: false });
  picture.addEventListener("pointerdown", (event) => { drag = [event.clientX, event.clientY, ...view]; });
  picture.addEventListener("pointermove", (event) => {
    if (!drag || !event.buttons) { drag = null; return; }
    const scale = view[2] / picture.getBoundingClientRect().width;
    view[0] = Math.min(Math.max(0, drag[2] - (event.clientX - drag[0]) * scale), width - view[2]);
    view[1] = Math.min(Math.max(0, drag[3] - (event.clientY - drag[1]) * scale), height - view[3]);
    apply();
  });
  picture.addEventListener("dblclick", () => zoom(.5));
  return { zoom, reset };
}

function drawFigure(block) {
  const [width, height] = block.size;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": block.caption || "picture" });
  const source = data.images[block.background];
  if (source) picture.append(svg("image", { href: source, width, height }));
  const choices = make("div", { class: "layers" });
  for (const layer of block.layers) {
    let group = null;
    const toggle = make("input", { type: "checkbox", id: `layer-${serial++}` });
    toggle.dataset.layer = layer.name;
    const show = () => {  // drawn when first wanted
      if (toggle.checked && !group) { group = drawLayer(layer); picture.append(group); }
      if (group) group.style.display = toggle.checked ? "" : "none";
    };
    toggle.checked = layer.on;
    toggle.addEventListener("change", show);
    const label = make("label", {}, toggle);
    if (!layer.heat) {
      const color = COLORS[layer.boxes && layer.boxes.length ? layer.boxes[0][5] : layer.color || 0];
      const swatch = make("span", { class: "swatch" });
      swatch.style.borderColor = color;
      label.append(swatch);
    }
    label.append(layer.name + " ", make("small", {}, layer.note || ""));
    choices.append(label);
    show();
  }
  const control = zoomable(picture, width, height);
  const button = (text, title, action) => {
    const node = make("button", { title, "aria-label": title }, text);
    node.addEventListener("click", action);
    return node;
  };
  const buttons = make("div", { class: "zoom" }, button("+", "zoom in", () => control.zoom(.7)),
    button("−", "zoom out", () => control.zoom(1.4)), button("⤢", "whole image", control.reset));
  picture.addEventListener("pointermove", (event) => {
    const box = event.target.closest("rect[data-label]");
    if (box) tip(event, box.dataset.label + "\n" + box.dataset.numbers); else $("tip").hidden = true;
  });
  picture.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  const view = make("div", { class: "view" }, picture, buttons);
  view.style.maxWidth = `min(${Math.max(width * 1.8, 640)}px, calc(76vh * ${width / height}))`;
  const panel = make("section", { class: "panel figure" }, choices, view);
  if (block.caption) panel.append(make("p", { class: "caption" }, block.caption));
  return panel;
}

function single(row, group) {
  const on = !row.classList.contains("picked");
  for (const other of document.querySelectorAll("tr.picked")) other.classList.remove("picked");
  if (on) row.classList.add("picked");
  for (const box of document.querySelectorAll("main rect[data-group]")) {
    const own = Number(box.dataset.group) === group;
    box.style.display = on && !own ? "none" : "";
    box.classList.toggle("lit", on && own);
  }
}

function drawTable(block) {
  const body = make("tbody");
  block.rows.forEach((cells, i) => {
    const row = make("tr", {}, ...cells.map((cell) => make("td", {}, String(cell))));
    if (block.groups) {
      row.classList.add("pick");
      row.addEventListener("click", () => single(row, block.groups[i]));
    }
    body.append(row);
  });
  const head = make("tr", {}, ...block.head.map((name) => make("th", {}, name)));
  const grid = make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), body));
  const parts = [grid];
  if (block.filter) {
    const search = make("input", { type: "search", placeholder: "filter", "aria-label": "filter rows" });
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    parts.unshift(search);
  }
  if (block.folded) {
    return make("details", { class: "panel" }, make("summary", {}, block.caption), ...parts);
  }
  if (block.caption) parts.unshift(make("h3", {}, block.caption));
  return make("section", { class: "panel" }, ...parts);
}

function drawChart(block) {
  const panel = make("section", { class: "panel chart" + (block.wide ? " wide" : "") }, make("h3", {}, block.title));
  panel.insertAdjacentHTML("beforeend", block.svg);
  return panel;
}

function drawFinding(finding, link) {
  const name = make("strong", {}, finding.check);
  const first = make("p", {}, name, " at ", finding.stage, ": ", finding.message);
  const note = make("p", {}, finding.meaning + " ", make("em", {}, "Try: "), finding.remedy);
  if (!link) return make("div", { class: "finding" }, first, note);
  const jump = make("a", { href: `#step-${finding.step}` }, "show");
  first.append(" ", jump);
  return make("div", { class: "finding" }, first, note);
}

function show(index) {
  if (index < 0 || index >= data.steps.length || index === here) return;
  here = index;
  const step = data.steps[index];
  const main = $("content");
  $("tip").hidden = true;
  main.replaceChildren(make("p", { class: "crumb" }, `${step.number}. ${step.chapter_title} `,
    make("span", { class: "probe" }, step.probe ? `· ${step.probe}` : "")), make("h2", {}, step.title),
    make("p", { class: "sentence" }, step.sentence));
  if (index === 0) {
    if (data.error) main.append(make("div", { class: "finding" }, make("p", {}, make("strong", {}, "stopped"), " " + data.error)));
    for (const finding of data.findings) main.append(drawFinding(finding, true));
  } else {
    for (const finding of step.findings) main.append(drawFinding(finding, false));
  }
  let charts = null;
  for (const block of step.blocks) {
    if (block.type === "chart") {
      if (!charts) main.append(charts = make("div", { class: "charts" }));
      charts.append(drawChart(block));
      continue;
    }
    charts = null;
    if (block.type === "figure") main.append(drawFigure(block));
    else if (block.type === "table") main.append(drawTable(block));
    else main.append(make("p", { class: "sentence" }, block.text));
  }
  for (const link of document.querySelectorAll("nav a")) {
    const own = Number(link.dataset.step) === index;
    link.classList.toggle("here", own);
    if (own) { link.setAttribute("aria-current", "step"); link.scrollIntoView({ block: "nearest" }); } else link.removeAttribute("aria-current");
  }
  $("position").textContent = `${index + 1} / ${data.steps.length}`;
  $("previous").disabled = index === 0;
  $("next").disabled = index === data.steps.length - 1;
  if (location.hash !== `#step-${index}`) history.replaceState(null, "", `#step-${index}`);
  scrollTo(0, 0);
}

function list() {
  const nav = $("stages");
  let chapter = "";
  data.steps.forEach((step, i) => {
    if (step.chapter !== chapter) {
      chapter = step.chapter;
      nav.append(make("h2", {}, `${step.number}. ${step.chapter_title}`));
    }
    const link = make("a", { href: `#step-${i}`, "data-step": String(i), title: step.probe }, make("span", {}, step.title));
    if (step.empty) link.classList.add("empty");
    if (step.findings.length) link.append(make("span", { class: "count", title: "findings" }, `⚠ ${step.findings.length}`));
    nav.append(link);
  });
}

function theme(name) { document.documentElement.dataset.theme = name; }

$("title").textContent = data.title;
$("subtitle").textContent = data.subtitle;
list();
theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
const flip = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
$("theme").addEventListener("click", flip);
$("next").addEventListener("click", () => show(here + 1));
$("previous").addEventListener("click", () => show(here - 1));
$("menu").addEventListener("click", () => $("stages").classList.toggle("open"));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=search]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowRight" || event.key === "j") show(here + 1);
  else if (event.key === "ArrowLeft" || event.key === "k") show(here - 1);
  else if (event.key === "Home") show(0);
  else if (event.key === "End") show(data.steps.length - 1);
  else if (event.key === "t") flip();
  else return;
  event.preventDefault();
});
const fromHash = () => { const match = /^#step-(\d+)$/.exec(location.hash); return match ? Number(match[1]) : 0; };
addEventListener("hashchange", () => { show(fromHash()); $("stages").classList.remove("open"); });
show(fromHash());
})();
