"""How the time of a step grows with the work: image area, objects, classes, batch."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from lucidet.bench.jobs_parts import assignment_and_losses
from lucidet.bench.measure import alternate
from lucidet.bench.models import detector, photo, record, sgd_step
from lucidet.modeling.optimize import OptimizedModel

__all__ = ["plot_scaling"]

ARCHITECTURES = ("FasterRCNN", "RetinaNet", "ATSS")
SIDES = (192, 288, 384, 512)
BATCHES = (1, 2, 4)
OBJECTS = (1, 10, 100, 300)
CLASSES = (80, 365, 1203)

Row = tuple[str, str, float, Callable[[], Any]]


def plot_scaling(folder: Path, quick: bool = False, cpu_time: bool = False) -> Path:
    """Measure, and write ``scaling.json`` and ``scaling.png``; return the latter's path.

    Args:
        folder: created where it is absent.
        quick: tiny sizes, once each, few architectures.
        cpu_time: count seconds on a core instead of those on the wall.
    """
    rows = [*_inference(quick), *_losses(quick), *_steps(quick)]
    clock = time.process_time if cpu_time else time.perf_counter
    calls = [call for *_, call in rows]
    times = alternate(calls, 0, min_rounds=1 if quick else 3, clock=clock)
    points = [
        {"curve": curve, "axis": axis, "x": x, "seconds": statistics.median(own)}
        for (axis, curve, x, _), own in zip(rows, times, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.json").write_text(json.dumps(points, indent=1), encoding="utf-8")
    _draw(points, folder / "scaling.png")
    return folder / "scaling.png"


def _inference(quick: bool) -> Iterator[Row]:
    sides, batches = ((64, 96), (1, 2)) if quick else (SIDES, BATCHES)
    for name in ARCHITECTURES[:1] if quick else ARCHITECTURES:
        twin = OptimizedModel(detector(name))
        for side in sides:
            image = {"image": photo(side, side)}
            yield "image area, pixels: inference", name, side * side, _call(twin, [image])
        for batch in batches:
            images = [{"image": photo(sides[0], sides[0], seed)} for seed in range(batch)]
            yield "images in a batch: inference", name, batch, _call(twin, images)


def _call(twin: OptimizedModel, inputs: list[dict[str, Any]]) -> Callable[[], Any]:
    @torch.no_grad()
    def run() -> Any:
        return twin(inputs)

    return run


def _losses(quick: bool) -> Iterator[Row]:
    """Yield assignment, losses and their backward of one image."""
    size = (64, 96) if quick else (512, 640)
    for name in ("RetinaNet", "ATSS", "FCOS"):
        model = detector(name, num_classes=80)
        for objects in OBJECTS[:2] if quick else OBJECTS:
            call = assignment_and_losses(model, size, objects, 80)
            yield "objects: assignment and losses", name, objects, call
        for classes in CLASSES[:1] if quick else CLASSES:
            other = detector(name, num_classes=classes)
            call = assignment_and_losses(other, size, 10, classes)
            yield "classes: assignment and losses", name, classes, call


def _steps(quick: bool) -> Iterator[Row]:
    """Yield training steps of one image: forward, backward, SGD."""
    for name in ARCHITECTURES[:1] if quick else ARCHITECTURES:
        model = detector(name).train()
        for side in (64, 96) if quick else SIDES[:3]:
            inputs = [record(side, side, 7, 80)]
            yield "image area, pixels: training step", name, side * side, _step(model, inputs)
        for classes in CLASSES[:1] if quick else CLASSES:
            other = detector(name, num_classes=classes).train()
            side = 64 if quick else SIDES[0]
            inputs = [record(side, side, 7, classes)]
            yield "classes: training step", name, classes, _step(other, inputs)


def _step(model: Any, inputs: list[dict[str, Any]]) -> Callable[[], Any]:
    return sgd_step(model, lambda: model(inputs))


def _draw(points: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    axes_names = list(dict.fromkeys(point["axis"] for point in points))
    figure = Figure(figsize=(14, 7), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).T.flat, axes_names, strict=True):
        mine = [point for point in points if point["axis"] == name]
        for curve in dict.fromkeys(point["curve"] for point in mine):
            own = [(p["x"], p["seconds"] * 1000) for p in mine if p["curve"] == curve]
            axes.plot(*zip(*own, strict=True), marker="o", label=curve)
        quantity, _, what = name.partition(": ")
        axes.set(xlabel=quantity, ylabel="milliseconds", title=what, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
