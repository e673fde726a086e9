"""Detections and fates at other settings, from the candidates of an explanation.

What lucidet itself gives at these settings, as long as they lie within `Explanation.exact`; the
page's script computes the same in the browser.
"""

# E candidates, D detections, M ground-truth boxes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lucidet.explain.fates import Fate, Outcome, fate_of
from lucidet.explain.frames import Frame, overlaps
from lucidet.explain.matching import GroundTruth, Match, match_detections
from lucidet.explain.proposals import nearest_rows
from lucidet.explain.record import Explanation, Settings
from lucidet.layers import batched_nms

__all__ = [
    "Kept",
    "detections_at",
    "fates_at",
    "fates_from",
    "frame_of",
    "outcome_at",
    "own_labels",
    "truth_of",
    "with_detections",
]


@dataclass(frozen=True)
class Kept:
    """Detections at some settings, highest score first.

    Attributes:
        boxes: (D, 4) XYXY, pixels of the file.
        scores: (D,).
        labels: (D,) classes of the dataset.
        candidate: D indices of candidates.
        beyond: candidates after the last that is allowed.
        too_small: candidates that the size filter dropped.
        passed: candidates that NMS looked at.
        survivors: candidates that stayed in NMS, best first.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    candidate: list[int]
    beyond: list[int]
    too_small: list[int]
    passed: list[int]
    survivors: list[int]


def frame_of(explanation: Explanation) -> Frame:
    """Return the sizes of the image, resized and as the file is."""
    image = explanation.image
    width, height = image["resized"]
    return Frame((height, width), (image["height"], image["width"]))


def truth_of(explanation: Explanation) -> GroundTruth:
    """Return the annotations that the explanation tells of."""
    found = explanation.objects
    # sizes don't count in the matching
    return GroundTruth.of(
        [o.box for o in found], [o.label for o in found], None, [o.crowd for o in found]
    )


def detections_at(explanation: Explanation, settings: Settings) -> Kept:
    """Return the final boxes at some settings.

    Raises:
        ValueError: the settings lie outside of `Explanation.exact`.
    """
    _check(explanation, settings)
    found = explanation.candidates
    boxes = torch.tensor(found.box, dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor(found.score, dtype=torch.float32)
    labels = torch.tensor(found.label, dtype=torch.int64)
    passed = (scores > settings.score_thresh) & (
        torch.tensor(found.rank).reshape(-1) < settings.topk
    )
    too_small = torch.zeros_like(passed)
    if settings.min_box_size > 0:
        large = (boxes[:, 2:] - boxes[:, :2] >= settings.min_box_size).all(dim=1)
        passed, too_small = passed & large, passed & ~large
    index = passed.nonzero()[:, 0]
    grown = boxes[index] + torch.tensor([0.0, 0.0, settings.nms_offset, settings.nms_offset])
    survivors = index[batched_nms(grown, scores[index], labels[index], settings.nms_thresh)]
    limit = settings.detections if settings.detections >= 0 else len(survivors)
    final, beyond = survivors[:limit], survivors[limit:]
    file_boxes = frame_of(explanation).to_file(boxes[final])
    of_dataset = _dataset_labels(labels[final], explanation.class_map)
    keep = of_dataset >= 0
    if not settings.keep_empty:
        keep &= (file_boxes[:, 2:] > file_boxes[:, :2]).all(dim=1)
    return Kept(
        file_boxes[keep],
        scores[final][keep],
        of_dataset[keep],
        final[keep].tolist(),
        beyond.tolist(),
        too_small.nonzero()[:, 0].tolist(),
        index.tolist(),
        survivors.tolist(),
    )


def with_detections(
    explanation: Explanation, kept: Kept, boxes: Tensor, scores: Tensor, labels: Tensor
) -> Kept | None:
    """Return `kept` with the detections that a detector gave, where ties and rounding chose others.

    Args:
        explanation: with candidates.
        kept: what follows from them.
        boxes, scores, labels: of D detections, pixels of the file, classes of the dataset.

    Returns:
        None where a detection is no candidate.
    """
    found = explanation.candidates
    all_boxes = torch.tensor(found.box, dtype=torch.float32).reshape(-1, 4)
    all_boxes = frame_of(explanation).to_file(all_boxes)
    of_dataset = _dataset_labels(torch.tensor(found.label).long(), explanation.class_map)
    all_scores = torch.tensor(found.score) + of_dataset  # never near one of another class
    rows = nearest_rows(boxes, scores + labels, all_boxes, all_scores)
    if rows is None:
        return None
    final = rows.tolist()
    others = [c for c in kept.survivors if c not in final]
    return replace(
        kept,
        boxes=boxes,
        scores=scores,
        labels=labels,
        candidate=final,
        beyond=[c for c in kept.beyond if c not in final],
        survivors=[*final, *(c for c in others if c in kept.beyond)],
    )


def _check(explanation: Explanation, settings: Settings) -> None:
    exact = explanation.exact
    if settings.score_thresh < exact["score_thresh"]:
        raise ValueError(
            f"score_thresh {settings.score_thresh} is below {exact['score_thresh']}, from which on "
            "the candidates are complete"
        )
    if settings.topk > exact["topk"]:
        raise ValueError(
            f"topk {settings.topk} is above {exact['topk']}, up to which candidates are known"
        )


def _dataset_labels(labels: Tensor, class_map: Sequence[int]) -> Tensor:
    return torch.tensor(class_map)[labels] if class_map else labels


def outcome_at(
    explanation: Explanation,
    settings: Settings,
    kept: Kept | None = None,
    truth: GroundTruth | None = None,
) -> tuple[Outcome, Match]:
    """Return what became of the candidates, and the matching of the detections.

    Args:
        explanation: of an image.
        settings: of the run, or others.
        kept: the detections at `settings`, where they are known already.
        truth: the annotations, where they are at hand.
    """
    kept = kept or detections_at(explanation, settings)
    truth = truth or truth_of(explanation)
    match = match_detections(
        truth, kept.boxes.numpy(), kept.scores.numpy(), kept.labels.numpy(), settings.match_iou
    )
    found = explanation.candidates
    fits = _fitting(explanation, kept, truth, settings)
    passed = set(kept.passed)
    open_ones = {c for own in fits for c in own}
    staying = set(kept.survivors)
    missed = [own for m, own in enumerate(fits) if match.detection[m] < 0]
    lost = [next((c for c in own if c not in staying and c in passed), None) for own in missed]
    beyond = set(kept.beyond)
    # beyond the evaluation's own limit of a class
    beyond |= {c for d, c in enumerate(kept.candidate) if match.ignored[d] and c in open_ones}
    taken = {
        (found.row[c], found.label[c]) for d, c in enumerate(kept.candidate) if match.object[d] >= 0
    }
    outcome = Outcome(
        final=kept.candidate,
        beyond=sorted(beyond),
        suppressed=_suppressors(explanation, kept, settings, {c for c in lost if c is not None}),
        too_small=kept.too_small,
        detection=match.detection.tolist(),
        taken=taken,
        fits=fits,
    )
    return outcome, match


def _fitting(
    explanation: Explanation, kept: Kept, truth: GroundTruth, settings: Settings
) -> list[list[int]]:
    """Return for each ground-truth box the candidates above the threshold that fit it."""
    found = explanation.candidates
    index = torch.tensor(sorted({*kept.passed, *kept.too_small}), dtype=torch.int64)
    if not len(index) or not len(truth):
        return [[] for _ in range(len(truth))]
    boxes = torch.tensor(found.box, dtype=torch.float32)[index]
    boxes = frame_of(explanation).to_file(boxes)
    labels = _dataset_labels(torch.tensor(found.label)[index], explanation.class_map)
    fit = overlaps(torch.from_numpy(truth.boxes).float(), boxes) >= settings.match_iou  # (M, E)
    fit &= torch.from_numpy(truth.labels)[:, None] == labels
    return [index[own.nonzero()[:, 0]].tolist() for own in fit]


def _suppressors(
    explanation: Explanation, kept: Kept, settings: Settings, asked: set[int]
) -> dict[int, int]:
    """Return for the suppressed candidates `asked` the best box that suppressed them."""
    found = explanation.candidates
    survivors = np.array(kept.survivors, np.int64)
    boxes = torch.tensor(found.box, dtype=torch.float32).reshape(-1, 4)
    boxes = boxes + torch.tensor([0.0, 0.0, settings.nms_offset, settings.nms_offset])
    labels = np.array(found.label, np.int64)
    result = {}
    for candidate in sorted(asked):
        others = survivors[labels[survivors] == labels[candidate]]
        if len(others):
            iou = overlaps(boxes[candidate][None], boxes[torch.from_numpy(others)])[0]
            above = (iou > settings.nms_thresh).nonzero()[:, 0]
            result[candidate] = int(others[int(above[0]) if len(above) else int(iou.argmax())])
    return result


def fates_at(explanation: Explanation, settings: Settings) -> list[Fate]:
    """Return the fate of each ground-truth box at some settings."""
    outcome, _ = outcome_at(explanation, settings)
    return fates_from(explanation, settings, outcome)


def fates_from(explanation: Explanation, settings: Settings, outcome: Outcome) -> list[Fate]:
    """Return the fate of each ground-truth box, where the outcome is known."""
    return [
        fate_of(
            found,
            outcome,
            settings,
            own_labels(found.label, explanation.class_map),
            two_stage=explanation.two_stage,
            num_classes=explanation.num_classes,
        )
        for found in explanation.objects
    ]


def own_labels(label: int, class_map: Sequence[int]) -> list[int]:
    """Return the model's classes that stand for a class of the dataset.

    >>> own_labels(2, []), own_labels(0, [0, -1, 0])
    ([2], [0, 2])
    """
    return [k for k, own in enumerate(class_map) if own == label] if class_map else [label]
