"""The candidates for detection of one image, before any threshold, from its trace.

They come from the values that the probes showed and the detector's own functions: nothing is
predicted a second time.
"""

# P proposals, R anchors in all, R_l of level l, K classes, E candidates

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lucidet.explain.frames import Frame, overlaps, short
from lucidet.explain.record import Candidates, Settings
from lucidet.inspection.event import Event, whole
from lucidet.inspection.trace import Trace
from lucidet.layers.fast.top_scores import top_scores
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.structures import clip_padded
from lucidet.utils.overrides import is_overridden

__all__ = ["Pool", "Row", "dense_pool", "event_of", "two_stage_pool"]

#: candidates are kept from this score on, so that the score threshold can be lowered to it
FLOOR = 0.01
#: at most this many, unless the run itself had more
MOST_CANDIDATES = 5000
#: a dense head has no background class: below the initial foreground probability nothing is there
NO_CLASS = 0.01
#: rows that are remembered for a ground-truth box
_ROWS = 30


@dataclass(frozen=True)
class Row:
    """What one proposal or location said about a ground-truth box.

    Attributes:
        row: index of the proposal, or of the anchor among all levels.
        rank: see :class:`lucidet.explain.record.Candidates`.
        score: of the box's class; `said` the same, but above 0 also where a class score was too
            low (ATSS).
        top_label, top_score: the class with the highest score, K for background.
        iou: of the box that it predicted with the ground-truth box.
    """

    row: int
    rank: int
    score: float
    top_label: int
    top_score: float
    iou: float
    said: float

    def as_list(self) -> list[Any]:
        """Return what `facts` holds of it: see `lucidet.explain.fates`."""
        return [
            self.rank,
            self.score,
            self.top_label,
            self.top_score,
            self.iou,
            self.row,
            self.said,
        ]


@dataclass(frozen=True)
class Pool:
    """All boxes and scores of an image, and the candidates among them.

    Attributes:
        boxes: (R, k, 4) predicted by each row, k = K or 1; pixels of the resized image.
        scores: (R, K) of each row, background left out.
        top_label, top_score: (R,) of each row; K: background.
        rank: (R,) of the rows, where it does not depend on the class (two-stage); else None.
        columns: of the candidates, E each, highest score first: box, score, label, row, rank.
        floor: the candidates with a higher score are complete.
        said: (R, K) as `scores`, but above 0 also where a class score was too low (ATSS).
        level_starts: dense: index of each level's first row, and R.
    """

    boxes: Tensor
    scores: Tensor
    top_label: Tensor
    top_score: Tensor
    rank: Tensor | None
    columns: dict[str, Tensor]
    floor: float
    said: Tensor
    level_starts: Sequence[int] = ()

    def of_class(self, label: int) -> Tensor:
        """Return the boxes (R, 4) that the rows predicted for a class."""
        return self.boxes[:, min(label, self.boxes.shape[1] - 1)]

    def rows_on(self, truth: Tensor, label: int | None, frame: Frame, iou: float) -> list[Row]:
        """Return the rows whose box fits a ground-truth box, highest score of its class first.

        A row's box is the one for `label`, or for the class that scores highest.

        Args:
            truth: (4,) pixels of the file.
            label: its class, as the model counts; None: the model does not know it.
            frame: sizes of the image.
            iou: the least.
        """
        if not len(self.scores):
            return []
        fit = overlaps(frame.to_file(self.of_class(label or 0)), truth[None])[:, 0]
        if self.boxes.shape[1] > 1:
            top = self.top_label.clamp(max=self.boxes.shape[1] - 1)
            own = self.boxes.gather(1, top[:, None, None].expand(-1, 1, 4))[:, 0]
            fit = torch.maximum(fit, overlaps(frame.to_file(own), truth[None])[:, 0])
        rows = (fit >= iou).nonzero()[:, 0]
        scores = self.top_score[rows] if label is None else self.said[rows, label]
        best = scores.argsort(descending=True, stable=True)[:_ROWS]
        chosen = rows[best]
        if self.rank is not None and len(rows) > _ROWS:
            chosen = torch.cat([chosen, rows[:1]])  # the lowest rank decides at a lower top-k
        return [self._row(int(row), label, float(fit[row])) for row in chosen]

    def _row(self, row: int, label: int | None, fit: float) -> Row:
        score = self.scores.new_zeros(()) if label is None else self.scores[row, label]
        said = score if label is None else self.said[row, label]
        if self.rank is not None:
            rank = int(self.rank[row])
        else:  # among all scores of its level
            level = next(i for i, s in enumerate(self.level_starts[1:]) if row < s)
            own = self.scores[self.level_starts[level] : self.level_starts[level + 1]]
            rank = int((own > score).sum())
        return Row(
            row,
            rank,
            round(float(score), 6),
            int(self.top_label[row]),
            round(float(self.top_score[row]), 6),
            round(fit, 4),
            round(float(said), 6),
        )

    def as_record(self, levels: Tensor | None) -> Candidates:
        """Return the candidates as plain columns; `levels` (R,) of the rows' anchors."""
        rows = self.columns["row"]
        level = torch.zeros_like(rows) if levels is None else levels[rows]
        return Candidates(
            box=short(self.columns["box"]),
            score=short(self.columns["score"]),
            label=self.columns["label"].tolist(),
            row=rows.tolist(),
            rank=self.columns["rank"].tolist(),
            level=level.tolist(),
            top_label=self.top_label[rows].tolist(),
            top_score=short(self.top_score[rows]),
        )


def event_of(trace: Trace, name: str, image: int = 0) -> Event:
    """Return the event of one image.

    Raises:
        ValueError: the detector did not show it.
    """
    found = [e for e in trace.all(name) if e.image in (None, image)]
    if not found:
        raise ValueError(
            f"this detector did not show {name!r}, from which `lucidet explain` works: a subclass "
            "that replaces its post-processing must call the probes of the method that it replaces"
        )
    return found[-1]


def two_stage_pool(trace: Trace, settings: Settings, image: int = 0) -> Pool:
    """Return what the last ROI head said of each proposal."""
    event = event_of(trace, "detections.nms", image)
    if event.get("all_scores") is None:
        raise ValueError(
            "the ROI heads of this detector do not finish with fast_rcnn_inference, so that their "
            "scores before the threshold are not known"
        )
    scores, flat = whole(event["all_scores"]).float(), whole(event["all_boxes"]).float()
    size = trace["input.batch"]["image_sizes"][image]
    boxes = flat.unflatten(1, (-1, 4))  # (P, k, 4)
    good = flat.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    boxes = boxes.where(good[:, None, None], 0.0)
    boxes = clip_padded(boxes.flatten(0, 1)[None], [tuple(size)])[0].view(boxes.shape)
    top_score, top_label = (
        scores.max(dim=1) if len(scores) else (scores.new_zeros(0), torch.zeros(0).long())
    )
    foreground = scores[:, :-1].masked_fill(~good[:, None], -1.0)
    floor = min(FLOOR, settings.score_thresh)
    rows, labels = (foreground > floor).nonzero().unbind(1)
    rank = torch.arange(len(scores))
    picked = boxes[rows, labels.clamp(max=boxes.shape[1] - 1)]
    columns, floor = _best_first(
        {"box": picked, "score": foreground[rows, labels], "label": labels, "row": rows}
        | {"rank": rank[rows]},
        floor,
        settings,
    )
    return Pool(boxes, foreground, top_label, top_score, rank, columns, floor, foreground)


def dense_pool(model: DenseDetector, trace: Trace, settings: Settings, image: int = 0) -> Pool:
    """Return what a dense head said at each anchor or location."""
    event, grid = event_of(trace, "dense.head", image), trace["anchors.grid"]
    logits = [whole(level)[image : image + 1].float() for level in event["logits"]]
    deltas = [whole(level)[image].float() for level in event["deltas"]]
    centerness = [
        whole(level)[image : image + 1].float() for level in event.get("centerness") or []
    ]
    plain = not is_overridden(model, DenseDetector, "scores")
    extra: tuple[Any, ...] = (centerness,) if centerness else ()
    scored = [level.sigmoid() for level in logits] if plain else model.scores(logits, *extra)
    anchors = torch.cat([whole(level).float() for level in grid["anchors"]])
    boxes = model.box2box_transform.apply_deltas(torch.cat(deltas), anchors)  # (R, 4)
    if model.clip_before_nms:
        last = 1 if model.legacy_plus_one else 0
        height, width = trace["input.batch"]["image_sizes"][image]
        boxes = clip_padded(boxes[None], [(height - last, width - last)])[0]
    floor = min(FLOOR, settings.score_thresh)
    starts, parts = [0], []
    for level_logits, level_scores in zip(logits, scored, strict=True):
        source = level_logits if plain else level_scores
        row, label, score, valid = (
            own[0] for own in top_scores(source, floor, settings.topk, plain)
        )
        part = {"score": score, "label": label, "row": row + starts[-1]}
        part["rank"] = torch.arange(len(row))
        parts.append({name: values[valid] for name, values in part.items()})
        starts.append(starts[-1] + source.shape[1])
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    columns, floor = _best_first({"box": boxes[joined["row"]], **joined}, floor, settings)
    scores = torch.cat([level[0] for level in scored])  # (R, K)
    said = scores
    if not plain:  # where the class score was too low (ATSS), what the head would have said
        said = scores.where(scores > 0, torch.cat([level[0] for level in logits]).sigmoid())
    top_score, top_label = said.max(dim=1)
    top_label = top_label.where(top_score >= NO_CLASS, said.shape[1])
    return Pool(boxes[:, None], scores, top_label, top_score, None, columns, floor, said, starts)


def _best_first(
    columns: dict[str, Tensor], floor: float, settings: Settings
) -> tuple[dict[str, Tensor], float]:
    """Return the columns sorted by score, at most the number allowed, and the floor then."""
    order = columns["score"].argsort(descending=True, stable=True)
    needed = int((columns["score"] > settings.score_thresh).sum())
    most = max(MOST_CANDIDATES, needed)
    if len(order) > most:
        floor = max(floor, float(columns["score"][order[most]]))
    return {name: values[order[:most]] for name, values in columns.items()}, floor
