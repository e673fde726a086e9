"""What each ground-truth box gets under a rule: its best IoU, its positives, low-quality matches.

The model's own assigner decides. It is called with the anchors that can matter to the boxes of a
few images: an assigner that is given more of them would decide the same, as anchors further away
have a smaller IoU, a larger distance, or lie outside the box.
"""

# N images of a batch, M ground-truth boxes of an image, T of all images, R anchors

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lucidet.coverage.objects import Objects
from lucidet.coverage.schemes import ATSS, FCOS, MAX_IOU, Level, Scheme
from lucidet.doctor.images import cores
from lucidet.modeling.assigners import assign_batch
from lucidet.modeling.assigners.atss import box_centers, matched_iou
from lucidet.structures import Boxes, PaddedBoxes

__all__ = ["Coverage", "measure"]

#: pairs of boxes and anchors that are looked at together
_PAIRS = {MAX_IOU: 200_000, ATSS: 2_000_000, FCOS: 200_000}
#: cells around a box's center that hold the k nearest of ATSS (k = 9), also at an image's border
_NEAR, _NEAR_ON_THIN_GRIDS, _THIN = 3, 5, 4
#: of FCOS: center sampling reaches 1.5 strides
_MOST_IMAGES = 64


@dataclass(frozen=True)
class Coverage:
    """What each of T boxes gets under a rule.

    Attributes:
        scheme: the rule.
        best_iou: (T,) the highest IoU with any anchor; NaN for locations.
        positives: (T,) anchors or locations that are assigned to the box.
        low_quality: (T,) how many of them reach no threshold and are only the best there is.
    """

    scheme: Scheme
    best_iou: np.ndarray
    positives: np.ndarray
    low_quality: np.ndarray


def measure(
    scheme: Scheme, objects: Objects, advance: Callable[[int], None] | None = None
) -> Coverage:
    """Return what the boxes get under a rule.

    Args:
        scheme: of a model.
        objects: T boxes.
        advance: called with the number of boxes done since its last call.
    """
    total = len(objects.boxes)
    boxes = torch.from_numpy(objects.boxes)
    best = torch.full((total,), float("nan"))
    positives = torch.zeros(total, dtype=torch.int64)
    low_quality = torch.zeros(total, dtype=torch.int64)

    @torch.no_grad()
    def cover(levels: list[Level], rows: Tensor) -> int:
        own, image = boxes[rows], torch.from_numpy(objects.image[rows.numpy()])
        padded, places = _padded(own, image)
        ious = _highest_by_shape(levels, own) if scheme.shapes else []
        chosen = _candidates(scheme, levels, own, ious)
        near = [Boxes(level.anchors[c]) for level, c in zip(levels, chosen, strict=True)]
        found = assign_batch(scheme.assigner, near, padded)
        index = padded_index(found.matched_idxs, padded)
        positive, count = found.labels == 1, padded.valid.numel()
        positives[rows] = torch.bincount(index[positive], minlength=count)[places]
        if scheme.positive_iou < 1:
            weak = positive & (found.quality < scheme.positive_iou)
            low_quality[rows] = torch.bincount(index[weak], minlength=count)[places]
        if scheme.shapes:
            best[rows] = torch.cat(ious, dim=1).amax(dim=1)
        return len(rows)

    with ThreadPoolExecutor(max(1, len(cores()))) as pool:
        for levels, batches in _batches(scheme, objects):
            for count in pool.map(partial(cover, levels), batches):
                if advance is not None:
                    advance(count)
    return Coverage(scheme, best.numpy(), positives.numpy(), low_quality.numpy())


def padded_index(matched: Tensor, boxes: PaddedBoxes) -> Tensor:
    """Return matches (N, R) as places in the flattened (N * M,) boxes."""
    count = boxes.tensor.shape[1]
    return matched + torch.arange(len(boxes))[:, None] * count


def _padded(boxes: Tensor, image: Tensor) -> tuple[PaddedBoxes, Tensor]:
    """Return boxes (T, 4) by image, and the place of each in (N * M,)."""
    _, counts = torch.unique_consecutive(image, return_counts=True)
    padded = PaddedBoxes.from_boxes([Boxes(own) for own in boxes.split(counts.tolist())])
    return padded, padded.valid.flatten().nonzero().squeeze(1)


def _batches(scheme: Scheme, objects: Objects) -> Iterator[tuple[list[Level], list[Tensor]]]:
    """Yield the levels of each padded size, and batches of rows of boxes of images of that size.

    Images with about as many boxes are together; there are fewer of them the more boxes they have,
    as each image also sees the candidates of the others.
    """
    counts = np.bincount(objects.image, minlength=len(objects.sizes))
    starts = np.concatenate([[0], counts.cumsum()])
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (width, height) in enumerate(objects.sizes.tolist()):
        groups[scheme.padded(width, height)].append(number)
    for (width, height), images in groups.items():
        levels = scheme.levels(width, height)
        each = _candidates_of_a_box(scheme, levels)
        images.sort(key=lambda n: counts[n])
        batches = []
        while images:
            most = max(1, int(counts[images[0]]))
            size = int(np.sqrt(_PAIRS[scheme.name] / (each * most**2)))
            size = max(1, min(size, _MOST_IMAGES))
            own, images = images[:size], images[size:]
            rows = [np.arange(starts[n], starts[n + 1]) for n in sorted(own)]
            batches.append(torch.from_numpy(np.concatenate(rows)))
        yield levels, batches


def _candidates_of_a_box(scheme: Scheme, levels: list[Level]) -> int:
    """Return about how many candidates a box has."""
    if scheme.name == ATSS:
        return sum((2 * _NEAR + 1) ** 2 * level.per_cell for level in levels)
    return sum(16 * level.per_cell for level in levels)


def _candidates(
    scheme: Scheme, levels: list[Level], boxes: Tensor, ious: list[Tensor]
) -> list[Tensor]:
    """Return per level the rows of anchors that can matter to some box (T, 4), ascending."""
    if scheme.name == ATSS:
        return [_around(level, boxes, _near_cells(level)) for level in levels]
    if scheme.name == FCOS:
        return [_inside(level, boxes, scheme) for level in levels]
    best = torch.cat(ious, dim=1).amax(dim=1, keepdim=True)
    return [
        _overlapping(level, boxes, scheme.positive_iou, iou >= best - 1e-4)
        for level, iou in zip(levels, ious, strict=True)
    ]


def _near_cells(level: Level) -> int:
    thin = min(len(level.xs), len(level.ys)) < _THIN
    return _NEAR_ON_THIN_GRIDS if thin else _NEAR


def _around(level: Level, boxes: Tensor, cells: int) -> Tensor:
    """Return the rows of all anchors up to this many cells from the boxes' centers."""
    centers = box_centers(boxes)
    reach = torch.full((len(boxes), 2), cells * level.stride + level.stride / 2)
    return _rows(level, _cells(level, centers - reach, centers + reach, cells * 2 + 2))


def _inside(level: Level, boxes: Tensor, scheme: Scheme) -> Tensor:
    """Return the rows of the locations inside of the boxes, or near their centers."""
    low, high = boxes[:, :2], boxes[:, 2:]
    radius = min(scheme.assigner.radii) / min(scheme.generator.strides) * level.stride
    if radius < float("inf"):
        centers = box_centers(boxes)
        low, high = torch.maximum(low, centers - radius), torch.minimum(high, centers + radius)
    longest = float((high - low).max()) if len(boxes) else 0.0
    return _rows(level, _cells(level, low, high, int(longest / level.stride) + 2))


def _overlapping(level: Level, boxes: Tensor, threshold: float, is_best: Tensor) -> Tensor:
    """Return the rows of anchors that reach the threshold with a box, or are its best.

    An IoU of t needs an overlap of t / (1 + t) of both areas, which bounds the distance between
    the centers in x by the widths less the overlap over the smaller height, and so in y. The best
    of a shape are the anchors nearest to the box's center in x and in y, and in each direction all
    others that lie within the box, or around it, as wholly as those: they tie.

    Args:
        is_best: (T, A), whether an anchor of this shape is the best of the box.
    """
    sides, centers = boxes[:, 2:] - boxes[:, :2], box_centers(boxes)
    shapes = level.anchors[: level.per_cell, 2:] - level.anchors[: level.per_cell, :2]
    found = [_rows(level, _nearest_cells(level, centers).flatten().unique())]
    for number, shape in enumerate(shapes):
        smaller = torch.minimum(sides, shape)
        overlap = threshold / (1 + threshold) * (sides.prod(dim=1) + shape.prod())
        reach = (sides + shape) / 2 - overlap[:, None] / smaller.flip(1).clamp(min=1e-6)
        fits = (reach >= 0).all(dim=1)
        ties = is_best[:, number]
        reach = torch.where(fits[:, None], reach, 0.0)
        tied = ((sides - shape).abs() / 2).clamp(min=level.stride / 2)
        reach = torch.where(ties[:, None], torch.maximum(reach, tied), reach)
        chosen = (fits | ties).nonzero().squeeze(1)
        if len(chosen) == 0:
            continue
        reach, middle = reach[chosen] + 1e-2, centers[chosen]
        most = int(2 * float(reach.max()) / level.stride) + 2
        cells = _cells(level, middle - reach, middle + reach, most)
        found.append(cells * level.per_cell + number)
    return torch.cat(found).unique()


def _nearest_cells(level: Level, centers: Tensor) -> Tensor:
    """Return the cells (T, 4) on both sides of the centers (T, 2), in x and in y."""
    columns, rows = (
        torch.searchsorted(at, centers[:, axis].contiguous())
        for axis, at in enumerate((level.xs, level.ys))
    )
    cells = [
        rows.sub(down).clamp(0, len(level.ys) - 1) * len(level.xs)
        + columns.sub(left).clamp(0, len(level.xs) - 1)
        for down in (0, 1)
        for left in (0, 1)
    ]
    return torch.stack(cells, dim=1)


def _cells(level: Level, low: Tensor, high: Tensor, most: int) -> Tensor:
    """Return the cells whose centers lie in rectangles from `low` to `high` (T, 2) each.

    Args:
        most: cells along the longest side of a rectangle, at most.
    """
    steps = torch.arange(most)
    along = []
    for axis, at in enumerate((level.xs, level.ys)):
        first = torch.searchsorted(at, low[:, axis].contiguous())
        end = torch.searchsorted(at, high[:, axis].contiguous(), right=True)
        position = first[:, None] + steps
        along.append((position, position < end[:, None]))
    (x, in_x), (y, in_y) = along
    both = in_y[:, :, None] & in_x[:, None, :]
    cells = y[:, :, None] * len(level.xs) + x[:, None, :]
    return cells[both].unique()


def _rows(level: Level, cells: Tensor) -> Tensor:
    """Return the rows of all anchors of cells, ascending."""
    return (cells[:, None] * level.per_cell + torch.arange(level.per_cell)).flatten()


def _highest_by_shape(levels: list[Level], boxes: Tensor) -> list[Tensor]:
    """Return per level the highest IoU (T, A) of each box with the anchors of each shape.

    Of anchors of one shape one of those around the box's center has it.
    """
    found = []
    for level in levels:
        cells = _nearest_cells(level, box_centers(boxes))  # (T, 4)
        index = cells[..., None] * level.per_cell + torch.arange(level.per_cell)  # (T, 4, A)
        found.append(matched_iou(boxes[:, None, None], level.anchors[index]).amax(dim=1))
    return found
