"""Jobs of Mask R-CNN: inference, a training step, and pasting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image as torchvision_paste

from lucidet.bench.jobs_models import INFERENCE, STEP, all_sampled, same_detections
from lucidet.bench.measure import Job, Sides
from lucidet.bench.models import pair, photo, record, sgd_step, targets
from lucidet.layers import paste_masks_in_image
from lucidet.modeling.optimize import OptimizedModel
from lucidet.structures import BitMasks

__all__ = ["JOBS"]

#: share of pixels that may differ: where a probability is 0.5 to rounding
_DIFFERENT_PIXELS = 1e-4


def _inference(quick: bool) -> Sides:
    height, width = (96, 128) if quick else (800, 1066)
    ours, theirs = pair("mask_rcnn", height, width)
    image = photo(height, width)
    optimized = OptimizedModel(ours)
    inputs = [{"image": image, "height": height, "width": width}]

    @torch.no_grad()
    def run_ours() -> Any:
        return optimized(inputs)[0]["instances"]

    @torch.no_grad()
    def run_theirs() -> Any:
        found = theirs([image / 255])[0]
        return {**found, "masks": found["masks"][:, 0] >= 0.5}

    def check() -> str:
        found, expected = run_ours(), run_theirs()
        labels = expected["labels"] - 1
        said = same_detections(found, expected["boxes"], expected["scores"], labels)
        same = (found.pred_boxes.tensor[:, None] - expected["boxes"]).abs().amax(dim=2) < 0.1
        same &= (found.scores[:, None] - expected["scores"]).abs() < 1e-3
        same &= found.pred_classes[:, None] == labels
        order = same.int().argmax(dim=1)
        differ = (found.pred_masks != expected["masks"][order]).float().mean().item()
        assert differ <= _DIFFERENT_PIXELS, f"{differ:.1e} of the masks' pixels differ"
        return f"{said}; {differ:.0e} of the masks' pixels differ"

    return Sides(run_ours, run_theirs, check)


def ellipses(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return a mask (M, height, width) bool for each box (M, 4): the ellipse that fills it."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    x = (torch.arange(width) + 0.5 - center[:, :1]) / half[:, :1]
    y = (torch.arange(height) + 0.5 - center[:, 1:]) / half[:, 1:]
    return x[:, None] ** 2 + y[..., None] ** 2 < 1


def _training(quick: bool) -> Sides:
    height, width = (96, 128) if quick else (400, 533)
    ours, theirs = pair("mask_rcnn", height, width)
    inputs = [record(height, width, 7, 80, seed) for seed in range(2)]
    labelled = []
    for seed, own in enumerate(inputs):
        boxes, classes = targets(height, width, 7, 80, seed)
        masks = ellipses(boxes, height, width)
        own["instances"].gt_masks = BitMasks(masks)
        labelled.append({"boxes": boxes, "labels": classes + 1, "masks": masks.to(torch.uint8)})
    images = [photo(height, width, seed) / 255 for seed in range(2)]

    def losses_ours() -> dict[str, Tensor]:
        return ours(inputs)

    def losses_theirs() -> dict[str, Tensor]:
        return theirs(images, labelled)

    def check() -> str:
        mine, expected = all_sampled(ours, losses_ours), all_sampled(theirs, losses_theirs)
        for a, b in zip(mine, expected, strict=True):
            assert abs(a - b) <= 1e-3 * abs(b) + 1e-6, f"losses {mine}, expected {expected}"
        return "losses within 1e-3 with sampling that takes everything"

    return Sides(
        sgd_step(ours.train(), losses_ours), sgd_step(theirs.train(), losses_theirs), check
    )


def _pasting(quick: bool) -> Sides:
    height, width, count = (96, 128, 10) if quick else (800, 1066, 100)
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand((count, 28, 28), generator=generator)
    boxes, _ = targets(height, width, count, 1)
    size = (height, width)

    def ours() -> Tensor:
        return paste_masks_in_image(masks, boxes, size)

    def theirs() -> Tensor:
        return torchvision_paste(masks[:, None], boxes, size)[:, 0] >= 0.5

    def check() -> str:
        same_form = paste_masks_in_image(masks, boxes, size, whole_pixels=True)
        differ = (same_form != theirs()).float().mean().item()
        assert differ <= _DIFFERENT_PIXELS, f"{differ:.1e} of the pixels differ"
        return f"{differ:.0e} of the pixels differ from lucidet's form of torchvision's pasting"

    return Sides(ours, theirs, check)


JOBS = [
    Job("mask-rcnn", f"Mask R-CNN {INFERENCE}", "torchvision", 1.5, _inference),
    Job("train-mask-rcnn", f"Mask R-CNN {STEP}", "torchvision", 1.25, _training),
    Job("paste-masks", "pasting 100 masks into 800 x 1066", "torchvision", 2, _pasting),
]
