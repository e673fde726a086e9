"""Assignment by overlap: the same as the matcher on the matrix of all IoUs, in little memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from lucidet.modeling.assigners import Assignment, MaxIoUAssigner, assign, assign_batch
from lucidet.modeling.matcher import Matcher
from lucidet.structures import Boxes, PaddedBoxes, RotatedBoxes, pairwise_iou

RPN = ([0.3, 0.7], [0, -1, 1], True)


def random_boxes(count: int, extent: float = 100.0, grid: float = 0.0) -> torch.Tensor:
    """Return boxes, some outside, some without area; on a grid many are equal, so that IoUs tie."""
    corner = torch.rand(count, 2) * extent - 10
    size = (torch.rand(count, 2) * 40 - 4).clamp(min=0)
    if grid:
        corner, size = (corner / grid).round() * grid, (size / grid).round() * grid
    return torch.cat([corner, corner + size], dim=1)


@pytest.mark.parametrize("grid", [0.0, 10.0])
@pytest.mark.parametrize("objects", [1, 5, 40])
@pytest.mark.parametrize("rules", [RPN, ([0.5], [0, 1], False), ([0.4, 0.5], [0, -1, 1], True)])
def test_same_as_the_matcher(grid: float, objects: int, rules: tuple) -> None:
    levels = [Boxes(random_boxes(n, grid=grid)) for n in (60, 0, 25, 1)]
    gt_boxes = Boxes(random_boxes(objects, grid=grid))
    iou = pairwise_iou(gt_boxes, Boxes.cat(levels))
    matched, labels = Matcher(*rules)(iou)

    got = MaxIoUAssigner(*rules)(levels, gt_boxes)
    assert torch.equal(got.labels, labels)
    assert torch.equal(got.matched_idxs, matched)
    assert torch.equal(got.quality, iou.amax(dim=0))


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


COUNTS = [(1,), (3, 0, 7), (0, 0), (5, 40)]


def same(got: Assignment, expected: list[Assignment]) -> None:
    """The batch's assignment is that of each image, padded."""
    assert len(got.labels) == len(expected)
    for image, want in enumerate(expected):
        for name in ("labels", "matched_idxs", "quality"):
            value = getattr(want, name)
            assert torch.equal(getattr(got, name)[image, : len(value)], value), name


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("matcher", [Matcher(*RPN), MaxIoUAssigner([0.5], [-1, 1])])
def test_a_batch_on_shared_anchors(counts: tuple[int, ...], matcher: object) -> None:
    levels = [Boxes(random_boxes(n, grid=5)) for n in (300, 0, 25)]
    gt_boxes = [Boxes(random_boxes(n, grid=5)) for n in counts]
    got = assign_batch(matcher, levels, PaddedBoxes.from_boxes(gt_boxes))
    assert got.labels.shape == got.quality.shape == got.matched_idxs.shape == (len(counts), 325)
    same(got, [assign(matcher, levels, boxes) for boxes in gt_boxes])


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("matcher", [Matcher(*RPN), MaxIoUAssigner([0.5], [0, 1])])
def test_a_batch_with_boxes_of_each_image(counts: tuple[int, ...], matcher: object) -> None:
    proposals = [Boxes(random_boxes(30 + n)) for n in counts]
    gt_boxes = [Boxes(random_boxes(n)) for n in counts]
    padded = PaddedBoxes.from_boxes(proposals)
    got = assign_batch(matcher, padded, PaddedBoxes.from_boxes(gt_boxes))
    pairs = zip(proposals, gt_boxes, strict=True)
    same(got, [assign(matcher, [own], boxes) for own, boxes in pairs])
    assert (got.labels[~padded.valid] == -1).all()


def test_padded_places_are_no_boxes() -> None:
    """Also where somebody has moved their edges."""
    padded = PaddedBoxes(torch.tensor([[ANCHOR, ANCHOR]]), torch.tensor([[False, False]]))
    got = assign_batch(Matcher(*RPN), [Boxes(torch.tensor([ANCHOR]))], padded)
    assert (got.labels.tolist(), got.quality.tolist()) == ([[0]], [[0.0]])


class Everything(MaxIoUAssigner):
    """A user's assigner, which sees one image."""

    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        result = super().__call__(anchors_per_level, gt_boxes)
        result.labels.fill_(1)
        return result


@pytest.mark.parametrize("matcher", [Everything(*RPN), lambda *args: Everything(*RPN)(*args)])
def test_assigners_of_the_user_see_each_image(matcher: object) -> None:
    gt_boxes = PaddedBoxes.from_boxes([Boxes(random_boxes(n)) for n in (2, 0)])
    got = assign_batch(matcher, [Boxes(random_boxes(9))], gt_boxes)
    assert (got.labels == 1).all()
    proposals = PaddedBoxes.from_boxes([Boxes(random_boxes(n)) for n in (2, 3)])
    assert assign_batch(matcher, proposals, gt_boxes).labels.tolist() == [[1, 1, -1], [1, 1, 1]]


def test_matchers_of_the_user_see_the_matrix() -> None:
    gt_boxes = PaddedBoxes.from_boxes([Boxes(random_boxes(n)) for n in (2, 0)])
    got = assign_batch(EveryFirst(*RPN), [Boxes(random_boxes(9))], gt_boxes)
    assert (got.labels == 1).all()


def test_what_changes_in_a_matcher_counts() -> None:
    matcher = Matcher(*RPN)
    boxes = PaddedBoxes.from_boxes([Boxes(torch.tensor([[0.0, 0, 10, 4]]))])
    levels = [Boxes(torch.tensor([ANCHOR]))]
    assert assign_batch(matcher, levels, boxes).labels.tolist() == [[1]]
    matcher.allow_low_quality_matches = False
    assert assign_batch(matcher, levels, boxes).labels.tolist() == [[-1]]


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
