/** The funnel of a dataset: how many ground-truth boxes are lost at each stage, by what, and examples. */

const funnel = data.funnel;
const total = Math.max(funnel.objects, 1);
const titleOf = (kind, what = "truth") => (what === "truth" ? data.titles.fates : data.titles.verdicts)[kind] || kind;
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const examples = make("section", { class: "panel", id: "examples", "aria-live": "polite" });

/** One color a fate, seen on light and dark; the first is of what is detected. */
const TONES = ["#009E73", "#7f8c99", "#3da5ff", "#0072B2", "#00a5b5", "#6a5acd", "#b98cff", "#8a5300", "#D55E00", "#e6a100", "#c04ee0", "#d6336c", "#98a2ad"];
const toneOf = (kind) => TONES[Math.max(Object.keys(data.titles.fates).indexOf(kind), 0) % TONES.length];

function showExamples(kind, what) {
  const found = funnel.examples[what === "truth" ? "objects" : "detections"][kind] || [];
  const cards = found.map((example) => {
    const parts = [example.thumbnail ? make("img", { src: example.thumbnail, alt: "" }) : null,
      make("b", {}, `${what === "truth" ? "box" : "detection"} ${example.index}`), " ", String(example.file_name).split(/[\\/]/).pop(), make("br"), make("span", { class: "soft" }, example.text)];
    const address = example.page ? { href: `${example.page}#${what === "truth" ? "box" : "detection"}-${example.index}` } : {};
    return make("a", address, ...parts);
  });
  examples.replaceChildren(make("h3", {}, `${titleOf(kind, what).split(":")[0]}: ${found.length ? "examples" : "no example"}`), make("div", { class: "examples" }, ...cards));
  examples.dataset.kind = kind;
}

/** Bars of counts; a bar opens its examples. */
function bars(title, counts, what, gains, gainText, skip) {
  const rows = Object.entries(counts).filter(([kind]) => !skip.includes(kind)).map(([kind, count]) => {
    const gain = gains[kind] === undefined || gains[kind] === null || funnel.ap50 === null ? "" : `; ${gainText} ${(gains[kind] - funnel.ap50).toFixed(1)} AP50`;
    return { label: titleOf(kind, what).split(":")[0], value: count, note: `${percent(count / total)} of the ground-truth boxes${gain}`, state: what === "truth" ? "missed" : "wrong",
      shown: `${count.toLocaleString("en")}${what === "truth" ? ` (${percent(count / total)})` : ""}${gain ? ` +${(gains[kind] - funnel.ap50).toFixed(1)}` : ""}`,
      action: () => showExamples(kind, what) };
  });
  if (!rows.length) return make("section", { class: "panel" }, make("h3", {}, title), make("p", { class: "soft" }, "none"));
  return drawChart({ title, kind: "bars", rows, unit: `boxes; + AP50 ${what === "truth" ? "if they were detected" : "without them"}`, log: false, room: 150 });
}

/** For each group of boxes the shares of their fates. */
function groups(title, found) {
  const body = make("tbody", {}, ...Object.entries(found).map(([name, fates]) => {
    const count = Object.values(fates).reduce((a, b) => a + b, 0), lost = count - (fates.detected || 0);
    const stack = make("div", { class: "stack" }, ...Object.entries(fates).map(([kind, n]) => {
      const part = make("i", {});
      part.style.width = `${100 * n / count}%`;
      part.style.background = toneOf(kind);
      return hover(part, `${titleOf(kind)}: ${n.toLocaleString("en")} (${percent(n / count)})`);
    }));
    return make("tr", {}, make("td", {}, name), make("td", {}, count.toLocaleString("en")), make("td", { class: "share" }, percent(lost / count)), make("td", {}, stack));
  }));
  const head = make("tr", {}, ...[title, "boxes", "lost", "fates"].map((text) => make("th", { scope: "col" }, text)));
  return make("section", { class: "panel" }, make("h3", {}, `By ${title}`), make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), body)));
}

const lost = funnel.objects - (funnel.fates.detected || 0);
const tiles = [["images", funnel.images], ["ground-truth boxes", funnel.objects], ["detected", funnel.fates.detected || 0, "found"], ["lost", lost, "missed"],
  ["AP50", funnel.ap50 === null ? "–" : funnel.ap50.toFixed(1)], ...(funnel.ignored ? [["ignored", funnel.ignored]] : [])];
const key = make("div", { class: "key" }, ...Object.keys(funnel.fates).map((kind) => {
  const swatch = make("i", {});
  swatch.style.background = toneOf(kind);
  return make("span", {}, swatch, titleOf(kind));
}));
$("content").append(
  make("div", { class: "tiles" }, ...tiles.map(([label, value, state]) => make("div", { class: "tile" }, make("b", { class: state || "" }, typeof value === "number" ? value.toLocaleString("en") : value), make("span", {}, label)))),
  make("div", { class: "column" }, bars("Where ground-truth boxes are lost, by stage", funnel.fates, "truth", funnel.mend, "detecting them: +", ["detected"]),
    bars("Wrong detections", funnel.verdicts, "detection", funnel.without, "without them: +", ["true_positive", "ignored"]), examples),
  make("div", { class: "column" }, ...Object.entries(funnel.by).map(([title, found]) => groups(title, found)), key));
for (const chart of document.querySelectorAll(".chart")) chart.redraw();
const first = Object.keys(funnel.fates).find((kind) => kind !== "detected");
if (first) showExamples(first, "truth"); else examples.replaceChildren(make("h3", {}, "Nothing is lost"));
onKeys({ t: flipTheme });
