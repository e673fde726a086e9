/** The page of a comparison of two evaluations. */

const content = $("content");
const [nameA, nameB] = data.names;
let side = 1, current = null;
const sides = make("span", { class: "group", role: "group", "aria-label": "whose detections" });
const sideButtons = data.names.map((name, i) => button(name, `detections of ${name} (${i ? "b" : "a"})`, () => { side = i; reopen(); }));
sides.append(...sideButtons);
const viewer = imageDialog(sides);
const reopen = () => { if (current) openExample(...current); };

function openExample(example, list) {
  current = [example, list];
  sideButtons.forEach((node, i) => node.classList.toggle("on", i === side));
  viewer.show(data.views[example.picture][side], example.pick, list, example, openExample);
}
viewer.node.addEventListener("keydown", (event) => {
  if (event.key === "a" || event.key === "b") { side = event.key === "a" ? 0 : 1; reopen(); }
});

const scoreOf = (v) => v === null ? "none" : v.toFixed(2);
const signed = (v) => v === null || v === undefined ? "–" : (v > 0 ? "+" : "") + v.toFixed(1);
const tone = (v, sure = true) => v === null || !sure || Math.abs(v) < .05 ? "" : v > 0 ? "found" : "wrong";

function boxes(kind, title, words) {
  const list = data.lists[kind].map((e) => ({ ...e, tone: kind === "won" ? "found" : "missed" })), total = data.counts[kind], open = (e) => openExample(e, list.filter((x) => x.picture));
  const grid = list.length ? cards(list, open, (e) => `${e.ground_truth.class} ${scoreOf(e.scores[0])} → ${scoreOf(e.scores[1])}`) : make("p", { class: "soft" }, "none");
  const note = total > list.length ? ` The ${list.length} largest of ${count(total)} are here.` : "";
  return make("section", { class: "panel", "data-gallery": kind }, make("h3", {}, `${title}: ${count(total)}`), make("p", { class: "note" }, words + note), grid);
}

const sure = (m) => m.low !== null && (m.low > 0 || m.high < 0);
const ap = data.metrics.find((m) => m.name === "AP");
const interval = (m) => m.low === null ? "" : ` (${signed(m.low)} to ${signed(m.high)})`;
content.append(make("div", { class: "tiles" },
  ...[[`AP of ${nameA}`, percent(ap.a)], [`AP of ${nameB}`, percent(ap.b)], [`difference${interval(ap)}`, signed(ap.difference), tone(ap.difference, sure(ap) || !data.bootstrap)],
    ["boxes won", count(data.counts.won), "found"], ["boxes lost", count(data.counts.lost), "missed"], ["wrong detections", `${count(data.wrong[0])} → ${count(data.wrong[1])}`]]
    .map(([label, value, state]) => make("div", { class: "tile" }, make("b", { class: state || "" }, value), make("span", {}, label)))));

section("Metrics", sortedTable([
  { title: "metric", value: (m) => m.name },
  { title: nameA, value: (m) => m.a, text: percent },
  { title: nameB, value: (m) => m.b, text: percent },
  { title: "difference", value: (m) => m.difference, text: signed, tone: (m) => tone(m.difference, sure(m) || !data.bootstrap) },
  ...(data.bootstrap ? [{ title: "95% interval", value: (m) => m.low, text: (v) => v, cell: (m) => m.low === null ? "–" : `${signed(m.low)} to ${signed(m.high)}` },
    { title: "samples better", value: (m) => m.share_better, text: (v) => v === null ? "–" : `${Math.round(100 * v)}%` }] : []),
], data.metrics), make("p", { class: "note" }, data.bootstrap
  ? `Intervals from ${count(data.bootstrap)} random samples of the images, with repetition. A difference whose interval holds 0 may be chance, and has no color.` : "Without intervals."));
section("Classes", sortedTable([
  { title: "class", value: (c) => c.name },
  { title: "boxes", value: (c) => c.boxes, text: count },
  { title: `AP of ${nameA}`, value: (c) => c.a, text: percent },
  { title: `AP of ${nameB}`, value: (c) => c.b, text: percent },
  { title: "difference", value: (c) => c.difference, text: signed, tone: (c) => tone(c.difference) },
  { title: "boxes won", value: (c) => c.won, text: count },
  { title: "boxes lost", value: (c) => c.lost, text: count },
], data.classes));
const at = `IoU 0.5, and a score of ${data.thresholds[0].toFixed(2)} or more in ${nameA}, ${data.thresholds[1].toFixed(2)} or more in ${nameB} (the mean of the best thresholds).`;
section("Won", boxes("won", "Ground-truth boxes won", `Found by ${nameB} and not by ${nameA}, with the score in each: ${at}`));
section("Lost", boxes("lost", "Ground-truth boxes lost", `Found by ${nameA} and not by ${nameB}, with the score in each: ${at}`));
onKeys({ t: flipTheme });
