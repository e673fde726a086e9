/** The inspection page: the result in front, then one stage after another; one ground-truth box can be followed. */

let here = null;        // -1: the result
let followed = null;    // number of a ground-truth box among those that stages know

const front = data.front;
const nameOf = (m) => `box ${front.followed[m]}: ${front.view.truth[front.followed[m]].name}`;

function follow(m) {
  followed = m === null || m < 0 || m >= front.followed.length ? null : m;
  result.choose(followed === null ? null : { kind: "truth", index: front.followed[followed] }, true);
  const shown = here;
  here = null;
  show(shown);
}

function findingCards() {
  const cards = [];
  if (data.error) cards.push(make("section", { class: "panel findings" }, make("div", { class: "finding" }, make("p", {}, make("strong", {}, "stopped"), " " + data.error))));
  if (front.losses) cards.push(drawChart(front.losses));
  cards.push(make("section", { class: "panel findings" }, make("h3", {}, "Findings"),
    ...data.findings.map((group) => drawFinding(group, true)), data.findings.length ? null : make("p", { class: "soft" }, "None of the checks found anything.")));
  return cards;
}

const result = resultView({
  cards: findingCards(),
  most: "(100vh - 262px)",
  stepLink: (step) => `#step-${step}`,
  chosen: (picked) => {
    const m = picked && picked.kind === "truth" ? front.followed.indexOf(picked.index) : -1;
    followed = m < 0 ? null : m;
    remember();
  },
});

function film() {
  return make("div", { class: "film", "aria-label": "stages" }, ...data.steps.map((step, i) => {
    const link = make("a", { href: `#step-${i}`, title: step.title + (step.brief ? ": " + step.brief : "") }, make("b", {}, step.title), make("span", {}, step.brief));
    if (findingsOf(i).length) { link.classList.add("warn"); link.firstChild.append(" ⚠"); }
    return link;
  }));
}

/** Findings of one step, grouped. */
function findingsOf(i) {
  return data.findings.map((group) => ({ ...group, messages: group.messages.filter((m) => m.step === i) })).filter((group) => group.messages.length);
}

function followingBar(step) {
  const note = step.notes[followed];
  const move = (by) => follow((followed + by + front.followed.length) % front.followed.length);
  return make("div", { class: "following" }, make("b", {}, `Following ${nameOf(followed)}`),
    make("span", { class: note && note.lost ? "wrong" : "" }, note ? note.text : "This stage does not tell boxes apart."),
    button("‹", "the box before", () => move(-1)), button("›", "the box after", () => move(1)), button("✕", "stop following", () => follow(null)));
}

function followedLayers(step) {
  const note = step.notes[followed];
  if (!note) return [];
  const rows = note.boxes.map((b) => [...b.box, b.label, b.kind === "anchor" ? 0 : b.kind === "detection" ? 2 : 1, -2]);
  return [{ name: `box ${front.followed[followed]}`, on: true, boxes: [[...step.gt_boxes[followed], nameOf(followed), 4, -2]], note: "followed" },
    ...(rows.length ? [{ name: "best for it", on: true, boxes: rows, note: String(rows.length) }] : [])];
}

function showStep(step, index) {
  const main = $("content");
  main.replaceChildren();
  if (followed !== null) main.append(followingBar(step));
  main.append(make("p", { class: "crumb" }, `${step.number}. ${step.chapter_title} `, make("span", { class: "probe" }, step.probe ? `· ${step.probe}` : "")),
    make("h2", {}, step.title), make("p", { class: "sentence" }, step.sentence));
  for (const group of findingsOf(index)) main.append(drawFinding(group, false));
  let first = true;
  const extra = () => { const layers = first && followed !== null ? followedLayers(step) : []; first = false; return layers; };
  drawBlocks(step.blocks, main, { follow: (m) => follow(m), extra });
  if (followed !== null && step.blocks.some((block) => block.follow)) {
    single(followed);
    for (const layer of main.querySelectorAll("g[data-layer]")) {
      if (layer.querySelector('rect[data-group="-2"]')) { delete layer.dataset.only; refresh(layer); }
    }
    for (const row of main.querySelectorAll(`tr.pick[data-group="${followed}"]`)) row.classList.add("picked");
  }
}

function show(index) {
  if (index < -1 || index >= data.steps.length || index === here) return;
  here = index;
  noTip();
  $("front").hidden = index >= 0;
  $("frame").hidden = index < 0;
  if (index >= 0) showStep(data.steps[index], index);
  for (const link of document.querySelectorAll("nav a")) {
    const own = Number(link.dataset.step) === index;
    link.classList.toggle("here", own);
    if (own) { link.setAttribute("aria-current", "step"); link.scrollIntoView({ block: "nearest" }); } else link.removeAttribute("aria-current");
  }
  $("position").textContent = index < 0 ? `${data.steps.length} stages` : `${index + 1} / ${data.steps.length}`;
  $("to-result").classList.toggle("on", index < 0);
  $("previous").disabled = index < 0;
  $("next").disabled = index === data.steps.length - 1;
  remember();
  scrollTo(0, 0);
}

function remember() {
  const hash = (here < 0 ? "#result" : `#step-${here}`) + (followed === null ? "" : `/box-${front.followed[followed]}`);
  setHash(hash);
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
    const count = findingsOf(i).reduce((sum, group) => sum + group.messages.length, 0);
    if (count) link.append(make("span", { class: "count", title: "findings" }, `⚠ ${count}`));
    nav.append(link);
  });
  if (data.absent.length) {
    nav.append(make("h2", {}, "Not in this run"), ...data.absent.map((a) => make("p", { title: a.why }, a.chapter, make("br"), a.why)));
  }
}

list();
$("front").append(result.node, film());
$("to-result").addEventListener("click", () => show(-1));
$("next").addEventListener("click", () => show(here + 1));
$("previous").addEventListener("click", () => show(here - 1));
$("menu").addEventListener("click", () => $("stages").classList.toggle("open"));
const next = () => show(here + 1), back = () => show(here - 1);
onKeys({ ArrowRight: next, j: next, ArrowLeft: back, k: back, Home: () => show(-1), End: () => show(data.steps.length - 1), t: flipTheme,
  Escape: () => follow(null) });

function fromHash(hash) {
  const match = /^#(?:result|step-(\d+))(?:\/box-(\d+))?$/.exec(hash);
  if (!match && here !== null) return;
  $("stages").classList.remove("open");
  if (match && match[2] !== undefined) {
    const m = front.followed.indexOf(Number(match[2]));
    if (m >= 0 && m !== followed) { followed = m; result.choose({ kind: "truth", index: Number(match[2]) }, true); }
  }
  show(match && match[1] !== undefined ? Math.min(Number(match[1]), data.steps.length - 1) : -1);
}
result.update(front.view);
onHash(fromHash);
for (const chart of document.querySelectorAll("#front .chart")) chart.redraw();
