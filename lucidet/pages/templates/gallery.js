/** Examples as cards, each a crop around its boxes; a card opens the whole image with all its boxes. */

const plain = (text) => String(text).toLowerCase().replace(/[^a-z0-9]+/g, "-");

/** The part of a picture around boxes, as a square. */
function crop(key, size, boxes) {
  const [width, height] = size;
  const low = [0, 1].map((i) => Math.min(...boxes.map((b) => b.box[i]))), high = [2, 3].map((i) => Math.max(...boxes.map((b) => b.box[i])));
  const side = Math.min(Math.max((high[0] - low[0]) * 1.6, (high[1] - low[1]) * 1.6, Math.max(width, height) / 6), Math.max(width, height));
  const x = (low[0] + high[0]) / 2 - side / 2, y = (low[1] + high[1]) / 2 - side / 2;
  const node = svg("svg", { viewBox: `${x} ${y} ${side} ${side}`, "aria-hidden": "true" });
  node.append(svg("image", { href: data.images[key], width, height, preserveAspectRatio: "none" }));
  for (const b of boxes) {
    const [x1, y1, x2, y2] = b.box;
    node.append(svg("rect", { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0), stroke: b.color, class: b.dashed ? "dashed" : "" }));
  }
  return node;
}

/** Boxes of an example: a ground-truth box dashed, a detection solid. */
function boxesOf(example) {  // example.tone: state of a ground-truth box without a detection
  const { detection, ground_truth: truth } = example, boxes = [];
  if (truth) boxes.push({ box: truth.box, color: detection ? COLORS[7] : VERDICTS[example.tone || "missed"], dashed: true });
  if (detection) boxes.push({ box: detection.box, color: truth && truth.class === detection.class ? VERDICTS.found : VERDICTS.wrong });
  return boxes;
}

function wordsOf(example) {
  const { detection, ground_truth: truth } = example;
  if (!detection) return `${truth.class} missed`;
  return `${detection.class} ${detection.score.toFixed(2)}` + (truth && truth.class !== detection.class ? `, is ${truth.class}` : "");
}

/** @param open called with the example that is chosen; @param caption its words */
function cards(examples, open, caption = wordsOf) {
  return make("div", { class: "cards" }, ...examples.map((example) => {
    const words = caption(example), name = example.file_name;
    if (!example.picture) return make("div", { class: "card bare" }, make("b", {}, words), make("span", {}, name));
    const node = make("button", { type: "button", class: "card", title: `${words}\n${name}`, "data-picture": example.picture },
      crop(example.picture, [data.views[example.picture]].flat()[0].size, boxesOf(example)), make("b", {}, words), make("span", {}, name));
    node.addEventListener("click", () => open(example));
    return node;
  }));
}

/** A dialog with the result view of an image: {show(view, pick, list, open)}; arrows go to the neighbors in the list. */
function imageDialog(extra = null) {
  const result = resultView({ most: "(100vh - 230px)" });
  const name = make("h2", {}), position = make("span", { class: "soft" });
  let list = [], at = 0, open = () => {};
  const step = (by) => { if (list.length > 1) open(list[(at + by + list.length) % list.length], list); };
  const before = button("‹", "previous example (left arrow)", () => step(-1)), after = button("›", "next example (right arrow)", () => step(1));
  const node = make("dialog", { class: "viewer", "aria-label": "image" }, make("div", { class: "bar-of-dialog" }, name, position, extra, before, after,
    button("✕", "close (Escape)", () => node.close())), result.node);
  node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
  node.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowLeft") step(-1); else if (event.key === "ArrowRight") step(1);
  });
  document.body.append(node);
  const show = (view, pick, examples, chosen, opener) => {
    list = examples; at = examples.indexOf(chosen); open = opener;
    name.textContent = view.name;
    position.textContent = list.length > 1 ? `${at + 1} of ${list.length}` : "";
    before.disabled = after.disabled = list.length < 2;
    if (!node.open) node.showModal();
    result.update(view);
    result.choose(pick, true);
  };
  return { node, show, result };
}
