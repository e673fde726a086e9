"""Jobs of single parts: ROIAlign, assignment and losses, and what follows a dense head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList as TorchvisionImages
from torchvision.ops import roi_align as torchvision_roi_align

from lucidet.bench.jobs_models import same_detections
from lucidet.bench.measure import Job, Sides
from lucidet.bench.models import detector, pair, targets
from lucidet.layers import roi_align
from lucidet.structures import Boxes, ImageList, Instances

__all__ = ["JOBS", "assignment_and_losses"]

STRIDES = (8, 16, 32, 64, 128)


def _roi_align(quick: bool, backward: bool) -> Sides:
    height, width, count = (64, 80, 30) if quick else (800, 1066, 1000)
    generator = torch.Generator().manual_seed(0)
    shape = (1, 256, height // 4, width // 4)
    contiguous = torch.randn(shape, generator=generator, requires_grad=backward)
    # each side gets the memory format that its own backbone gives
    last = contiguous.detach().contiguous(memory_format=torch.channels_last)
    last.requires_grad_(backward)
    boxes, _ = targets(height, width, count, 1)
    rois = torch.cat([torch.zeros(count, 1), boxes], dim=1)
    settings = ((7, 7), 0.25, 2, True)
    grad = torch.randn((count, 256, 7, 7), generator=generator)

    def run(operator: Callable[..., Tensor], features: Tensor) -> Tensor:
        if not backward:
            return operator(features, rois, *settings)
        features.grad = None
        operator(features, rois, *settings).backward(grad)
        assert features.grad is not None
        return features.grad

    def check() -> str:
        difference = (ours() - theirs()).abs().max().item()
        assert difference < 1e-3, f"results differ by {difference}"
        return f"{'gradients' if backward else 'values'} within {difference:.0e}"

    def ours() -> Tensor:
        return run(roi_align, last)

    def theirs() -> Tensor:
        return run(torchvision_roi_align, contiguous)

    return Sides(ours, theirs, check)


def assignment_and_losses(
    model: Any, size: tuple[int, int], objects: int, num_classes: int
) -> Callable[[], list[float]]:
    """Return what labels the anchors of one image, computes the losses and their gradients.

    Args:
        model: one of lucidet's dense detectors.
        size: height and width of the image.
        objects: number of objects in it.
        num_classes: K.
    """
    anchors_a_cell = model.head.bbox_pred.out_channels // 4
    generator = torch.Generator().manual_seed(0)

    def maps(channels: int) -> list[Tensor]:
        made = [
            torch.randn(1, channels, -(-size[0] // s), -(-size[1] // s), generator=generator)
            for s in STRIDES
        ]
        return [m.mul_(0.1).requires_grad_() for m in made]

    predictions = [maps(anchors_a_cell * num_classes), maps(anchors_a_cell * 4)]
    with torch.no_grad():
        for level in predictions[0]:
            level.sub_(4.0)
    if hasattr(model.head, "ctrness"):
        predictions.append(maps(anchors_a_cell))
    boxes, classes = targets(*size, objects, num_classes)
    objects_of = [Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)]
    images = ImageList(torch.zeros(1, 3, *size), [size])
    features = predictions[0]
    model.train()

    def run() -> list[float]:
        for kind in predictions:
            for level in kind:
                level.grad = None
        losses = model.forward_training(images, features, predictions, objects_of)
        sum(losses.values()).backward()
        return [float(value.detach()) for value in losses.values()]

    run.predictions = predictions  # type: ignore[attr-defined]
    return run


def _losses(architecture: str, quick: bool) -> Sides:
    size, objects = ((128, 160), 10) if quick else ((800, 1333), 100)
    padded = (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    ours_model, theirs_model = pair("retinanet", 128, 160)
    same = assignment_and_losses(ours_model, padded, objects, 91)
    ours = same
    if architecture != "RetinaNet":
        ours = assignment_and_losses(detector(architecture, 91), padded, objects, 91)
    theirs = _torchvision_losses(theirs_model.train(), same.predictions, padded, objects)  # type: ignore[attr-defined]

    def check() -> str:
        mine, expected = sorted(same()), sorted(theirs())
        for a, b in zip(mine, expected, strict=True):
            assert abs(a - b) <= 1e-3 * abs(b), f"RetinaNet's losses {mine}, expected {expected}"
        assert all(value > 0 for value in ours())
        return "RetinaNet's losses within 1e-3"

    return Sides(ours, theirs, check)


def _torchvision_losses(
    model: Any, predictions: list[list[Tensor]], size: tuple[int, int], objects: int
) -> Callable[[], list[float]]:
    boxes, labels = targets(*size, objects, 91)
    images = TorchvisionImages(torch.zeros(1, 3, *size), [size])
    outputs = {
        "cls_logits": _rows(predictions[0], 91).detach().requires_grad_(),
        "bbox_regression": _rows(predictions[1], 4).detach().requires_grad_(),
    }

    def run() -> list[float]:
        for value in outputs.values():
            value.grad = None
        anchors = model.anchor_generator(images, predictions[0])
        losses = model.compute_loss([{"boxes": boxes, "labels": labels}], outputs, _ours(anchors))
        sum(losses.values()).backward()
        return [float(value.detach()) for value in losses.values()]

    return run


def _ours(anchors: list[Tensor]) -> list[Tensor]:
    """Return torchvision's anchors in lucidet's order within a cell, as the predictions are.

    torchvision: ratio by ratio, three sizes each; lucidet: size by size, three ratios each.
    """
    return [a.view(-1, 3, 3, 4).transpose(1, 2).reshape(-1, 4) for a in anchors]


def _rows(maps: list[Tensor], width: int) -> Tensor:
    """Return maps (N, A * width, H, W) as (N, R, width)."""
    rows = [m.unflatten(1, (-1, width)).permute(0, 3, 4, 1, 2).flatten(1, 3) for m in maps]
    return torch.cat(rows, dim=1)


def _postprocessing(quick: bool) -> Sides:
    """From the rows of a dense head to detections, where 100 000 scores pass the threshold."""
    size, candidates = ((128, 160), 2000) if quick else ((800, 1066), 100_000)
    ours_model, theirs_model = pair("retinanet", 128, 160)
    classes = 80
    ours_model.num_classes = classes
    grid = [(-(-size[0] // s), -(-size[1] // s)) for s in STRIDES]
    counts = [9 * h * w for h, w in grid]
    generator = torch.Generator().manual_seed(0)
    logits = torch.full((1, sum(counts), classes), -6.0)
    logits += 0.5 * torch.randn(logits.shape, generator=generator)
    chosen = torch.randperm(logits.numel(), generator=generator)[:candidates]
    logits.view(-1)[chosen] = -2.9 + 4 * torch.rand(candidates, generator=generator)
    deltas = 0.3 * torch.randn((1, sum(counts), 4), generator=generator)
    features = [torch.zeros(1, 1, h, w) for h, w in grid]
    anchors = ours_model.anchor_generator(features)
    theirs_input = {
        "cls_logits": list(logits.split(counts, dim=1)),
        "bbox_regression": list(deltas.split(counts, dim=1)),
    }
    images = ImageList(torch.zeros(1, 3, *size), [size])
    rows = [theirs_input["cls_logits"], theirs_input["bbox_regression"]]
    ours_model._rows = lambda predictions: predictions  # they are rows already, as torchvision's

    @torch.no_grad()
    def ours() -> Any:
        return ours_model.forward_inference(images, features, rows)[0]

    @torch.no_grad()
    def theirs() -> Any:
        boxes = [[level.tensor for level in anchors]]
        return theirs_model.postprocess_detections(theirs_input, boxes, [size])[0]

    def check() -> str:
        found, expected = ours(), theirs()
        return same_detections(found, expected["boxes"], expected["scores"], expected["labels"])

    return Sides(ours, theirs, check)


def _job(name: str, title: str, goal: float, make: Callable[[bool], Sides]) -> Job:
    return Job(name, title, "torchvision", goal, make)


JOBS = [
    _job("roi-align", "ROIAlign forward, 1000 boxes", 8, lambda q: _roi_align(q, False)),
    _job("roi-align-backward", "ROIAlign with backward", 4, lambda q: _roi_align(q, True)),
    *(
        Job(
            f"losses-{name.lower()}",
            f"{name}: assignment, losses, their backward; 800 x 1333, 100 objects",
            "torchvision's RetinaNet",
            3,
            lambda q, name=name: _losses(name, q),  # type: ignore[misc]
        )
        for name in ("RetinaNet", "ATSS", "FCOS")
    ),
    _job(
        "postprocessing",
        "post-processing of 100 000 candidates, 80 classes",
        1.5,
        _postprocessing,
    ),
]
