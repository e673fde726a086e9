"""Assignment by overlap: the same as the matcher on the matrix of all IoUs, in little memory."""

from __future__ import annotations

import pytest
import torch

from lucidet.modeling.assigners import Assignment, MaxIoUAssigner, assign, max_iou
from lucidet.modeling.matcher import Matcher
from lucidet.structures import Boxes, RotatedBoxes, pairwise_iou

RPN = ([0.3, 0.7], [0, -1, 1], True)


def random_boxes(count: int, extent: float = 100.0, grid: float = 0.0) -> torch.Tensor:
    """Return boxes, some outside, some without area; on a grid many are equal, so that IoUs tie."""
    corner = torch.rand(count, 2) * extent - 10
    size = (torch.rand(count, 2) * 40 - 4).clamp(min=0)
    if grid:
        corner, size = (corner / grid).round() * grid, (size / grid).round() * grid
    return torch.cat([corner, corner + size], dim=1)


@pytest.mark.parametrize("grid", [0.0, 10.0])
@pytest.mark.parametrize("chunk", [1, 7, 2048])
@pytest.mark.parametrize("objects", [1, 5, 40])
@pytest.mark.parametrize("rules", [RPN, ([0.5], [0, 1], False), ([0.4, 0.5], [0, -1, 1], True)])
def test_same_as_the_matcher(
    monkeypatch: pytest.MonkeyPatch, grid: float, chunk: int, objects: int, rules: tuple
) -> None:
    monkeypatch.setattr(max_iou, "CPU_CHUNK", chunk)
    levels = [Boxes(random_boxes(n, grid=grid)) for n in (60, 0, 25, 1)]
    gt_boxes = Boxes(random_boxes(objects, grid=grid))
    iou = pairwise_iou(gt_boxes, Boxes.cat(levels))
    matched, labels = Matcher(*rules)(iou)

    got = MaxIoUAssigner(*rules)(levels, gt_boxes)
    assert torch.equal(got.labels, labels)
    assert torch.equal(got.matched_idxs, matched)
    assert torch.equal(got.quality, iou.amax(dim=0))


def test_same_without_choice_of_near_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of devices that the host shouldn't wait for, here on the CPU."""
    levels = [Boxes(random_boxes(50)), Boxes(random_boxes(20))]
    gt_boxes = Boxes(random_boxes(8))
    expected = MaxIoUAssigner(*RPN)(levels, gt_boxes)
    monkeypatch.setattr(max_iou, "_objects_near", lambda chunks, *_: [None] * len(chunks))
    monkeypatch.setattr(max_iou, "CHUNK_PAIRS", 100)
    got = MaxIoUAssigner(*RPN)(levels, gt_boxes)
    for name in ("labels", "matched_idxs", "quality"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name


ANCHOR = [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("anchors", "objects", "labels"),
    [
        ([ANCHOR, ANCHOR], [], [0, 0]),  # no object
        ([], [ANCHOR], []),  # no anchor
        ([ANCHOR], [[0, 0, 10, 4]], [1]),  # one anchor, rescued at IoU 0.4
        ([ANCHOR], [[5, 5, 5, 9]], [0]),  # an object without area
        ([[3, 3, 3, 3]], [ANCHOR], [0]),  # an anchor without area
        ([ANCHOR], [[50, 50, 60, 60]], [0]),  # nothing overlaps: no rescue
        ([ANCHOR], [[10, 0, 20, 10]], [0]),  # they only touch
    ],
)
def test_corner_cases(anchors: list, objects: list, labels: list) -> None:
    got = MaxIoUAssigner(*RPN)([Boxes(torch.tensor(anchors))], Boxes(torch.tensor(objects)))
    assert got.labels.tolist() == labels
    assert got.quality.isfinite().all()
    assert (got.matched_idxs >= 0).all()
    assert got.labels.dtype == torch.int8
    assert got.matched_idxs.dtype == torch.int64
    assert got.quality.dtype == torch.float32


def test_no_objects_gives_the_first_label() -> None:
    assigner = MaxIoUAssigner([0.5], [-1, 1])
    assert assigner([Boxes(torch.tensor([ANCHOR]))], Boxes(torch.zeros(0, 4))).labels.tolist() == [
        -1
    ]


def test_memory_stays_far_below_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    real = max_iou.pairwise_iou

    def watched(a: Boxes, b: Boxes) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(a) * len(b))
        return real(a, b)

    monkeypatch.setattr(max_iou, "pairwise_iou", watched)
    anchors, gt_boxes = random_boxes(50_000), random_boxes(100)
    MaxIoUAssigner(*RPN)([Boxes(anchors)], Boxes(gt_boxes))
    assert 0 < largest <= 2048 * 100


class EveryFirst(Matcher):
    """A user's own matcher, which sees the matrix."""

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        idxs = torch.zeros(match_quality_matrix.shape[1], dtype=torch.int64)
        return idxs, torch.ones_like(idxs, dtype=torch.int8)


def test_assign_takes_matchers_and_assigners() -> None:
    levels = [Boxes(random_boxes(30))]
    gt_boxes = Boxes(random_boxes(4))
    expected = MaxIoUAssigner(*RPN)(levels, gt_boxes)
    for matcher in (Matcher(*RPN), MaxIoUAssigner(*RPN)):
        got = assign(matcher, levels, gt_boxes)
        assert torch.equal(got.labels, expected.labels)
        assert torch.equal(got.matched_idxs, expected.matched_idxs)
    own = EveryFirst(*RPN)
    assert assign(own, levels, gt_boxes).labels.tolist() == [1] * 30
    assert assign(own, levels, Boxes(torch.zeros(0, 4))).quality.tolist() == [0.0] * 30


def test_rotated_boxes() -> None:

    boxes = RotatedBoxes(torch.tensor([[5.0, 5, 10, 10, 0], [50, 50, 4, 4, 30]]))
    got = MaxIoUAssigner(*RPN)([boxes], RotatedBoxes(torch.tensor([[5.0, 5, 10, 10, 90]])))
    assert got.labels.tolist() == [1, 0]


def test_bad_rules() -> None:
    with pytest.raises(ValueError, match="need 2 labels"):
        MaxIoUAssigner([0.5], [0])


def test_assignment_without_objects() -> None:
    empty = Assignment.without_objects(3, label=-1)
    assert empty.labels.tolist() == [-1, -1, -1]
    assert empty.matched_idxs.tolist() == [0, 0, 0]
    assert empty.quality.tolist() == [0.0, 0.0, 0.0]
