/** Two sides compared: which detections were gained, lost, moved and rescored, image by image. */

const CHANGES = { gained: VERDICTS.found, lost: VERDICTS.missed, moved: VERDICTS.wrong, rescored: VERDICTS.followed, unchanged: VERDICTS.ignored };
let threshold = data.threshold;
let current = -1;
let picked = null;
let on = null, drawn = null;
const hidden = new Set(["unchanged"]);

const tiles = make("div", { class: "tiles" });
const place = make("div", {}), toggles = make("div", { class: "toggles" });
const slider = make("input", { type: "range", min: "0", max: "1", step: "0.01", name: "threshold" });
slider.value = String(threshold);
const output = make("output", {}, short(threshold));
slider.addEventListener("input", () => { threshold = Number(slider.value); output.textContent = short(threshold); draw(); });
const rows = make("section", { class: "panel boxes", id: "changes" }), list = make("section", { class: "panel boxes", id: "list" });
const notes = data.notes.length ? make("section", { class: "panel notes" }, ...data.notes.flatMap(([title, text]) => [make("h3", {}, title), make("pre", {}, text)])) : null;
$("content").append(make("div", { class: "result" },
  make("div", {}, tiles, make("section", { class: "panel" }, make("h3", { id: "file" }), place, make("label", { class: "threshold" }, "score ≥", slider, output), toggles)),
  make("div", { class: "side" }, notes, data.documents.length > 1 ? list : null, rows)));

const shown = () => data.documents[current];

/** gained, lost, moved, rescored, unchanged; null: neither side has it at this threshold. */
function changeOf(row) {
  const [before, after] = row.scores.map((s) => s !== null && s >= threshold);
  if (!before && !after) return null;
  if (!before || !after) return before ? "lost" : "gained";
  if (row.iou < data.moved) return "moved";
  return Math.abs(row.scores[0] - row.scores[1]) >= data.rescored ? "rescored" : "unchanged";
}

function count(documents) {
  const found = Object.fromEntries(Object.keys(CHANGES).map((change) => [change, { all: 0, right: 0 }]));
  for (const doc of documents) {
    for (const row of doc.rows) {
      const change = changeOf(row);
      if (!change) continue;
      found[change].all++;
      if (row.right[change === "lost" ? 0 : 1]) found[change].right++;
    }
  }
  return found;
}

function textOf(row, change) {
  const [a, b] = row.scores.map((s) => s === null ? "–" : s.toFixed(2));
  if (row.scores[0] === null || row.scores[1] === null) return `${row.scores[0] === null ? b : a}`;
  return `${a} → ${b}${change === "moved" || row.iou < 1 ? `, IoU ${row.iou.toFixed(2)}` : ""}`;
}

const rightText = (row) => row.right.map((r, i) => r === null ? null : `${data.sides[i]}: ${r ? "true positive" : "false positive"}`).filter(Boolean).join("\n");

function drawPicture() {
  const doc = shown(), group = svg("g", {}), plates = [], counts = {};
  const truth = svg("g", { "data-layer": "ground truth" });
  if (!hidden.has("ground truth")) {
    doc.truth.forEach((t, i) => truth.append(drawBox({ box: t.box, color: COLORS[7], label: `ground-truth box ${i}: ${t.name}`, index: i, classes: "dashed" + (picked === null ? "" : " dim") })));
  }
  group.append(truth);
  doc.rows.forEach((row, index) => {
    const change = changeOf(row);
    if (!change) return;
    counts[change] = (counts[change] || 0) + 1;
    const mine = picked === index;
    if (hidden.has(change) && !mine) return;
    const label = `${change}: ${row.name} ${textOf(row, change)}\n${rightText(row)}`;
    row.boxes.forEach((box, side) => {
      if (!box || side === 0 && change !== "moved" && change !== "lost") return;
      if (change === "lost" && side === 1) return;
      const rect = drawBox({ box, color: CHANGES[change], label: `${data.sides[side]}\n${label}`, index, kind: change,
        classes: "thick" + (side === 0 ? " dashed" : "") + (picked !== null && !mine ? " dim" : "") });
      rect.addEventListener("click", () => choose(mine ? null : index));
      group.append(rect);
    });
    if (picked === null ? change !== "unchanged" : mine) {
      plates.push({ box: (change === "lost" ? row.boxes[0] : row.boxes[1]), text: `${row.name} ${textOf(row, change)}`, color: CHANGES[change] });
    }
  });
  if (drawn) drawn.remove();
  drawn = group;
  on.append(group);
  on.plates(plates);
  toggles.replaceChildren();
  for (const name of [...Object.keys(CHANGES), "ground truth"]) {
    const n = name === "ground truth" ? doc.truth.length : counts[name] || 0;
    const check = make("input", { type: "checkbox" });
    check.checked = !hidden.has(name);
    check.dataset.layer = name;
    check.addEventListener("change", () => { if (check.checked) hidden.delete(name); else hidden.add(name); drawPicture(); });
    const swatch = make("span", { class: "swatch" });
    swatch.style.borderColor = CHANGES[name] || COLORS[7];
    toggles.append(make("label", {}, check, swatch, name, make("small", {}, String(n))));
  }
}

function choose(index) { picked = index; drawPicture(); drawRows(); }

function tableOf(head, body) {
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))), body));
}

function drawRows() {
  const doc = shown(), body = make("tbody");
  const order = Object.keys(CHANGES);
  const found = doc.rows.map((row, i) => [row, i, changeOf(row)]).filter((entry) => entry[2]);
  found.sort((a, b) => order.indexOf(a[2]) - order.indexOf(b[2]) || a[1] - b[1]);
  for (const [row, i, change] of found) {
    const right = row.right[change === "lost" ? 0 : 1];
    const line = make("tr", { class: "pick" + (picked === i ? " picked" : "") }, make("td", { class: change }, make("i", { class: "dot" }), change), make("td", {}, row.name),
      make("td", {}, textOf(row, change)), make("td", { class: "soft" }, right === null || right === undefined ? "" : right ? "right" : "wrong"));
    line.dataset.index = i;
    body.append(choosable(line, () => choose(picked === i ? null : i)));
  }
  rows.replaceChildren(make("h3", {}, "Detections of this image"), tableOf(["change", "class", "score", doc.known ? "by ground truth" : ""], body));
  if (!found.length) rows.append(make("p", { class: "soft" }, `Neither side has a detection with a score of at least ${short(threshold)}.`));
}

function drawList() {
  const body = make("tbody");
  const entries = data.documents.map((doc, i) => [doc, i, count([doc])]);
  const changed = (found) => found.gained.all + found.lost.all + found.moved.all + found.rescored.all;
  entries.sort((a, b) => changed(b[2]) - changed(a[2]) || a[1] - b[1]);
  for (const [doc, i, found] of entries) {
    const cells = ["gained", "lost", "moved", "rescored"].map((change) => make("td", { class: "number " + (found[change].all ? change : "unchanged") }, String(found[change].all)));
    const line = make("tr", { class: "pick" + (i === current ? " picked" : "") }, make("td", {}, nameOf(doc)), ...cells);
    line.dataset.index = i;
    body.append(choosable(line, () => open(i)));
  }
  list.replaceChildren(make("h3", {}, `Images, the most changed first${data.not_listed ? `; ${data.not_listed.toLocaleString("en")} others are counted only` : ""}`), tableOf(["file", "gained", "lost", "moved", "rescored"], body));
}

const nameOf = (doc) => String(doc.file_name).split(/[\\/]/).pop() || "image";

function draw() {
  const all = count(data.documents), at = Math.round(threshold * 100);
  for (const [change, n] of Object.entries(all)) { n.all += data.others[change][0][at]; n.right += data.others[change][1][at]; }
  const known = data.documents.some((doc) => doc.known);
  tiles.replaceChildren(...Object.entries(all).map(([change, n]) => make("div", { class: "tile" }, make("b", { class: change }, n.all.toLocaleString("en")),
    make("span", {}, change + (known ? ` (${n.right.toLocaleString("en")} right)` : "")))));
  drawPicture();
  drawRows();
  if (data.documents.length > 1) drawList();
}

function open(index) {
  current = index;
  picked = null;
  const doc = shown();
  const source = data.images[doc.image];
  on = canvas({ image: source, size: doc.size, label: "the image with the detections of both sides", most: "(100vh - 270px)" });
  drawn = null;
  place.replaceChildren(on.node);
  $("file").textContent = nameOf(doc) + (source ? "" : ": the page holds no picture of it, those with the most changes come first");
  $("previous").disabled = index === 0;
  $("next").disabled = index === data.documents.length - 1;
  setHash(`#image-${index}`);
  draw();
}

const move = (by) => open(clamp(current + by, 0, data.documents.length - 1));
for (const [id, by] of [["previous", -1], ["next", 1]]) {
  $(id).hidden = data.documents.length < 2;
  $(id).addEventListener("click", () => move(by));
}
onKeys({ t: flipTheme, Escape: () => choose(null), ArrowLeft: () => move(-1), k: () => move(-1), ArrowRight: () => move(1), j: () => move(1) });
function fromHash(hash) {
  const match = /^#image-(\d+)$/.exec(hash);
  if (!match && current >= 0) return;
  open(match ? Math.min(Number(match[1]), data.documents.length - 1) : 0);
}
if (data.documents.length) onHash(fromHash); else place.append(make("p", { class: "soft" }, "These runs have no detections to compare."));
