/**
 * Detections, verdicts and fates at any settings, from the candidates of an explanation: what
 * lucidet.explain.recompute and lucidet.explain.fates compute, in float32 as they do.
 */

const f32 = Math.fround;
const BACKGROUND_IOU = .1;  // below it a detection overlaps nothing
const MOST_OF_CLASS = 100;  // detections of an image and class that COCO's matching looks at

function area32(b) { return f32(f32(b[2] - b[0]) * f32(b[3] - b[1])); }

/** IoU of two boxes in float32; 0 where one has no area. */
function iou32(a, b) {
  const w = f32(Math.min(a[2], b[2]) - Math.max(a[0], b[0])), h = f32(Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  if (!(w > 0) || !(h > 0)) return 0;
  const inter = f32(w * h), union = f32(f32(area32(a) + area32(b)) - inter);
  return union > 0 ? f32(inter / union) : 0;
}

/** Greedy NMS within each class; `order` holds indices, highest score first. Up to 1000 boxes are shifted apart by class, as in torchvision. */
function batchedNms(boxes, labels, order, threshold) {
  let moved = boxes;
  if (order.length <= 1000 && order.length) {
    let most = -Infinity;
    for (const i of order) for (const v of boxes[i]) most = Math.max(most, v);
    const step = f32(most + 1);
    moved = [];
    for (const i of order) { const by = f32(labels[i] * step); moved[i] = boxes[i].map((v) => f32(v + by)); }
  }
  const areas = [], kept = [], byClass = new Map();
  for (const i of order) areas[i] = area32(moved[i]);
  for (const i of order) {
    const rivals = byClass.get(labels[i]) || [], b = moved[i];
    const lost = rivals.some((j) => {
      const a = moved[j];
      const w = f32(Math.min(a[2], b[2]) - Math.max(a[0], b[0])), h = f32(Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
      const inter = f32(Math.max(0, w) * Math.max(0, h));
      return f32(inter / f32(f32(areas[j] + areas[i]) - inter)) > threshold;
    });
    if (lost) continue;
    kept.push(i);
    rivals.push(i);
    byClass.set(labels[i], rivals);
  }
  return kept;
}

function toFile(e, box) {
  const [rw, rh] = e.image.resized, sx = f32(e.image.width / rw), sy = f32(e.image.height / rh);
  const limit = [e.image.width, e.image.height, e.image.width, e.image.height];
  return box.map((v, i) => Math.min(Math.max(f32(v * (i % 2 ? sy : sx)), 0), limit[i]));
}

const ofDataset = (e, label) => e.class_map.length ? e.class_map[label] : label;
const ownLabels = (e, label) => e.class_map.length ? e.class_map.flatMap((own, k) => own === label ? [k] : []) : [label];

/** {boxes, scores, labels, candidate, beyond, tooSmall, passed, survivors}; boxes in pixels of the file. */
function detectionsAt(e, s) {
  const c = e.candidates, least = f32(s.score_thresh), passed = [], tooSmall = [];
  for (let i = 0; i < c.score.length; i++) {
    if (!(c.score[i] > least && c.rank[i] < s.topk)) continue;
    const b = c.box[i];
    const small = s.min_box_size > 0 && !(f32(b[2] - b[0]) >= f32(s.min_box_size) && f32(b[3] - b[1]) >= f32(s.min_box_size));
    (small ? tooSmall : passed).push(i);
  }
  const grow = s.nms_offset || 0;
  const boxes = grow ? c.box.map((b) => [b[0], b[1], f32(b[2] + grow), f32(b[3] + grow)]) : c.box;
  const survivors = batchedNms(boxes, c.label, passed, s.nms_thresh);
  const limit = s.detections >= 0 ? s.detections : survivors.length;
  const found = { boxes: [], scores: [], labels: [], candidate: [], beyond: survivors.slice(limit), tooSmall, passed, survivors };
  for (const i of survivors.slice(0, limit)) {
    const box = toFile(e, c.box[i]), label = ofDataset(e, c.label[i]);
    if (label < 0 || !s.keep_empty && !(box[2] > box[0] && box[3] > box[1])) continue;
    found.boxes.push(box); found.scores.push(c.score[i]); found.labels.push(label); found.candidate.push(i);
  }
  return found;
}

/** COCO's matching of one image: {detection of each ground-truth box or -1, object of each detection or -1, ignored}. */
function matchDetections(e, found, threshold) {
  const objects = e.objects, count = found.boxes.length;
  const result = { detection: objects.map(() => -1), object: Array(count).fill(-1), ignored: Array(count).fill(true) };
  const least = Math.min(threshold, 1 - 1e-10);
  const overlapOf = (d, o) => {
    const w = Math.min(d[2], o.box[2]) - Math.max(d[0], o.box[0]), h = Math.min(d[3], o.box[3]) - Math.max(d[1], o.box[1]);
    if (w <= 0 || h <= 0) return 0;
    return w * h / (o.crowd ? area(d) : area(d) + area(o.box) - w * h);
  };
  for (const label of new Set(found.labels)) {
    const own = objects.map((o, g) => g).filter((g) => objects[g].label === label);
    own.sort((a, b) => objects[a].crowd - objects[b].crowd);
    const taken = new Set();
    const mine = found.labels.map((l, d) => d).filter((d) => found.labels[d] === label).slice(0, MOST_OF_CLASS);
    for (const d of mine) {
      let best = least, chosen = -1;
      for (const g of own) {
        if (taken.has(g) && !objects[g].crowd) continue;
        if (chosen >= 0 && !objects[chosen].crowd && objects[g].crowd) break;
        const iou = overlapOf(found.boxes[d], objects[g]);
        if (iou < best) continue;
        best = iou; chosen = g;
      }
      result.ignored[d] = chosen >= 0 && objects[chosen].crowd;
      if (chosen < 0) continue;
      taken.add(chosen);
      if (!objects[chosen].crowd) { result.object[d] = chosen; result.detection[chosen] = d; }
    }
  }
  return result;
}

/** What became of the candidates: see lucidet.explain.fates.Outcome. */
function outcomeAt(e, s, found, match) {
  const c = e.candidates, asked = [...found.passed, ...found.tooSmall].sort((a, b) => a - b);
  const shown = new Map(asked.map((i) => [i, toFile(e, c.box[i])]));
  const least = f32(s.match_iou);
  const fits = e.objects.map((o) => {
    const box = o.box.map(f32);
    return asked.filter((i) => ofDataset(e, c.label[i]) === o.label && iou32(box, shown.get(i)) >= least);
  });
  const open = new Set(fits.flat()), stays = new Set(found.survivors), passed = new Set(found.passed);
  const beyond = new Set(found.beyond);
  found.candidate.forEach((i, d) => { if (match.ignored[d] && open.has(i)) beyond.add(i); });
  const taken = new Set();
  found.candidate.forEach((i, d) => { if (match.object[d] >= 0) taken.add(`${c.row[i]} ${c.label[i]}`); });
  const grow = s.nms_offset || 0, grown = (i) => [c.box[i][0], c.box[i][1], f32(c.box[i][2] + grow), f32(c.box[i][3] + grow)];
  const suppressed = new Map();
  for (const i of open) {
    if (!passed.has(i) || stays.has(i)) continue;
    const rivals = found.survivors.filter((j) => c.label[j] === c.label[i]);
    const ious = rivals.map((j) => iou32(grown(i), grown(j)));
    if (!rivals.length) continue;
    const above = ious.findIndex((v) => v > f32(s.nms_thresh));
    suppressed.set(i, rivals[above >= 0 ? above : ious.indexOf(Math.max(...ious))]);
  }
  return { final: found.candidate, beyond, suppressed, tooSmall: new Set(found.tooSmall), detection: match.detection, taken, fits };
}

/** The fate of a ground-truth box: {kind, candidate, row, by}, by the rule of lucidet.explain.fates. */
function fateOf(e, o, outcome, s) {
  if (o.crowd) return { kind: "ignored" };
  const own = ownLabels(e, o.label), d = outcome.detection[o.index];
  if (d >= 0) return { kind: "detected", candidate: outcome.final[d], detection: d };
  const fits = outcome.fits[o.index];
  for (const i of fits) if (outcome.beyond.has(i)) return { kind: "beyond_limit", candidate: i };
  for (const i of fits) {
    if (outcome.suppressed.has(i)) return { kind: "suppressed", candidate: i, by: outcome.suppressed.get(i) };
  }
  for (const i of fits) if (outcome.tooSmall.has(i)) return { kind: "lost_filter", candidate: i };
  const facts = o.facts;
  const rows = facts.rows.filter((row) => !own.some((label) => outcome.taken.has(`${row[5]} ${label}`)));
  let allowed = rows.filter((row) => row[0] < s.topk);
  if (!e.two_stage) {
    const out = rows.find((row) => row[0] >= s.topk && row[1] > s.score_thresh);
    if (out) return { kind: "lost_topk", row: out };
    allowed = rows;
  }
  if (allowed.length) {
    const row = allowed[0];
    if (row[2] >= e.num_classes) return { kind: "background", row };
    return { kind: !own.includes(row[2]) && row[3] > s.score_thresh ? "other_class" : "below_threshold", row };
  }
  if (rows.length) return { kind: "lost_topk", row: rows[0] };
  if (facts.proposal) return { kind: facts.proposal.rank < s.topk ? "badly_regressed" : "lost_topk" };
  if (facts.before) return { kind: facts.before.fate };
  const byIou = s.assign_iou !== null && facts.best_anchor_iou !== null;
  return { kind: (byIou ? facts.best_anchor_iou >= s.assign_iou : facts.positives) ? "badly_regressed" : "no_anchor" };
}

/** What a detection turned out to be: {verdict, object, iou}, as lucidet.explain.origins.verdicts. */
function verdictsAt(e, found, match, threshold) {
  const least = f32(threshold);
  return found.boxes.map((box, d) => {
    const fit = e.objects.map((o) => o.crowd ? -1 : iou32(box, o.box.map(f32)));
    const same = fit.map((v, g) => e.objects[g].label === found.labels[d] ? v : -1);
    const top = (values) => values.reduce((best, v, i) => best < 0 || v > values[best] ? i : best, -1);
    const m = match.object[d], a = top(same), b = top(fit);
    if (m >= 0) return { verdict: "true_positive", object: m, iou: fit[m] };
    if (match.ignored[d]) return { verdict: "ignored", object: b >= 0 && fit[b] >= least ? b : null, iou: 0 };
    if (a >= 0 && same[a] >= least) return { verdict: "duplicate", object: a, iou: same[a] };
    if (b >= 0 && fit[b] >= least) return { verdict: "wrong_class", object: b, iou: fit[b] };
    if (a >= 0 && same[a] >= BACKGROUND_IOU) return { verdict: "poor_localization", object: a, iou: same[a] };
    if (b >= 0 && fit[b] >= BACKGROUND_IOU) return { verdict: "background", object: b, iou: fit[b] };
    return { verdict: "background", object: null, iou: 0 };
  });
}

/** Everything at some settings: {found, match, fates, verdicts}. */
function recompute(e, s) {
  const found = detectionsAt(e, s), match = matchDetections(e, found, s.match_iou);
  const outcome = outcomeAt(e, s, found, match);
  return { found, match, fates: e.objects.map((o) => fateOf(e, o, outcome, s)), verdicts: verdictsAt(e, found, match, s.match_iou) };
}
