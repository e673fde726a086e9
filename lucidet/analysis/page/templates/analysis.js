/** The page of an analysis: tables and charts, a confusion matrix whose cells open their images, galleries. */

const content = $("content");
const viewer = imageDialog();
function openExample(example, list) {
  viewer.show(data.views[example.picture], example.pick, list, example, openExample);
}
const openFrom = (list) => (example) => openExample(example, list.filter((e) => e.picture));

const classTable = () => sortedTable([
  { title: "class", value: (c) => c.name },
  { title: "boxes", value: (c) => c.boxes, text: count },
  { title: "AP", value: (c) => c.AP, text: percent, bar: true },
  { title: "AP50", value: (c) => c.AP50, text: percent },
  { title: "AP75", value: (c) => c.AP75, text: percent },
  { title: "small", value: (c) => c.APs, text: percent, hint: "AP of boxes below 32² pixels" },
  { title: "medium", value: (c) => c.APm, text: percent, hint: "AP of boxes of 32² to 96² pixels" },
  { title: "large", value: (c) => c.APl, text: percent, hint: "AP of boxes of 96² pixels and more" },
  { title: "best F1", value: (c) => c.F1, text: share, hint: "highest F1 at IoU 0.5" },
  { title: "at score", value: (c) => c.threshold, text: share, hint: "the score threshold of the best F1" },
  { title: "precision", value: (c) => c.precision, text: share, hint: "at that threshold" },
  { title: "recall", value: (c) => c.recall, text: share, hint: "at that threshold" },
  { title: "calibration error", value: (c) => data.class_errors[c.name], text: share, hint: "expected difference of score and share right" },
], data.classes);

/** The confusion matrix; a cell opens its examples below. */
function confusion() {
  const { names, cells, shown } = data.matrix, last = names.length - 1;
  const byPlace = new Map(cells.map((cell) => [cell.row * names.length + cell.column, cell]));
  const totals = names.map((_, r) => cells.filter((c) => c.row === r).reduce((sum, c) => sum + c.count, 0));
  const place = make("div", { class: "scroll" }), examples = make("section", { class: "panel examples", id: "cell-examples", hidden: true, "aria-live": "polite" });
  const all = make("input", { type: "checkbox" });

  function open(cell, node) {
    for (const other of place.querySelectorAll("button.on")) other.classList.remove("on");
    node.classList.add("on");
    const truth = names[cell.row], found = names[cell.column];
    const words = cell.row === last ? `${found} detected where there is none` : cell.column === last ? `${truth} missed`
      : cell.row === cell.column ? `${truth} detected as ${found}` : `${truth} taken for ${found}`;
    const pictured = cell.examples.filter((e) => e.picture).length, listed = cell.examples.length;
    const more = cell.count > listed ? `, ${listed} of them here` : "", bare = pictured < listed ? `, ${listed - pictured} without a picture` : "";
    examples.replaceChildren(make("h3", {}, `${words}: ${count(cell.count)}${more}${bare}`), cards(cell.examples, openFrom(cell.examples)));
    examples.hidden = false;
    examples.dataset.cell = `${truth} / ${found}`;
    examples.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  function draw() {
    const which = all.checked ? names.map((_, i) => i) : shown;
    const head = make("tr", {}, make("th", {}), ...which.map((c) => make("th", { scope: "col", title: `detected as ${names[c]}` }, make("span", {}, names[c]))));
    const rows = which.map((r) => make("tr", {}, make("th", { scope: "row", title: names[r] }, names[r]), ...which.map((c) => {
      const cell = byPlace.get(r * names.length + c);
      if (!cell) return make("td", {}, make("i", {}));
      const part = cell.count / Math.max(totals[r], 1), right = r === c;
      const words = `${names[r]} detected as ${names[c]}: ${count(cell.count)}`;
      const node = make("button", { type: "button", "aria-label": words, "data-row": names[r], "data-column": names[c] }, count(cell.count));
      const depth = Math.round(12 + 68 * Math.sqrt(part));
      node.style.background = `color-mix(in oklab, var(--${right ? "found" : "wrong"}) ${depth}%, var(--panel))`;
      if (depth > 52) node.style.color = "light-dark(#fff, #0d1114)";
      node.addEventListener("click", () => open(cell, node));
      hover(node, `${words}\n${(100 * part).toFixed(1)}% of the row`);
      return make("td", {}, node);
    })));
    place.replaceChildren(make("table", { class: "matrix" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  all.addEventListener("change", draw);
  draw();
  const bar = make("div", { class: "matrix-bar" }, make("span", { class: "soft" }, `Rows: ground truth. Columns: detected as. IoU 0.5, score ${share(data.threshold)} or more (the mean of the best thresholds). A cell opens its images.`));
  if (shown.length < names.length) bar.append(make("label", {}, all, ` all ${last} classes`));
  return [make("section", { class: "panel" }, bar, place), examples];
}

const chartOf = (block) => block.type === "chart" ? drawChart(block) : make("p", { class: "sentence" }, block.text);

function gallery(title, list, words) {
  const parts = list.length ? cards(list, openFrom(list)) : make("p", { class: "soft" }, "none");
  return make("section", { class: "panel", "data-gallery": plain(title) }, make("h3", {}, title), make("p", { class: "note" }, words), parts);
}

const groupColumns = (name) => [
  { title: name, value: (g) => g.name },
  ...(name === "size" ? [] : [{ title: "images", value: (g) => g.images, text: count }]),
  { title: "boxes", value: (g) => g.boxes, text: count },
  { title: "AP", value: (g) => g.AP, text: percent, bar: true },
  { title: "AP50", value: (g) => g.AP50, text: percent, bar: true },
];

content.append(make("div", { class: "tiles" }, ...data.tiles.map((t) => make("div", { class: "tile" }, make("b", {}, percent(t.value)), make("span", {}, t.label)))));
section("Classes", classTable());
section("Confusions", ...confusion());
section("Curves", chartOf(data.charts.precision_recall));
section("Errors", chartOf(data.charts.tide), make("p", { class: "note" }, "Each bar is what AP50 would gain if the errors of this type alone were corrected; the gains do not add up. Hover for what a type means and how many there are."));
section("Size and crowding", make("div", { class: "pair" }, sortedTable(groupColumns("size"), data.size), sortedTable(groupColumns("boxes in the image"), data.crowding.count), sortedTable(groupColumns("closest two boxes of the image"), data.crowding.overlap)));
section("Calibration", make("div", { class: "pair" }, chartOf(data.charts.calibration), chartOf(data.charts.scores)));
section("Misses", gallery("Worst misses", data.galleries.worst_misses, "Ground-truth boxes without a detection, those that fill most of their image first."));
section("False positives", gallery("Most confident false positives", data.galleries.false_positives, "Wrong detections of the highest score. Some may be objects that nobody annotated."));
section("Definitions", make("section", { class: "panel" }, ...data.notes.map((text) => make("p", { class: "note" }, text))));
onKeys({ t: flipTheme });
