"""Jobs of whole detectors: inference, a training step and its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.bench.measure import Job, Sides
from lucidet.bench.models import detector, pair, photo, record, sgd_step, targets
from lucidet.modeling.optimize import OptimizedModel

__all__ = ["INFERENCE", "JOBS", "STEP", "all_sampled", "same_detections"]

TAKE_ALL = 10**6  # no random choice takes part where sampling takes everything


def _size(quick: bool) -> tuple[int, int]:
    return (96, 128) if quick else (800, 1066)


def _inference(kind: str, quick: bool) -> Sides:
    height, width = _size(quick)
    ours, theirs = pair(kind, height, width)
    image = photo(height, width)
    optimized = OptimizedModel(ours)
    inputs = [{"image": image, "height": height, "width": width}]

    @torch.no_grad()
    def run_ours() -> Any:
        return optimized(inputs)[0]["instances"]

    @torch.no_grad()
    def run_theirs() -> Any:
        return theirs([image / 255])[0]

    def check() -> str:
        found, expected = run_ours(), run_theirs()
        labels = expected["labels"] - (1 if kind == "faster_rcnn" else 0)
        return same_detections(found, expected["boxes"], expected["scores"], labels)

    return Sides(run_ours, run_theirs, check, _matrix_products(theirs, [image / 255]))


@torch.no_grad()
def _matrix_products(model: nn.Module, inputs: Any) -> Callable[[], None]:
    """Return what computes the matrix products that the model's layers amount to, no more."""
    shapes: list[tuple[int, int, int]] = []

    def note(module: Any, args: tuple[Tensor], output: Tensor) -> None:
        weight = module.weight.flatten(1)
        shapes.append((output.numel() // len(weight), weight.shape[1], weight.shape[0]))

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    model(inputs)
    for handle in handles:
        handle.remove()
    # one buffer for all left sides, large enough for the largest: rows x columns
    left = torch.ones(max(rows * inner for rows, inner, _ in shapes))
    right = torch.ones(max(inner * columns for _, inner, columns in shapes))
    out = torch.empty(max(rows * columns for rows, _, columns in shapes))

    def run() -> None:
        for m, k, n in shapes:
            a, b = left[: m * k].view(m, k), right[: k * n].view(k, n)
            torch.mm(a, b, out=out[: m * n].view(m, n))

    return run


def same_detections(found: Any, boxes: Tensor, scores: Tensor, classes: Tensor) -> str:
    """Return what was compared: Instances against the other side's tensors, in any order."""
    assert len(found) == len(classes) > 0, f"{len(found)} detections, expected {len(classes)}"
    same = (found.pred_boxes.tensor[:, None] - boxes).abs().amax(dim=2) < 0.1
    same &= (found.scores[:, None] - scores).abs() < 1e-3
    same &= found.pred_classes[:, None] == classes
    assert bool(same.any(dim=1).all() and same.any(dim=0).all()), "detections differ"
    return f"{len(found)} detections: boxes within 0.1 pixel, scores within 1e-3"


def _atss_against_retinanet(quick: bool) -> Sides:
    size = _size(quick)
    inputs = [{"image": photo(*size)}]
    optimized_models = [OptimizedModel(detector(name, size=size)) for name in ("ATSS", "RetinaNet")]

    @torch.no_grad()
    def run(optimized: OptimizedModel) -> Any:
        return optimized(inputs)[0]["instances"]

    def check() -> str:
        counts = [len(run(optimized)) for optimized in optimized_models]
        assert all(counts), f"no detections: {counts}"
        return f"both find objects ({counts[0]} and {counts[1]})"

    return Sides(lambda: run(optimized_models[0]), lambda: run(optimized_models[1]), check)


def training_pair(kind: str, quick: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return lucidet's and torchvision's step: forward, backward and SGD, 2 images."""
    height, width = (96, 128) if quick else (400, 533)
    ours, theirs = pair(kind, height, width)
    # labels 1.. of torchvision's Faster R-CNN are classes 0..; of its RetinaNet labels are classes
    shift = 1 if kind == "faster_rcnn" else 0
    boxes = [targets(height, width, 7, 80, seed) for seed in range(2)]
    images = [photo(height, width, seed) for seed in range(2)]
    inputs = [record(height, width, 7, 80, seed) for seed in range(2)]
    labelled = [{"boxes": b, "labels": c + shift} for b, c in boxes]
    step_ours = sgd_step(ours.train(), lambda: ours(inputs))
    step_theirs = sgd_step(theirs.train(), lambda: theirs([i / 255 for i in images], labelled))
    step_ours.losses = lambda: all_sampled(ours, lambda: ours(inputs))  # type: ignore[attr-defined]
    step_theirs.losses = lambda: all_sampled(  # type: ignore[attr-defined]
        theirs, lambda: theirs([i / 255 for i in images], labelled)
    )
    return step_ours, step_theirs


@torch.no_grad()
def all_sampled(model: Any, losses: Callable[[], dict[str, Tensor]]) -> list[float]:
    """Return the losses, sorted, with sampling that takes everything."""
    samplers = [
        (part, "batch_size_per_image", part.batch_size_per_image)
        for part in [*model.modules(), *_torchvision_samplers(model)]
        if hasattr(part, "batch_size_per_image")
    ]
    for part, name, _ in samplers:
        setattr(part, name, TAKE_ALL)
    try:
        return sorted(float(value) for value in losses().values())
    finally:
        for part, name, value in samplers:
            setattr(part, name, value)


def _torchvision_samplers(model: Any) -> list[Any]:
    parts = [getattr(model, "rpn", None), getattr(model, "roi_heads", None)]
    samplers = [getattr(part, "fg_bg_sampler", None) for part in parts]
    return [sampler for sampler in samplers if sampler is not None]


def _training(kind: str, quick: bool) -> Sides:
    ours, theirs = training_pair(kind, quick)

    def check() -> str:
        mine, expected = ours.losses(), theirs.losses()  # type: ignore[attr-defined]
        assert len(mine) == len(expected)
        for a, b in zip(mine, expected, strict=True):
            assert abs(a - b) <= 1e-3 * abs(b) + 1e-6, f"losses {mine}, expected {expected}"
        return "losses within 1e-3 with sampling that takes everything"

    return Sides(ours, theirs, check)


def _memory(kind: str, quick: bool) -> Sides:
    def peak(side: str) -> float:
        command = [sys.executable, "-m", "lucidet.bench.memory", kind, side, str(int(quick))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout.splitlines()[-1]))

    return Sides(
        lambda: peak("ours"),
        lambda: peak("theirs"),
        lambda: "the step that was timed, each in a process of its own",
        values=True,
    )


def _job(name: str, title: str, goal: float, make: Callable[[bool], Sides], **more: Any) -> Job:
    return Job(name, title, more.pop("against", "torchvision"), goal, make, **more)


INFERENCE = "inference, R50-FPN, 800 x 1066, 1 image"
STEP = "training step, R50-FPN, 2 images, 400 x 533"
PEAK = "peak memory of that step"
JOBS = [
    _job("faster-rcnn", f"Faster R-CNN {INFERENCE}", 1.6, lambda q: _inference("faster_rcnn", q)),
    _job("retinanet", f"RetinaNet {INFERENCE}", 1.3, lambda q: _inference("retinanet", q)),
    _job(
        "atss",
        f"ATSS {INFERENCE}",
        0.95,
        _atss_against_retinanet,
        against="lucidet's RetinaNet",
    ),
    _job("train-faster-rcnn", f"Faster R-CNN {STEP}", 1.25, lambda q: _training("faster_rcnn", q)),
    _job("train-retinanet", f"RetinaNet {STEP}", 1.1, lambda q: _training("retinanet", q)),
    _job(
        "memory-faster-rcnn",
        f"Faster R-CNN {PEAK}",
        0.85,
        lambda q: _memory("faster_rcnn", q),
        lower_is_better=True,
        unit="MB",
    ),
    _job(
        "memory-retinanet",
        f"RetinaNet {PEAK}",
        0.85,
        lambda q: _memory("retinanet", q),
        lower_is_better=True,
        unit="MB",
    ),
]
