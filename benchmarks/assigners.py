"""Time and peak memory of each assigner, beside the plain way: everything of anchors x objects.

    python benchmarks/assigners.py [--objects 300 100] [--rounds 5] [--repeats 5]

An image of 800 x 1333 pixels, objects of all sizes. Each measurement is a process of its own, as a
process can't forget its peak; the two ways take turns, and medians are printed. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.modeling.assigners import (
    ATSSAssigner,
    CenteredMaxIoUAssigner,
    MaxIoUAssigner,
    ScaleRangeAssigner,
    TopKAssigner,
)
from lucidet.modeling.matcher import Matcher
from lucidet.structures import Boxes, pairwise_iou

HEIGHT, WIDTH = 800, 1344  # 1333, padded
STRIDES = [8, 16, 32, 64, 128]
RANGES = [(-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf)]
Assign = Callable[[list[Boxes], Boxes], object]


def anchors(sizes: list[list[float]], ratios: list[float]) -> list[Boxes]:
    """Return the anchors of all levels."""
    generator = DefaultAnchorGenerator(
        sizes=sizes, aspect_ratios=[ratios], strides=STRIDES, offset=0.5
    )
    return generator(
        [torch.zeros(1, 1, math.ceil(HEIGHT / s), math.ceil(WIDTH / s)) for s in STRIDES]
    )


def one_a_cell() -> list[Boxes]:
    """Return the anchors of ATSS: 22 398 in all."""
    return anchors([[8 * s] for s in STRIDES], [1.0])


def nine_a_cell() -> list[Boxes]:
    """Return the anchors of RetinaNet: 201 582 in all."""
    return anchors([[4 * s * 2 ** (i / 3) for i in range(3)] for s in STRIDES], [0.5, 1.0, 2.0])


def objects(count: int) -> Boxes:
    """Return boxes from 8 to 600 pixels, as many of each octave."""
    generator = torch.Generator().manual_seed(0)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([1333.0, 800])
    half = 4 * torch.exp(torch.rand(count, 2, generator=generator) * math.log(75))
    boxes = Boxes(torch.cat([center - half, center + half], dim=1))
    boxes.clip((800, 1333))
    return boxes


def centers(boxes: Tensor) -> Tensor:
    """Return (N, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def plain_atss(levels: list[Boxes], gt: Boxes) -> object:
    """All IoUs, all distances, and a matrix that says who wants what."""
    every = Boxes.cat(levels)
    iou = pairwise_iou(every, gt)  # (R, M)
    distance = (centers(every.tensor)[:, None] - centers(gt.tensor)[None]).pow(2).sum(-1).sqrt()
    found, start = [], 0
    for level in levels:
        nearest = distance[start : start + len(level)].topk(min(9, len(level)), 0, False).indices
        found.append(nearest + start)
        start += len(level)
    candidates = torch.cat(found)  # (k, M)
    of_candidates = iou.gather(0, candidates)
    threshold = of_candidates.mean(0) + of_candidates.std(0)
    boxes = gt.tensor[None]
    middle = centers(every.tensor)[candidates]
    inside = torch.cat([middle - boxes[..., :2], boxes[..., 2:] - middle], 2).amin(2) > 0.01
    wanted = torch.full_like(iou, -1.0)
    positive = (of_candidates >= threshold) & inside
    wanted.scatter_(0, candidates, torch.where(positive, of_candidates, -1.0))
    return wanted.max(dim=1)


def plain_topk(levels: list[Boxes], gt: Boxes) -> object:
    """All IoUs less all distances."""
    every = Boxes.cat(levels)
    iou = pairwise_iou(gt, every)
    distance = (centers(gt.tensor)[:, None] - centers(every.tensor)[None]).pow(2).sum(-1).sqrt()
    candidates = (iou - distance / distance.max() / 1000).topk(9, dim=1).indices
    wanted = torch.full_like(iou, -1.0).scatter_(1, candidates, iou.gather(1, candidates))
    return wanted.max(dim=0)


def plain_max_iou(thresholds: list[float]) -> Assign:
    """The matrix of all IoUs, then a Matcher."""
    matcher = Matcher(thresholds, [0, -1, 1], allow_low_quality_matches=True)
    return lambda levels, gt: matcher(pairwise_iou(gt, Boxes.cat(levels)))


def plain_scale_range(levels: list[Boxes], gt: Boxes) -> object:
    """The four distances of every location to every object."""
    points = torch.cat([centers(level.tensor) for level in levels])[:, None]
    sides = torch.cat([points - gt.tensor[:, :2], gt.tensor[:, 2:] - points], dim=2)  # (R, M, 4)
    low, high = (
        torch.cat(
            [torch.full((len(level), 1), r[i]) for level, r in zip(levels, RANGES, strict=True)]
        )
        for i in (0, 1)
    )
    farthest = sides.amax(2)
    fits = (sides.amin(2) > 0.01) & (farthest >= low) & (farthest <= high)
    areas = gt.area()[None].repeat(len(points), 1)
    return torch.where(fits, areas, math.inf).min(dim=1)


CASES: dict[str, tuple[Callable[[], list[Boxes]], Assign, Assign]] = {
    "ATSS": (one_a_cell, ATSSAssigner(9), plain_atss),
    "TOPK": (one_a_cell, TopKAssigner(9), plain_topk),
    "IoU": (
        one_a_cell,
        CenteredMaxIoUAssigner([0.4, 0.5], [0, -1, 1]),
        plain_max_iou([0.4, 0.5]),
    ),
    "SSC, FCOS": (one_a_cell, ScaleRangeAssigner(RANGES), plain_scale_range),
    "max IoU, RetinaNet's anchors": (
        nine_a_cell,
        MaxIoUAssigner([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True),
        plain_max_iou([0.4, 0.5]),
    ),
}


def status_mb(name: str) -> float:
    """Return a line of Linux's account of this process, megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status has no {name}; memory is measured on Linux only")


def measure(case: str, ours: bool, count: int, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of a call, and the rise of memory to its peak, MB."""
    make, one, other = CASES[case]
    assign, levels, gt = (one if ours else other), make(), objects(count)
    assign(levels, objects(1))  # loads what torch loads at first use
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status_mb("VmRSS")
    assign(levels, gt)
    peak = status_mb("VmHWM") - before
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        assign(levels, gt)
        times.append(time.perf_counter() - start)
    return {"ms": 1000 * statistics.median(times), "mb": max(peak, 0.0)}


def in_a_process(*words: str) -> dict[str, float]:
    """Run this file's `measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[300, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        case, ours, count, repeats = args.one
        print(json.dumps(measure(case, ours == "ours", int(count), int(repeats))))
        return
    print("| assigner | objects | ms | plain, ms | peak, MB | plain, MB |")
    print("|---|---|---|---|---|---|")
    for count in args.objects:
        for case in CASES:
            seen: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
            for _ in range(args.rounds):
                for way, runs in seen.items():
                    runs.append(in_a_process(case, way, str(count), str(args.repeats)))
            ms, mb = (
                [statistics.median(r[key] for r in runs) for runs in seen.values()]
                for key in ("ms", "mb")
            )
            print(
                f"| {case} | {count} | {ms[0]:.0f} | {ms[1]:.0f} | {mb[0]:.0f} | {mb[1]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
