/** One image's result: the picture with ground truth, found, missed and wrong, and tables of both beside it. */

const KINDS = { anchor: COLORS[0], proposal: COLORS[1], candidate: COLORS[6], detection: VERDICTS.found, suppressor: VERDICTS.wrong, object: COLORS[7] };
const MOST_PLAIN = 40;  // of one kind; more are thinned

/** Indices of boxes that overlap an earlier one little. */
function spread(boxes, most = MOST_PLAIN, limit = .5) {
  const kept = [];
  for (let i = 0; i < boxes.length && kept.length < most; i++) {
    if (kept.every((k) => overlap(boxes[k].box, boxes[i].box) <= limit)) kept.push(i);
  }
  return kept;
}

function overlap(a, b) {
  const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (w <= 0 || h <= 0) return 0;
  return w * h / (area(a) + area(b) - w * h);
}

const sizeOf = (box) => `${Math.round(box[2] - box[0])} × ${Math.round(box[3] - box[1])}`;

/**
 * view: {image, size, tiles, truth: [{box, name, state, title, reason, partner, chain}], detections: [{box, name, score, state, title, reason, partner, chain}]}
 * partner: number of the detection of a ground-truth box, or of the ground-truth box that a detection is about; or null
 * states: found, missed, wrong, ignored, plain. A chain is [{title, text, state, boxes: [{box, label, kind}], step}].
 */
function resultView({ cards = [], controls = null, below = null, most = "(100vh - 250px)", chosen = () => {}, stepLink = null }) {
  let view = null, picked = null, at = -1, tab = "truth", pictured = null, on = null, layer = null;
  const hidden = new Set(["ignored"]), whole = new Set();
  const tiles = make("div", { class: "tiles" });
  const place = make("div", {}), toggles = make("div", { class: "toggles" });
  const left = make("div", {}, tiles, make("section", { class: "panel" }, place, controls, toggles), below);
  const boxes = make("section", { class: "panel boxes" }), chain = make("section", { class: "panel chain", hidden: true, "aria-live": "polite" });
  const node = make("div", { class: "result" }, left, make("div", { class: "side" }, ...cards, chain, boxes));

  const own = () => picked && (picked.kind === "truth" ? view.truth : view.detections)[picked.index];

  function shownBoxes() {
    const rows = { missed: [], wrong: [], found: [], detections: [], ignored: [], plain: [], "ground truth": [] };
    view.truth.forEach((t, index) => rows[t.state === "found" ? "ground truth" : t.state].push({ ...t, kind: "truth", index }));
    view.detections.forEach((d, index) => rows[d.state === "plain" ? "detections" : d.state].push({ ...d, kind: "detection", index }));
    return rows;
  }

  const color = (kind) => VERDICTS[kind] || (kind === "detections" ? "#1a6fc4" : COLORS[7]);

  function drawBoxes() {
    const group = svg("g", {}), plates = [], step = own() && own().chain && own().chain[at];
    toggles.replaceChildren();
    for (const [kind, rows] of Object.entries(shownBoxes())) {
      if (!rows.length) continue;
      const few = rows.length > MOST_PLAIN && !whole.has(kind) ? new Set(spread(rows)) : null;
      const check = make("input", { type: "checkbox" });
      check.checked = !hidden.has(kind);
      check.dataset.layer = kind;
      check.addEventListener("change", () => { if (check.checked) hidden.delete(kind); else hidden.add(kind); drawBoxes(); });
      const name = kind === "plain" ? "ground truth" : kind;
      const swatch = make("span", { class: "swatch" });
      swatch.style.borderColor = color(kind);
      toggles.append(make("label", {}, check, swatch, name, make("small", {}, few ? `${few.size} of ${rows.length}` : String(rows.length))));
      if (rows.length > MOST_PLAIN) {
        const more = button("all", `show all boxes of ${name}`, () => { if (whole.has(kind)) whole.delete(kind); else whole.add(kind); drawBoxes(); });
        more.classList.toggle("on", whole.has(kind));
        toggles.append(more);
      }
      const layer = svg("g", { "data-layer": kind });
      rows.forEach((row, i) => {
        const mine = picked && picked.kind === row.kind && picked.index === row.index;
        const partner = picked && own().partner === row.index && picked.kind !== row.kind;
        if (!mine && !partner && (hidden.has(kind) || few && !few.has(i))) return;
        const truth = row.kind === "truth";
        const text = truth ? (kind === "missed" ? "missed: " : "") + row.name : `${row.name} ${row.score.toFixed(2)}`;
        const tone = mine ? VERDICTS.followed : color(kind);
        const rect = drawBox({ box: row.box, color: tone, group: row.index, index: row.index, kind: row.kind,
          label: `${truth ? `ground-truth box ${row.index}: ${row.name}` : `detection ${row.index}: ${text}`}\n${row.title}`,
          classes: "thick" + (truth && kind !== "plain" ? " dashed" : "") + (picked && !mine && !partner ? " dim" : "") });
        rect.addEventListener("click", () => choose(mine ? null : { kind: row.kind, index: row.index }));
        layer.append(rect);
        if (mine) plates.unshift({ box: row.box, text, color: tone });
        else if (partner || kind !== "ground truth" && !picked) plates.push({ box: row.box, text, color: kind === "plain" ? "#5a6470" : tone });
      });
      group.append(layer);
    }
    if (step) {
      const layer = svg("g", { "data-layer": "step" });
      for (const b of step.boxes || []) {
        layer.append(drawBox({ box: b.box, color: KINDS[b.kind] || COLORS[6], label: b.label, classes: "thick", kind: b.kind }));
        plates.push({ box: b.box, text: b.label, color: b.kind === "suppressor" ? VERDICTS.wrong : "#4a5560" });
      }
      group.append(layer);
    }
    if (layer) layer.remove();
    layer = group;
    on.append(group);
    on.plates(plates);
  }

  function drawTables() {
    const rows = tab === "truth" ? view.truth : view.detections;
    const tabs = make("div", { class: "tabs", role: "tablist" });
    for (const [name, title, count] of [["truth", "Ground-truth boxes", view.truth.length], ["detection", "Detections", view.detections.length]]) {
      const node = button(`${title} ${count}`, title, () => { tab = name; drawTables(); });
      node.classList.toggle("on", tab === name);
      node.setAttribute("role", "tab");
      tabs.append(node);
    }
    const head = tab === "truth" ? ["#", "class", "size", "fate"] : ["#", "class", "score", "verdict"];
    const body = make("tbody");
    const order = rows.map((row, i) => [row, i]);
    const first = { missed: 0, wrong: 0, ignored: 2 };
    if (tab === "truth") order.sort((a, b) => (first[a[0].state] ?? 1) - (first[b[0].state] ?? 1) || a[1] - b[1]);
    for (const [row, i] of order) {
      const state = make("td", {}, make("span", { class: row.state }, make("i", { class: "dot" })), row.title);
      const cells = [String(i), row.name, tab === "truth" ? sizeOf(row.box) : row.score.toFixed(3)].map((text) => make("td", {}, text));
      const line = make("tr", { class: "pick" }, ...cells, state);
      line.dataset.index = i;
      if (picked && picked.kind === tab && picked.index === i) line.classList.add("picked");
      body.append(choosable(line, () => choose(line.classList.contains("picked") ? null : { kind: tab, index: i })));
    }
    boxes.replaceChildren(tabs, make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))), body)));
    if (!rows.length) boxes.append(make("p", { class: "soft" }, tab === "truth" ? "This image has no ground-truth box." : "No detection."));
  }

  function drawChain() {
    const row = own();
    chain.hidden = !row;
    if (!row) { chain.replaceChildren(); return; }
    const name = picked.kind === "truth" ? `Following box ${picked.index}: ${row.name}` : `Detection ${picked.index}: ${row.name} ${row.score.toFixed(3)}`;
    const list = make("ol", {});
    (row.chain || []).forEach((step, i) => {
      const marks = { passed: "✓", lost: "✕", skipped: "–" };
      const item = make("li", { class: step.state || "" }, make("i", {}, marks[step.state] || "·"),
        make("span", {}, make("b", {}, step.title), " ", step.text));
      if (stepLink && step.step !== undefined && step.step !== null) item.append(make("a", { href: stepLink(step.step) }, "stage"));
      item.classList.toggle("here", i === at);
      item.dataset.step = i;
      choosable(item, (event) => { if (event.target.tagName !== "A") show(i === at ? -1 : i); });
      list.append(item);
    });
    chain.replaceChildren(make("h3", {}, name, button("✕", "stop following", () => choose(null))),
      row.reason ? make("p", { class: "reason" }, row.reason) : "", list);
  }

  function show(i) {
    at = i;
    chain.querySelectorAll("li").forEach((item, k) => item.classList.toggle("here", k === at));
    drawBoxes();
  }

  function choose(next, quiet = false) {
    picked = next && (next.kind === "truth" ? view.truth : view.detections)[next.index] ? next : null;
    tab = picked ? picked.kind : tab;
    const steps = own() ? own().chain || [] : [];
    at = picked ? steps.findIndex((s) => s.state === "lost") : -1;
    if (picked && at < 0) at = steps.length - 1;
    const typed = boxes.contains(document.activeElement);
    drawChain();
    drawBoxes();
    drawTables();
    const step = chain.querySelector("li.here");
    if (step) chain.scrollTop = step.offsetTop + step.offsetHeight + 8 - chain.clientHeight;
    const line = boxes.querySelector("tr.picked");
    if (line) line.scrollIntoView({ block: "nearest" });
    if (line && typed) line.focus({ preventScroll: true });
    if (!quiet) chosen(picked);
  }

  function update(next) {
    view = next;
    if (pictured !== view.image) {
      pictured = view.image;
      on = canvas({ image: data.images[view.image], size: view.size, label: "the image with its boxes", most });
      layer = null;
      place.replaceChildren(on.node);
      picked = null; at = -1;
    }
    if (picked && !own()) picked = null;
    tiles.replaceChildren(...view.tiles.map((t) => make("div", { class: "tile" }, make("b", { class: t.state || "" }, t.value), make("span", {}, t.label))));
    drawChain();
    drawBoxes();
    drawTables();
  }

  const walk = (by) => { const steps = own() ? own().chain || [] : []; if (steps.length) show(clamp(at + by, 0, steps.length - 1)); return steps.length > 0; };
  return { node, update, choose, walk, picked: () => picked, view: () => view };
}
