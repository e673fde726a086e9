"""Faults that a trace shows: each check says what it means and what to try.

:mod:`lucidet.inspection.check_rules` holds what each looks at.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lucidet.inspection.check_rules import RULES, not_finite
from lucidet.inspection.trace import Trace

__all__ = ["CHECKS", "Finding", "run_checks"]

#: name -> (what it means, what to try)
CHECKS: dict[str, tuple[str, str]] = {
    "object-without-positive": (
        "No anchor is matched to this ground-truth box: it adds nothing to the losses, and its "
        "anchors are taught as background.",
        "Look at its best IoU per level. Add anchor sizes or ratios near its shape, lower the "
        "positive threshold, or train on larger images.",
    ),
    "object-without-anchor": (
        "No anchor overlaps this ground-truth box: it is outside of every grid, or tiny.",
        "Check the box itself and the image's size; then MODEL.ANCHOR_GENERATOR.SIZES and strides.",
    ),
    "label-out-of-range": (
        "A class is none of 0..K-1: a wrong NUM_CLASSES, category ids that were not made "
        "contiguous, or background counted as a class.",
        "Set NUM_CLASSES of the head to the dataset's classes; register the dataset so that ids "
        "are mapped to 0..K-1.",
    ),
    "box-outside-image": (
        "A box reaches outside the image: image and boxes went through different transforms, or "
        "the annotation is in another frame (XYWH read as XYXY).",
        "Check bbox_mode in the record, and that each augmentation returns a Transform that moves "
        "boxes too.",
    ),
    "degenerate-box": (
        "A box has no width or height: it overlaps nothing, and a logarithm of its size is "
        "infinite.",
        "Correct or drop the annotation; the log of the dataset names them all.",
    ),
    "image-statistics": (
        "The normalized image is far from what the backbone was trained on: blue and red "
        "exchanged, or 0..1 mixed with 0..255.",
        "Set INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD to what the weights were "
        "trained with: detectron2's are BGR, 0..255; torchvision's RGB.",
    ),
    "mask-without-area": (
        "A mask covers nothing: its polygons have no area, or none of it lies inside the proposal "
        "that is matched to its box.",
        "Correct or drop the annotation; check that masks follow every augmentation that boxes "
        "follow, and that box and mask belong to one object.",
    ),
    "keypoint-outside-box": (
        "A labelled keypoint lies outside of its object's box: heat maps end at the box, so it "
        "trains nothing.",
        "Correct the box or the keypoint; check that keypoints follow every augmentation, and the "
        "order of x and y.",
    ),
    "not-finite": (
        "The first stage with NaN or infinity: all stages before it are sound.",
        "Look at its inputs and at the weights just before it; then a lower rate, a longer "
        "warm-up, gradient clipping, or float32 instead of float16.",
    ),
    "zero-normalizer": (
        "A loss term is divided by zero and becomes NaN or infinite.",
        "A normalizer counts anchors or proposals: check the sampling sizes, and clamp it to 1.",
    ),
    "parameter-without-gradient": (
        "Parameters that should learn get no gradient, or exactly zero.",
        "No gradient: the loss does not depend on them. Zero: dead ReLUs, or nothing in this image "
        "is on their level; try another image before you worry.",
    ),
    "topk-saturated": (
        "A limit on the number of boxes was reached: good boxes may have been cut off.",
        "With trained weights raise the limit (TOPK or DETECTIONS_PER_IMAGE) or the score "
        "threshold. With random weights this is normal.",
    ),
    "one-class": (
        "All detections have one class.",
        "Check the class order and NUM_CLASSES; if the weights are trained, the data's balance and "
        "the classification loss.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        check: key of CHECKS.
        stage: name of the event that shows it.
        event: its place in the trace.
        message: what was found, with names and numbers.
    """

    check: str
    stage: str
    event: int
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Return all that a reader needs, the check's meaning and remedy too."""
        meaning, remedy = CHECKS[self.check]
        return {**asdict(self), "meaning": meaning, "remedy": remedy}


def run_checks(trace: Trace) -> list[Finding]:
    """Return what all checks find, in the order of the stages."""
    findings = []
    for place, event in enumerate(trace.events):
        for check in RULES.get(event.name, []):
            findings += [
                Finding(name, event.name, place, message) for name, message in check(trace, event)
            ]
    findings += [Finding("not-finite", *found) for found in not_finite(trace)]
    return sorted(findings, key=lambda f: f.event)
