"""The highest IoUs in pieces: those of the matrix, which is never built."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lucidet.layers.fast import highest_iou as module
from lucidet.layers.fast.highest_iou import highest_iou, highest_iou_plain
from lucidet.structures import Boxes, pairwise_iou


def random_boxes(*shape: int, grid: float = 0.0) -> Tensor:
    """Return boxes, some without area; on a grid many are equal, so that IoUs tie."""
    corner = torch.rand(*shape, 2) * 100 - 10
    size = (torch.rand(*shape, 2) * 40 - 4).clamp(min=0)
    if grid:
        corner, size = (corner / grid).round() * grid, (size / grid).round() * grid
    return torch.cat([corner, corner + size], dim=-1)


def by_the_matrix(boxes: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
    iou = pairwise_iou(Boxes(boxes), Boxes(anchors))
    best = iou.amax(dim=1, keepdim=True)
    return *iou.max(dim=0), ((iou == best) & (best > 0)).any(dim=0)


@pytest.mark.parametrize("grid", [0.0, 10.0])
@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
@pytest.mark.parametrize("each", [False, True], ids=["shared", "each image"])
@pytest.mark.parametrize("num_boxes", [1, 5, 40])
def test_all_forms(
    grid: float, pieces: int, each: bool, num_boxes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PAIRS", 0)
    monkeypatch.setattr(module, "CPU_PIECE", pieces)
    monkeypatch.setattr(module, "PIECE_PAIRS", pieces * num_boxes * 3)
    levels = [60, 0, 25, 1]
    boxes = random_boxes(3, num_boxes, grid=grid)
    anchors = random_boxes(3, sum(levels), grid=grid) if each else random_boxes(86, grid=grid)
    want = [by_the_matrix(*pair) for pair in zip(boxes, anchors.expand(3, 86, 4), strict=True)]
    for found in (
        highest_iou(boxes, anchors, levels, True),
        highest_iou_plain(boxes, anchors, True),
    ):
        for image in range(3):
            for got, expected in zip(found, want[image], strict=True):
                assert got is not None
                assert torch.equal(got[image], expected)
    assert highest_iou(boxes, anchors, levels, False)[2] is None
    assert highest_iou_plain(boxes, anchors, False)[2] is None


@pytest.mark.parametrize("plain", [False, True])
def test_memory_stays_far_below_the_matrix(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_PAIRS", 1 << 18)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    boxes, anchors = random_boxes(2, 50), random_boxes(50_000)
    with Watch():
        if plain:
            highest_iou_plain(boxes, anchors, True)
        else:
            highest_iou(boxes, anchors, [50_000], True)
    assert 50_000 < largest <= 1 << 19  # of 5 million pairs
