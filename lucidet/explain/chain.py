"""The stages that a ground-truth box went through, one sentence each, up to where it was lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lucidet.explain.anchors import Coverage
from lucidet.explain.fates import Fate
from lucidet.explain.frames import overlaps
from lucidet.explain.recompute import own_labels
from lucidet.explain.record import Explanation, ObjectRecord, Stage
from lucidet.explain.view import View

__all__ = ["chain_of"]


def chain_of(
    found: ObjectRecord, fate: Fate, view: View, explanation: Explanation, cover: Coverage | None
) -> list[Stage]:
    """Return the stages of a ground-truth box, the last one `lost` unless it was detected."""
    teller = _Teller(found, fate, view, explanation, cover)
    if found.crowd:
        return []
    stages = teller.two_stage() if view.two_stage else teller.dense()
    for i, stage in enumerate(stages):
        if stage.lost:
            return stages[: i + 1]
    return stages


def _rounded(box: Tensor) -> list[float]:
    return [round(float(v), 2) for v in box]


class _Teller:
    """Tells the stages of one ground-truth box."""

    def __init__(
        self,
        found: ObjectRecord,
        fate: Fate,
        view: View,
        explanation: Explanation,
        cover: Coverage | None,
    ) -> None:
        self.found, self.fate, self.view, self.cover = found, fate, view, cover
        self.record = explanation
        self.iou = view.settings.match_iou
        self.truth = view.frame.to_resized(torch.tensor([found.box]))[0]
        self.row = self._row()
        self.anchor = None if self.row is None else view.anchor_of(self.row)
        before = found.facts.get("before")
        if self.anchor is None and self.row is None and before:
            self.anchor = before["anchor"]

    def _row(self) -> int | None:
        """Return the proposal or location that the stages follow."""
        if self.fate.candidate is not None:
            return self.record.candidates.row[self.fate.candidate]
        if self.fate.row is not None:
            return int(self.fate.row[5])
        proposal = self.found.facts.get("proposal")
        return None if proposal is None else int(proposal["row"])

    def two_stage(self) -> list[Stage]:
        stages = [] if self.cover is None else [self.anchors()]
        if self.view.rpn is not None:
            stages += [self.decoded()]
        stages += [self.proposals()]
        if self.row is None:
            return stages
        return [*stages, self.roi(), self.classes(), self.box(), self.nms(), self.detection()]

    def dense(self) -> list[Stage]:
        stages = [self.anchors()]
        if self.row is None:
            stages.append(self.regressed())
            return stages
        return [*stages, self.box(), self.classes(), self.topk(), self.nms(), self.detection()]

    # ---- the stages ----------------------------------------------------------------------------

    def anchors(self) -> Stage:
        assert self.cover is not None
        assert self.view.grid is not None
        word = "anchor" if self.record.settings.assign_iou is not None else "location"
        positives = self.cover.positives
        place = self.view.grid.place(self.cover.best)
        boxes = [self._boxed(place["box"], "anchor", "best IoU")]
        text = f"{_count(positives, 'positive ' + word)}"
        if self.record.settings.assign_iou is not None:
            text += (
                f"; best IoU {self.cover.best_iou:.2f} at "
                f"{self.record.level_name(place['level'])}, column {place['column']}, "
                f"row {place['row']}"
            )
        lost = self.fate.kind == "no_anchor"
        if lost and self.record.settings.assign_iou is not None:
            text += f", below {self.record.settings.assign_iou:g}: background"
        if self.anchor is not None:
            own = self.view.grid.place(self.anchor)
            boxes.append(self._boxed(own["box"], "anchor", "the one followed"))
            text += (
                f"; followed: {self.record.level_name(own['level'])}, column {own['column']}, "
                f"row {own['row']}, shape {own['shape']}"
            )
        numbers = {"positives": positives, "best_iou": round(self.cover.best_iou, 4)}
        title = "Anchors" if word == "anchor" else "Locations"
        return Stage("anchors", title, text + ".", lost, boxes, numbers)

    def decoded(self) -> Stage:
        """The RPN's boxes of all anchors, up to its NMS and top-k."""
        rpn = self.view.rpn
        assert rpn is not None
        fit = overlaps(rpn.clipped, self.truth[None])[:, 0]
        count, best = int((fit >= self.iou).sum()), float(fit.max()) if len(fit) else 0.0
        text = f"{_count(count, 'decoded anchor')} with IoU >= {self.iou:g}, the best {best:.2f}"
        before = self.found.facts.get("before")
        boxes: list[dict[str, Any]] = []
        lost = False
        if self.row is None and before is not None:
            lost = before["fate"] == self.fate.kind
            boxes.append(self._boxed(before["box"], "proposal", f"{before['score']:.2f}"))
            text += ". " + self._why_before(before)
            if before["by"]:
                by = before["by"]
                boxes.append(self._boxed(by["box"], "suppressor", f"{by['score']:.2f}"))
        elif self.row is None and self.fate.kind == "badly_regressed":
            lost = True
            text += ": the anchors were moved elsewhere"
        elif self.anchor is not None:
            box = rpn.clipped[self.anchor]
            score = float(rpn.logits[self.anchor].sigmoid())
            text += f"; followed: objectness {score:.2f}, IoU {float(fit[self.anchor]):.2f}"
            boxes.append(self._boxed(_rounded(box), "proposal", f"objectness {score:.2f}"))
        numbers = {"with_iou": count, "best_iou": round(best, 4)}
        return Stage("proposals", "RPN", text + ".", lost, boxes, numbers)

    def _why_before(self, before: dict[str, Any]) -> str:
        level = self.record.level_name(before["level"])
        own = f"the best of them (objectness {before['score']:.2f}, IoU {before['iou']:.2f})"
        rpn = self.view.rpn
        assert rpn is not None
        if before["stage"] == "topk":
            return (
                f"None is a proposal: {own} has rank {before['rank'] + 1} on {level}, where "
                f"{rpn.rpn.pre_nms_topk[False]} are kept"
            )
        if before["stage"] == "beyond":
            return (
                f"None is a proposal: {own} stayed in NMS, but {rpn.rpn.post_nms_topk[False]} "
                "better ones of the image fill the top-k"
            )
        if before["stage"] == "nms":
            by = before["by"]
            return (
                f"None is a proposal: {own} was suppressed by a box of objectness "
                f"{by['score']:.2f} that overlaps it by {by['iou']:.2f} (NMS IoU "
                f"{rpn.rpn.nms_thresh:g})"
            )
        if before["stage"] == "clipping":
            return f"Clipped to the image, {own} overlaps too little"
        if before["stage"] == "score":
            return f"{own} is below the score threshold of {rpn.rpn.score_thresh:g}"
        return f"{own} is smaller than {rpn.rpn.min_box_size:g} pixels"

    def proposals(self) -> Stage:
        assert self.view.proposals is not None
        fit = self.view.proposal_overlaps(self.truth)
        total, count = len(fit), int((fit >= self.iou).sum())
        text = f"{count} of {_count(total, 'proposal')} with IoU >= {self.iou:g}"
        if total:
            best = int(fit.argmax())
            text += f", the best {float(fit[best]):.2f} at rank {best + 1}"
        lost = self.row is None or self.fate.kind == "lost_topk"
        boxes = []
        if self.row is not None:
            box, own = self.view.proposals[self.row], float(fit[self.row])
            boxes.append(self._boxed(_rounded(box), "proposal", f"rank {self.row + 1}"))
            text += f"; followed: rank {self.row + 1}, IoU {own:.2f}"
        if lost and self.row is not None:
            text += f", beyond the top {self.view.settings.topk}"
        numbers = {"with_iou": count, "proposals": total}
        return Stage("rpn_nms", "Proposals", text + ".", lost, boxes, numbers)

    def roi(self) -> Stage:
        assert self.row is not None
        levels = [
            self.view.roi_names[int(own[self.row])]
            for own in self.view.roi_levels
            if self.row < len(own)
        ]
        size = " x ".join(str(n) for n in getattr(self.view.pooler, "output_size", ()))
        text = f"Pooled from {', then '.join(levels)}" + (f", {size} bins" if size else "")
        boxes = [
            self._boxed(_rounded(own[self.row]), "proposal", f"stage {i + 1}")
            for i, own in enumerate(self.view.roi_boxes)
            if self.row < len(own)
        ]
        return Stage("roi", "ROI", text + ".", False, boxes, {"levels": levels})

    def classes(self) -> Stage:
        assert self.row is not None
        pool, own = self.view.pool, self._own_label()
        score = 0.0 if own is None else float(pool.said[self.row, own])
        top, top_score = int(pool.top_label[self.row]), float(pool.top_score[self.row])
        text = f"{self.found.name} {score:.2f}"
        if top != own:
            other = self.record.own_class_name(top)
            text += f", but {other} {top_score:.2f}" if top < self.record.num_classes else ""
            if top >= self.record.num_classes:
                shown = f" {top_score:.2f}" if self.view.two_stage else ""
                text += f", {other}{shown}"
        threshold = self._threshold()
        text += f"; threshold {threshold:g}"
        lost = self.fate.kind in ("background", "other_class", "below_threshold")
        numbers = {"score": round(score, 4), "top": self.record.own_class_name(top)}
        numbers |= {"top_score": round(top_score, 4), "threshold": threshold}
        return Stage("classes", "Class scores", text + ".", lost, [], numbers)

    def _threshold(self) -> float:
        own = self.view.settings
        return own.score_thresh if own.class_thresh is None else own.class_thresh

    def _fit(self, box: Tensor) -> float:
        """Return the IoU of a box of the resized image, once it is clipped."""
        frame = self.view.frame
        return float(overlaps(frame.to_file(box[None]), torch.tensor([self.found.box])))

    def box(self) -> Stage:
        assert self.row is not None
        box = self.view.pool.of_class(self._own_label() or 0)[self.row]
        fit = self._fit(box)
        if self.view.two_stage:
            assert self.view.proposals is not None
            before = float(self.view.proposal_overlaps(self.truth)[self.row])
            text = f"IoU {before:.2f} of the proposal -> {fit:.2f} of the box"
        else:
            text = f"The box has IoU {fit:.2f}"
        lost = self.fate.kind == "badly_regressed"
        if lost and self.found.by is not None:
            other = self.record.detections[self.found.by["detection"]]
            text += f"; what fits, detection {other.index}, is matched with box {other.object}"
        elif lost:
            text += f"; the best box of all: {self.found.facts['best_iou']:.2f}"
        boxes = [self._boxed(_rounded(box), "candidate", f"IoU {fit:.2f}")]
        return Stage("box", "Box", text + ".", lost, boxes, {"iou": round(fit, 4)})

    def regressed(self) -> Stage:
        """Dense detectors, where no location's box fits."""
        lost = self.fate.kind == "badly_regressed"
        text = f"No box with IoU >= {self.iou:g}; the best has {self.found.facts['best_iou']:.2f}"
        if lost and self.found.by is not None:
            other = self.record.detections[self.found.by["detection"]]
            text = f"What fits it, detection {other.index}, is matched with box {other.object}"
        return Stage("box", "Box", text + ".", lost, [], {"iou": self.found.facts["best_iou"]})

    def topk(self) -> Stage:
        rank, limit = self._rank(), self.view.settings.topk
        text = f"Rank {rank + 1} of its level, where {limit} are kept"
        lost = self.fate.kind == "lost_topk"
        return Stage("topk", "Top-k of the level", text + ".", lost, [], {"rank": rank + 1})

    def _rank(self) -> int:
        if self.fate.candidate is not None:
            return self.record.candidates.rank[self.fate.candidate]
        return int(self.fate.row[0]) if self.fate.row is not None else 0

    def nms(self) -> Stage:
        kind, candidates = self.fate.kind, self.record.candidates
        threshold = self.view.settings.nms_thresh
        if kind == "lost_filter":
            return Stage(
                "final_nms",
                "Size filter",
                f"Smaller than {self.view.settings.min_box_size:g} pixels.",
                True,
            )
        if kind != "suppressed" or self.fate.by is None:
            return Stage("final_nms", "Final NMS", "Stays.", False)
        winner, own = self.fate.by["candidate"], self.fate.candidate
        assert own is not None
        pair = torch.tensor([candidates.box[own], candidates.box[winner]])
        iou = float(overlaps(pair[:1], pair[1:]))
        detection = self.fate.by.get("detection")
        named = f"detection {detection}" if detection is not None else "a candidate"
        matched = f"; its own IoU with this box is {self._fit(pair[1]):.2f}"
        if detection is not None and self.record.detections[detection].verdict == "true_positive":
            matched += f", and it is matched with box {self.record.detections[detection].object}"
        text = (
            f"Suppressed by {named} ({candidates.score[winner]:.2f} against "
            f"{candidates.score[own]:.2f}), IoU {iou:.2f} > {threshold:g}{matched}"
        )
        boxes = [self._boxed(_rounded(pair[1]), "suppressor", f"{candidates.score[winner]:.2f}")]
        return Stage("final_nms", "Final NMS", text + ".", True, boxes, {"iou": round(iou, 4)})

    def detection(self) -> Stage:
        if self.found.detection is not None:
            own = self.record.detections[self.found.detection]
            text = f"Detection {own.index}: {own.name} {own.score:.2f}, IoU {own.iou:.2f}."
            return Stage("detections", "Detected", text, False)
        limit = self.view.settings.detections
        text = f"Better detections fill the limit of {limit}."
        return Stage("detections", "Limit of detections", text, self.fate.kind == "beyond_limit")

    # ---- what they share -----------------------------------------------------------------------

    def _own_label(self) -> int | None:
        own = own_labels(self.found.label, self.record.class_map)
        return own[0] if own and own[0] < self.record.num_classes else None

    def _boxed(self, box: list[float], role: str, label: str) -> dict[str, Any]:
        return {"box": box, "role": role, "label": label}


def _count(number: int, noun: str) -> str:
    """Return the number with its noun.

    >>> _count(1, "anchor"), _count(0, "anchor")
    ('1 anchor', 'no anchors')
    """
    return f"{number or 'no'} {noun}" + ("" if number == 1 else "s")
