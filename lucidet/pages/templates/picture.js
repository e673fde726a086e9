/** Pictures: an image with layers of boxes and heat maps, zoomed and moved by wheel, buttons and drag. */

let serial = 0;

function zoomable(picture, width, height, changed) {
  let view = [0, 0, width, height];
  const apply = () => { picture.setAttribute("viewBox", view.join(" ")); changed(); };
  const zoom = (factor, px = .5, py = .5) => {
    const w = clamp(view[2] * factor, width / 40, width), h = w * height / width;
    view = [clamp(view[0] + (view[2] - w) * px, 0, width - w), clamp(view[1] + (view[3] - h) * py, 0, height - h), w, h];
    apply();
  };
  const reset = () => { view = [0, 0, width, height]; apply(); };
  let drag = null;
  picture.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey && view[2] === width && event.deltaY > 0) return;
    event.preventDefault();
    const area = picture.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : .8, (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
  }, { passive: false });
  picture.addEventListener("pointerdown", (event) => { drag = [event.clientX, event.clientY, ...view]; });
  picture.addEventListener("pointermove", (event) => {
    if (!drag || !event.buttons) { drag = null; return; }
    const scale = view[2] / picture.getBoundingClientRect().width;
    view[0] = clamp(drag[2] - (event.clientX - drag[0]) * scale, 0, width - view[2]);
    view[1] = clamp(drag[3] - (event.clientY - drag[1]) * scale, 0, height - view[3]);
    apply();
  });
  picture.addEventListener("dblclick", () => zoom(.5));
  return { zoom, reset, width: () => view[2], view: () => view };
}

/** One box: {box, color, label, plate, group, index, classes}. `label` is for hovering, `plate` is written at the box. */
function drawBox({ box, color, label, group = -1, index = 0, classes = "", kind = "" }) {
  const [x1, y1, x2, y2] = box.map((v) => Number.isFinite(v) ? v : 0);
  const width = Math.max(x2 - x1, 0), height = Math.max(y2 - y1, 0);
  const rect = svg("rect", { x: x1, y: y1, width, height, stroke: color, "data-group": group, "data-index": index,
    "data-label": label, "data-numbers": `x1 ${short(x1)}  y1 ${short(y1)}  x2 ${short(x2)}  y2 ${short(y2)}  (${width.toFixed(1)} x ${height.toFixed(1)})` });
  if (classes) rect.setAttribute("class", classes);
  if (kind) rect.dataset.kind = kind;
  return rect;
}

const area = (box) => Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);

/** A picture that boxes can be drawn on: {node, layer(), plates(boxes), reset()}; plates keep their size on the screen. */
function canvas({ image, size, label = "picture", most = "80vh" }) {
  const [width, height] = size;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (image) picture.append(svg("image", { href: image, width, height, preserveAspectRatio: "none" }));
  const plateLayer = svg("g", {});
  let wanted = [];
  const place = () => {
    const shown = picture.getBoundingClientRect().width;
    if (!shown) return;
    const [vx, vy, vw, vh] = control.view(), unit = vw / shown, taken = [];
    plateLayer.replaceChildren();
    for (const { box, text: full, color } of wanted) {
      const text = full.length > 42 ? full.slice(0, 41) + "…" : full;
      const w = (measure(text) + 8) * unit, h = 16 * unit;
      const x = clamp(box[0], vx, Math.max(vx, vx + vw - w));
      let y = clamp(box[1] - h >= vy ? box[1] - h : box[1], vy, vy + vh - h);
      if (taken.some((t) => x < t[2] && x + w > t[0] && y < t[3] && y + h > t[1])) y = Math.min(box[3], vy + vh - h);
      if (taken.some((t) => x < t[2] && x + w > t[0] && y < t[3] && y + h > t[1])) continue;
      taken.push([x, y, x + w, y + h]);
      plateLayer.append(svg("g", { class: "plate", transform: `translate(${x} ${y}) scale(${unit})` },
        svg("rect", { width: w / unit, height: 16, rx: 2, fill: color }), withText(svg("text", { x: 4, y: 12 }), text)));
    }
    picture.append(plateLayer);
  };
  const control = zoomable(picture, width, height, () => place());
  picture.addEventListener("pointermove", (event) => {
    const box = event.target.closest("rect[data-label]");
    if (box) tip(event, box.dataset.label + "\n" + box.dataset.numbers); else noTip();
  });
  picture.addEventListener("pointerleave", noTip);
  const buttons = make("div", { class: "zoom" }, button("+", "zoom in", () => control.zoom(.7)),
    button("−", "zoom out", () => control.zoom(1.4)), button("⤢", "whole image", control.reset));
  const node = make("div", { class: "view" }, picture, buttons);
  node.style.maxWidth = `calc(${most} * ${width / height})`;
  new ResizeObserver(() => place()).observe(node);
  return { node, picture, append: (child) => { picture.append(child); place(); },
    plates: (boxes) => { wanted = boxes; place(); }, reset: control.reset };
}

const ruler = document.createElement("canvas").getContext("2d");
function measure(text, font = "600 11.5px system-ui, sans-serif") { ruler.font = font; return ruler.measureText(text).width; }
function withText(node, text) { node.textContent = text; return node; }

function drawLayer(layer) {
  const group = svg("g", { "data-layer": layer.name });
  if (layer.heat) {
    const [width, height] = layer.extent;
    group.append(svg("image", { href: layer.heat, width, height, preserveAspectRatio: "none", class: "heat" }));
  }
  // small boxes last, so that large ones don't cover them
  const boxes = (layer.boxes || []).map((row, i) => [row, i]);
  boxes.sort((a, b) => area(b[0]) - area(a[0]));
  const few = layer.few ? new Set(layer.few) : null;
  for (const [row, i] of boxes) {
    const rect = drawBox({ box: row.slice(0, 4), color: COLORS[row[5]], label: row[4], group: row[6], index: i,
      classes: layer.dashed ? "dashed" : "" });
    if (few && !few.has(i)) rect.dataset.thin = "";
    group.append(rect);
  }
  if (layer.points) {
    const d = layer.points.map(([x, y]) => `M${x} ${y}h.01`).join("");
    group.append(svg("path", { d, stroke: COLORS[layer.color], "stroke-width": 3, "stroke-linecap": "round",
      "vector-effect": "non-scaling-stroke", fill: "none" }));
  }
  return group;
}

/** Which boxes of a layer are seen: of a thinned one few, unless all or a single group are asked for. */
function refresh(group) {
  const all = "all" in group.dataset, only = group.dataset.only;
  for (const rect of group.querySelectorAll("rect[data-label]")) {
    const own = only === undefined || rect.dataset.group === only;
    const seen = own && (all || only !== undefined || !("thin" in rect.dataset));
    rect.style.display = seen ? "" : "none";
    rect.classList.toggle("lit", only !== undefined && own);
  }
}

function drawFigure(block, extra = []) {
  const on = canvas({ image: data.images[block.background], size: block.size, label: block.caption || "picture" });
  const choices = make("div", { class: "layers" });
  for (const layer of [...block.layers, ...extra]) {
    let group = null;
    const toggle = make("input", { type: "checkbox", id: `layer-${serial++}` });
    toggle.dataset.layer = layer.name;
    const show = () => {  // drawn when first wanted
      if (toggle.checked && !group) { group = drawLayer(layer); on.append(group); refresh(group); }
      if (group) group.style.display = toggle.checked ? "" : "none";
    };
    toggle.checked = layer.on;
    toggle.addEventListener("change", show);
    const label = make("label", {}, toggle);
    if (!layer.heat) {
      const swatch = make("span", { class: "swatch" });
      swatch.style.borderColor = COLORS[layer.boxes && layer.boxes.length ? layer.boxes[0][5] : layer.color || 0];
      label.append(swatch);
    }
    const note = make("small", {}, layer.few ? `${layer.few.length} of ${layer.note}` : layer.note || "");
    label.append(layer.name + " ", note);
    choices.append(label);
    if (layer.few) {
      const more = button("all", `show all boxes of ${layer.name}`, () => {
        if (!toggle.checked) { toggle.checked = true; show(); }
        const all = more.classList.toggle("on");
        if (all) group.dataset.all = ""; else delete group.dataset.all;
        note.textContent = all ? layer.note : `${layer.few.length} of ${layer.note}`;
        refresh(group);
      });
      choices.append(more);
    }
    show();
  }
  const panel = make("section", { class: "panel figure" }, choices, on.node);
  if (block.caption) panel.append(make("p", { class: "caption" }, block.caption));
  return panel;
}

/** Show the boxes of one group alone; null: all. */
function single(group) {
  for (const layer of document.querySelectorAll("main g[data-layer]")) {
    if (group === null) delete layer.dataset.only; else layer.dataset.only = String(group);
    refresh(layer);
  }
}
