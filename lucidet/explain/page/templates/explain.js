/** The page of one explained image: fates, origins, heat maps, and sliders that change the settings. */

const explained = data.explanation;
let settings = { ...explained.settings };

const SLIDERS = [
  { key: "score_thresh", title: "score >", step: .001, range: (e) => [e.exact.score_thresh, 1] },
  { key: "nms_thresh", title: "NMS IoU", step: .001, range: () => [0, 1] },
  { key: "topk", title: "top-k", step: 1, range: (e) => [1, e.exact.topk] },
  { key: "assign_iou", title: "assignment IoU", step: .001, range: (e) => e.settings.assign_iou === null ? null : [0, 1] },
];

const sliders = make("div", { class: "sliders" });
const state = make("span", { "aria-live": "polite" });
const reset = button("as in the run", "the settings of the run", () => { settings = { ...explained.settings }; drawSliders(); draw(); });
const heatToggle = make("input", { type: "checkbox", id: "heat", checked: true });
const heatLabel = make("label", { hidden: true }, heatToggle, " heat map ", make("small", {}, ""));
const controls = make("div", {}, sliders, make("div", { class: "settings" }, state, reset, heatLabel));
let heat = null;

const result = resultView({ controls, most: "(100vh - 252px)", chosen: () => { drawHeat(); remember(); } });
$("content").append(result.node);
heatToggle.addEventListener("change", drawHeat);

const same = () => SLIDERS.every(({ key }) => settings[key] === explained.settings[key]);

function drawSliders() {
  const e = explained;
  sliders.replaceChildren();
  for (const { key, title, step, range } of SLIDERS) {
    const ends = range(e);
    if (!ends) continue;
    const input = make("input", { type: "range", min: String(ends[0]), max: String(ends[1]), step: "any", name: key });
    input.value = String(settings[key]);
    const output = make("output", {}, short(settings[key], 3));
    const label = make("label", { title: `the run's: ${e.settings[key]}` }, title, input, output);
    label.classList.toggle("changed", settings[key] !== e.settings[key]);
    const change = (value) => {
      settings[key] = clamp(Number((Math.round(value / step) * step).toFixed(4)), ends[0], ends[1]);
      output.textContent = short(settings[key], 3);
      label.classList.toggle("changed", settings[key] !== e.settings[key]);
      draw();
    };
    input.addEventListener("input", () => change(Number(input.value)));
    input.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      change(settings[key] + by * (key === "topk" ? Math.max(1, Math.round(ends[1] / 100)) : .01));
      input.value = String(settings[key]);
    });
    sliders.append(label);
  }
}

const stateOfFate = (kind) => ({ detected: "found", ignored: "ignored" })[kind] || "missed";
const stateOfVerdict = (kind) => ({ true_positive: "found", ignored: "ignored" })[kind] || "wrong";

/** One line on a fate at settings that are not the run's. */
function reasonOf(e, o, fate, now) {
  const c = e.candidates, title = data.titles.fates[fate.kind] || fate.kind;
  const scoreOf = (i) => c.score[i].toFixed(2);
  if (fate.kind === "detected") return `${title}: ${scoreOf(fate.candidate)}, IoU ${iou32(o.box, now.found.boxes[fate.detection]).toFixed(2)}`;
  if (fate.kind === "suppressed") {
    const d = now.found.candidate.indexOf(fate.by);
    return `${title} by ${d < 0 ? "a candidate" : `detection ${d}`} (${scoreOf(fate.by)} against ${scoreOf(fate.candidate)})`;
  }
  if (fate.candidate !== undefined) return `${title}: ${scoreOf(fate.candidate)}`;
  if (fate.kind === "lost_topk" && fate.row) return `${title}: rank ${fate.row[0] + 1}, limit ${settings.topk}`;
  if (fate.row) return `${title}: ${o.name} ${fate.row[6].toFixed(2)}, threshold ${short(settings.score_thresh)}`;
  return fate.kind === o.fate ? o.text : title;
}

function currentView() {
  const e = explained;
  if (same()) return data.view;
  const now = recompute(e, settings);
  const before = new Map(e.detections.map((d) => [d.candidate, d.index]));
  const truth = data.view.truth.map((t, i) => {
    const o = e.objects[i], fate = now.fates[i], title = data.titles.fates[fate.kind] || fate.kind;
    const score = fate.kind === "detected" ? " " + now.found.scores[fate.detection].toFixed(2) : "";
    return { ...t, partner: fate.detection ?? null, state: stateOfFate(fate.kind), title: title + score, reason: `${reasonOf(e, o, fate, now)}. In the run: ${o.text}; the stages are the run's.` };
  });
  const detections = now.found.boxes.map((box, d) => {
    const v = now.verdicts[d], old = before.get(now.found.candidate[d]);
    const label = now.found.labels[d];
    return { box, partner: v.object, name: e.classes[label] ?? `class ${label}`, score: now.found.scores[d], state: stateOfVerdict(v.verdict),
      title: data.titles.verdicts[v.verdict] || v.verdict, reason: v.object === null ? "" : `box ${v.object}, IoU ${v.iou.toFixed(2)}`,
      chain: old === undefined ? [] : data.view.detections[old].chain };
  });
  const count = (rows, name) => rows.filter((r) => r.state === name).length;
  const tiles = [["found", count(truth, "found")], ["missed", count(truth, "missed")], ["wrong", count(detections, "wrong")]]
    .map(([label, n]) => ({ label, value: String(n), state: label }));
  return { ...data.view, truth, detections, tiles: [...tiles, { label: "detections", value: String(detections.length), state: "" }] };
}

function draw() {
  const view = currentView();
  if (!same() && result.picked() && result.picked().kind === "detection") result.choose(null, true);
  result.update(view);
  const changed = SLIDERS.filter(({ key }) => settings[key] !== explained.settings[key]);
  state.textContent = changed.length ? `Recomputed for ${changed.map(({ key, title }) => `${title} ${short(settings[key], 3)}`).join(", ")}.` : "The settings of the run.";
  reset.hidden = !changed.length;
  drawHeat();
}

/** The heat map of the chosen detection, where the page has one and the settings are the run's. */
function drawHeat() {
  if (heat) heat.remove();
  heat = null;
  const picked = result.picked();
  const own = same() && picked && picked.kind === "detection" ? data.heat[picked.index] : null;
  heatLabel.hidden = !own;
  if (!own) return;
  heatLabel.querySelector("small").textContent = own.note;
  if (!heatToggle.checked) return;
  const [width, height] = own.extent;
  heat = svg("image", { href: data.images[own.image], width, height, preserveAspectRatio: "none", class: "heat" });
  result.node.querySelector(".view svg > image").after(heat);
}

function remember() {
  const picked = result.picked();
  const hash = picked ? `#${picked.kind === "truth" ? "box" : "detection"}-${picked.index}` : "#all";
  setHash(hash);
}

function fromHash(hash) {
  const match = /^#(box|detection)-(\d+)$/.exec(hash);
  if (match) result.choose({ kind: match[1] === "box" ? "truth" : "detection", index: Number(match[2]) }, true);
  drawHeat();
}

/** For the console, and for scripts that drive the page: what lucidet computes at other settings. */
window.lucidet = { settings: () => ({ ...settings }), at: (changed) => recompute(explained, { ...explained.settings, ...changed }) };

if (data.back) {
  $("back").href = data.back;
  $("back").hidden = false;
}
drawSliders();
draw();
onKeys({ t: flipTheme, Escape: () => result.choose(null), j: () => result.walk(1), ArrowDown: () => result.walk(1),
  k: () => result.walk(-1), ArrowUp: () => result.walk(-1) });
onHash(fromHash);
