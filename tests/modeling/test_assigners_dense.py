"""The assigners of dense detectors: worked examples, corner cases, and the plain way beside them.

The plain way compares every anchor with every object, in the order of the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.modeling.assigners import (
    Assignment,
    ATSSAssigner,
    CenteredMaxIoUAssigner,
    ScaleRangeAssigner,
    TopKAssigner,
    assign_batch,
    max_iou,
)
from lucidet.structures import Boxes, PaddedBoxes, pairwise_iou

STRIDES = [8, 16, 32]
RANGES = [(-1.0, 32.0), (32.0, 64.0), (64.0, math.inf)]

ASSIGNERS: dict[str, Callable[[], Callable]] = {
    "ATSS": lambda: ATSSAssigner(topk=9),
    "ATSS-legacy": lambda: ATSSAssigner(topk=9, legacy_plus_one=True),
    "TOPK": lambda: TopKAssigner(topk=9),
    "IoU": lambda: CenteredMaxIoUAssigner([0.4, 0.5], [0, -1, 1]),
    "SSC": lambda: ScaleRangeAssigner(RANGES),
    "FCOS": lambda: ScaleRangeAssigner(RANGES, STRIDES, 1.5),
}


@pytest.fixture(params=list(ASSIGNERS))
def assigner(request: pytest.FixtureRequest) -> Callable[[list[Boxes], Boxes], Assignment]:
    return ASSIGNERS[request.param]()


def grid(height: int = 96, width: int = 128, scale: float = 4.0) -> list[Boxes]:
    """Return one square anchor a cell, `scale` strides wide, on three levels."""
    generator = DefaultAnchorGenerator(
        sizes=[[scale * s] for s in STRIDES], aspect_ratios=[[1.0]], strides=STRIDES, offset=0.5
    )
    return generator(
        [torch.zeros(1, 1, math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]
    )


def random_objects(count: int, height: int = 96, width: int = 128) -> Boxes:
    center = torch.rand(count, 2) * torch.tensor([width, height])
    half = torch.exp(torch.rand(count, 2) * 3.5) + 1
    boxes = Boxes(torch.cat([center - half, center + half], dim=1))
    boxes.clip((height, width))
    return boxes


def boxes_of(*rows: list[float]) -> Boxes:
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


def check(result: Assignment, num_anchors: int, num_objects: int) -> None:
    """What holds for every assignment."""
    assert (result.labels.dtype, result.matched_idxs.dtype) == (torch.int8, torch.int64)
    assert len(result.labels) == len(result.matched_idxs) == len(result.quality) == num_anchors
    assert result.quality.isfinite().all()
    assert ((result.labels >= -1) & (result.labels <= 1)).all()
    assert (result.matched_idxs >= 0).all()
    assert (result.matched_idxs < max(num_objects, 1)).all()


# ------------------------------------------------------------------------------ the plain way


def centers_inside(anchors: Tensor, box: Tensor) -> Tensor:
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    sides = torch.cat([centers - box[:2], box[2:] - centers], dim=1)
    return sides.min(dim=1).values > 0.01


def plain(kind: str, levels: list[Boxes], objects: Boxes) -> tuple[Tensor, Tensor]:
    """Return labels (R,) and matched_idxs (R,) from the whole matrix (M, R)."""
    anchors = torch.cat([level.tensor for level in levels])
    iou = pairwise_iou(objects, Boxes(anchors))  # (M, R)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    gt_centers = (objects.tensor[:, :2] + objects.tensor[:, 2:]) / 2
    distance = (gt_centers[:, None] - centers[None]).norm(dim=2)
    inside = torch.stack([centers_inside(anchors, box) for box in objects.tensor])
    if kind in ("SSC", "FCOS"):
        return plain_scale_range(levels, objects, center_radius=1.5 if kind == "FCOS" else None)
    if kind == "IoU":
        quality, matched = iou.max(dim=0)
        labels = torch.where(quality >= 0.5, 1, torch.where(quality >= 0.4, -1, 0))
        for row in iou:
            if row.max() > 0:
                labels[row == row.max()] = 1
        apart = ~inside.gather(0, matched[None])[0]
        labels[(labels == 1) & apart] = -1
        return labels, matched
    wanted = torch.zeros_like(iou, dtype=torch.bool)
    for m in range(len(objects)):
        if kind == "TOPK":
            chosen = (iou[m] - distance[m] / distance.max() / 1000).argsort(descending=True)[:9]
            wanted[m, chosen] = inside[m, chosen]
            continue
        candidates, start = [], 0
        for level in levels:
            nearest = distance[m, start : start + len(level)].argsort()[:9]
            candidates.append(nearest + start)
            start += len(level)
        chosen = torch.cat(candidates)
        threshold = iou[m, chosen].mean() + iou[m, chosen].std()
        wanted[m, chosen] = (iou[m, chosen] >= threshold) & inside[m, chosen]
    quality, matched = torch.where(wanted, iou, -1.0).max(dim=0)
    return (quality >= 0).long(), matched


def plain_scale_range(
    levels: list[Boxes], objects: Boxes, center_radius: float | None
) -> tuple[Tensor, Tensor]:
    labels, matched = [], []
    areas = (objects.tensor[:, 2:] - objects.tensor[:, :2]).prod(dim=1).tolist()
    for level, (low, high), stride in zip(levels, RANGES, STRIDES, strict=True):
        for x1, y1, x2, y2 in level.tensor.tolist():
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            best = (math.inf, 0)
            for m, (left, top, right, bottom) in enumerate(objects.tensor.tolist()):
                sides = [x - left, y - top, right - x, bottom - y]
                if min(sides) <= 0.01 or not low <= max(sides) <= high:
                    continue
                off = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
                if center_radius is not None and off >= center_radius * stride:
                    continue
                best = min(best, (areas[m], m))
            labels.append(int(best[0] < math.inf))
            matched.append(best[1])
    return torch.tensor(labels), torch.tensor(matched)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["ATSS", "TOPK", "IoU", "SSC", "FCOS"])
def test_same_as_the_plain_way(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    levels, objects = grid(), random_objects([1, 2, 7, 15, 30, 60][seed])
    result = ASSIGNERS[kind]()(levels, objects)
    labels, matched = plain(kind, levels, objects)
    check(result, len(labels), len(objects))
    assert torch.equal(result.labels.long(), labels)
    positive = labels == 1
    assert positive.any() or len(objects) < 3
    assert torch.equal(result.matched_idxs[positive], matched[positive])


@pytest.mark.parametrize("kind", ["ATSS", "TOPK", "SSC", "FCOS"])
def test_same_in_small_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    levels, objects = grid(), random_objects(20)
    whole = ASSIGNERS[kind]()(levels, objects)
    monkeypatch.setattr(max_iou, "CPU_PAIRS", 100)
    pieces = ASSIGNERS[kind]()(levels, objects)
    for name in ("labels", "matched_idxs", "quality"):
        assert torch.equal(getattr(whole, name), getattr(pieces, name)), name


@pytest.mark.parametrize("counts", [(1,), (3, 0, 7), (0, 0), (5, 40)])
def test_a_batch_is_its_images(assigner: Callable, counts: tuple[int, ...]) -> None:
    levels, objects = grid(), [random_objects(n) for n in counts]
    got = assign_batch(assigner, levels, PaddedBoxes.from_boxes(objects))
    for image, boxes in enumerate(objects):
        want = assigner(levels, boxes)
        check(got.image(image), len(want.labels), len(boxes))
        assert torch.equal(got.labels[image], want.labels)
        assert torch.equal(got.quality[image], want.quality)
        positive = want.labels == 1
        assert torch.equal(got.matched_idxs[image, positive], want.matched_idxs[positive])


# -------------------------------------------------------------------------------- corner cases


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([], id="no object"),
        pytest.param([[40, 40, 40, 60]], id="no width"),
        pytest.param([[40, 40, 40, 40]], id="a point"),
        pytest.param([[44, 44, 44, 44]], id="a point at an anchor's centre"),
        pytest.param([[41, 41, 43, 43]], id="no anchor's centre inside"),
        pytest.param([[0, 0, 128, 96]], id="the whole image"),
        pytest.param([[-500, -500, -400, -400]], id="outside the image"),
        pytest.param([[10, 10, 60, 60]] * 3, id="three times the same"),
        pytest.param([[10, 10, 60, 60], [30, 30, 30, 50]], id="one of two without area"),
        pytest.param([[0, 0, 1e6, 1e6]], id="a million pixels wide"),
    ],
)
def test_defined_in_every_corner(assigner: Callable, objects: list) -> None:
    levels = grid()
    result = assigner(levels, boxes_of(*objects))
    check(result, sum(map(len, levels)), len(objects))
    if not objects:
        assert not result.labels.any()
        assert not result.quality.any()


@pytest.mark.parametrize("sizes", [(0, 0, 0), (1, 0, 0), (1, 1, 1), (5, 0, 2)])
def test_few_anchors(assigner: Callable, sizes: tuple[int, ...]) -> None:
    anchor = torch.tensor([[8.0, 8, 40, 40]])
    levels = [Boxes(anchor.repeat(n, 1) + 4.0 * torch.arange(n)[:, None]) for n in sizes]
    result = assigner(levels, boxes_of([10, 10, 40, 40], [0, 0, 12, 12]))
    check(result, sum(sizes), 2)
    assert assigner(levels, boxes_of()).labels.tolist() == [0] * sum(sizes)


def test_anchors_without_area(assigner: Callable) -> None:
    levels = [Boxes(torch.tensor([[20.0, 20, 20, 20], [30, 30, 30, 50]]))] * 3
    check(assigner(levels, boxes_of([10, 10, 40, 60])), 6, 1)


def test_many_objects(assigner: Callable) -> None:
    levels = grid(256, 256)
    result = assigner(levels, random_objects(500, 256, 256))
    check(result, sum(map(len, levels)), 500)
    assert (result.labels == 1).any()


# ------------------------------------------------------------------------- worked examples


def test_atss_by_hand() -> None:
    """IoUs 1, .5 and 0: mean .5, deviation .5, so that only the first reaches the threshold."""
    level = boxes_of([0, 0, 10, 10], [0, 0, 10, 5], [40, 40, 50, 50])
    result = ATSSAssigner(topk=3)([level], boxes_of([0, 0, 10, 10]))
    assert result.labels.tolist() == [1, 0, 0]
    assert result.quality.tolist() == [1.0, 0.0, 0.0]


def test_atss_takes_a_single_candidate() -> None:
    """Without a second candidate the deviation is 0: an anchor on its object is positive."""
    for topk, level in (
        (1, boxes_of([0, 0, 10, 10], [50, 50, 60, 60])),
        (9, boxes_of([0, 0, 8, 8])),
    ):
        assert ATSSAssigner(topk=topk)([level], boxes_of([0, 0, 10, 10])).labels[0] == 1


def test_atss_counts_anchors_of_a_cell() -> None:
    """With two anchors a cell, the two of the nearest cell are the candidates of topk 1."""
    level = boxes_of([0, 0, 10, 10], [2, 2, 8, 8], [0, 20, 10, 30], [2, 22, 8, 28])
    result = ATSSAssigner(topk=1, anchors_per_cell=2)([level], boxes_of([0, 0, 10, 12]))
    assert result.labels.tolist() == [0, 0, 0, 0] or result.labels.tolist() == [1, 0, 0, 0]
    alone = ATSSAssigner(topk=1)([level], boxes_of([0, 0, 10, 10]))
    assert alone.labels.sum() == 1


def test_a_contested_anchor_goes_to_the_higher_iou() -> None:
    level = boxes_of([0, 0, 10, 10])
    large, exact = [0, 0, 16, 16], [0, 0, 10, 11]
    for assigner in (ATSSAssigner(1), TopKAssigner(1)):
        assert assigner([level], boxes_of(large, exact)).matched_idxs.tolist() == [1]
        assert assigner([level], boxes_of(exact, large)).matched_idxs.tolist() == [0]
        assert assigner([level], boxes_of(exact, exact)).matched_idxs.tolist() == [0]  # a tie


def test_topk_prefers_the_nearer_of_equal_ious() -> None:
    level = boxes_of([100, 100, 110, 110], [40, 40, 50, 50], [20, 20, 30, 30], [0, 0, 10, 10])
    result = TopKAssigner(topk=2)([level], boxes_of([0, 0, 10, 10]))
    assert result.labels.tolist() == [0, 0, 0, 1]  # the second candidate's centre lies outside
    result = TopKAssigner(topk=2)([level], boxes_of([0, 0, 28, 28]))
    assert result.labels.tolist() == [0, 0, 1, 1]


def test_iou_ignores_a_center_outside() -> None:
    """The best anchor of a narrow object: rescued, but its centre is not inside."""
    level = boxes_of([0, 0, 10, 10], [50, 50, 60, 60])
    result = CenteredMaxIoUAssigner([0.4, 0.5], [0, -1, 1])([level], boxes_of([0, 0, 3, 10]))
    assert result.labels.tolist() == [-1, 0]


def test_no_rescue_without_overlap() -> None:
    level = boxes_of([0, 0, 10, 10], [50, 50, 60, 60])
    result = CenteredMaxIoUAssigner([0.4, 0.5], [0, -1, 1])([level], boxes_of([20, 20, 30, 30]))
    assert result.labels.tolist() == [0, 0]


def test_scale_ranges_include_their_ends() -> None:
    """The largest distance is 20: of the level that ends there and of the one that begins there."""
    level = boxes_of([26, 26, 34, 34])
    assigner = ScaleRangeAssigner([(-1, 20), (20, 40), (40, math.inf)])
    result = assigner([level] * 3, boxes_of([10, 10, 50, 50]))
    assert result.labels.tolist() == [1, 1, 0]
    assert assigner([level] * 3, boxes_of([11, 11, 49, 49])).labels.tolist() == [1, 0, 0]


def test_object_outside_every_range() -> None:
    assigner = ScaleRangeAssigner([(30, 40), (50, 60)])
    cell = boxes_of([26, 26, 34, 34])
    assert assigner([cell, cell], boxes_of([20, 20, 40, 40])).labels.tolist() == [0, 0]


def test_the_smaller_object_wins_a_location() -> None:
    assigner = ScaleRangeAssigner([(-1, math.inf)])
    large, small = [0, 0, 60, 60], [20, 20, 40, 40]
    result = assigner([boxes_of([26, 26, 34, 34])], boxes_of(large, small))
    assert (result.labels.tolist(), result.matched_idxs.tolist()) == ([1], [1])


def test_center_sampling() -> None:
    """Locations 0, 8, 12 and 20 pixels off the centre; nearer than 1.5 strides of 8 counts."""
    cells = boxes_of(*[[40 + d - 4, 36, 40 + d + 4, 44] for d in (0, 8, 12, 20)])
    objects = boxes_of([0, 0, 80, 80])
    near = ScaleRangeAssigner([(-1, math.inf)], [8], 1.5)([cells], objects)
    assert near.labels.tolist() == [1, 1, 0, 0]
    assert ScaleRangeAssigner([(-1, math.inf)])([cells], objects).labels.tolist() == [1, 1, 1, 1]


def test_legacy_widths_count_in_iou() -> None:
    """A legacy object from 0 to 9 is ten pixels wide: the plain anchor around it has IoU 1."""
    level = boxes_of([-0.5, -0.5, 9.5, 9.5])
    result = ATSSAssigner(1, legacy_plus_one=True)([level], boxes_of([0, 0, 9, 9]))
    assert result.quality.tolist() == [1.0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ATSSAssigner(topk=0), "topk must be at least 1 candidate a level, got 0"),
        (lambda: TopKAssigner(topk=-1), "topk must be at least 1 anchor an object, got -1"),
        (lambda: ScaleRangeAssigner([(5, 5)]), "needs low < high"),
        (lambda: ScaleRangeAssigner([(0, 5)], center_radius=1.5), "one stride for each of the 1"),
        (lambda: CenteredMaxIoUAssigner([0.5, 0.4], [0, -1, 1]), "must ascend"),
        (
            lambda: ScaleRangeAssigner([(0, 5)])([boxes_of(), boxes_of()], boxes_of()),
            "2 levels of anchors, but 1 ranges",
        ),
    ],
)
def test_bad_settings(make: Callable, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("kind", ["ATSS", "TOPK", "SSC"])
def test_memory_stays_far_below_the_matrix(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of anchors x objects: the largest is the chunk's."""
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    monkeypatch.setattr(max_iou, "CPU_PAIRS", 20_000)
    levels, objects = grid(400, 664), random_objects(100, 400, 664)
    with Watch():
        ASSIGNERS[kind]()(levels, objects)
    anchors = sum(map(len, levels))
    assert 0 < largest <= 4 * max(20_000, anchors)
    assert largest < anchors * len(objects) / 5
