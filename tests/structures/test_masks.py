from __future__ import annotations

import numpy as np
import pycocotools.mask as oracle
import pytest
import torch

from lucidet.structures import BitMasks, Boxes, Instances, PolygonMasks, ROIMasks
from lucidet.structures.masks import (
    polygon_area,
    polygons_to_bitmask,
    rasterize_polygons_within_box,
)

# pycocotools' own warning
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]
TRIANGLE = [10.0, 10.0, 18.0, 10.0, 10.0, 16.0]


def blobs(count: int, size: float = 60.0, seed: int = 0) -> list[list[np.ndarray]]:
    """Return objects of one to three irregular polygons."""
    random = np.random.default_rng(seed)
    objects = []
    for _ in range(count):
        parts = []
        for _ in range(random.integers(1, 4)):
            angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 30)))
            center, radius = random.uniform(0, size, 2), random.uniform(1, size / 2, len(angles))
            corners = center + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
            parts.append(corners.ravel())
        objects.append(parts)
    return objects


def filled(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    rles = oracle.frPyObjects([p.tolist() for p in polygons], height, width)
    return oracle.decode(oracle.merge(rles)).astype(bool)


def test_pixels_of_polygons_are_the_coco_librarys():
    for polygons in blobs(20):
        assert np.array_equal(polygons_to_bitmask(polygons, 64, 48), filled(polygons, 64, 48))
    nothing = polygons_to_bitmask([], 3, 5)
    assert nothing.shape == (3, 5)
    assert nothing.dtype == bool
    assert not nothing.any()


def test_polygons_cropped_to_boxes_are_filled_in_the_boxes_frame():
    objects = blobs(12)
    boxes = torch.rand(12, 4) * 30 + torch.tensor([0, 0, 31, 31])
    boxes[3] = torch.tensor([5.0, 5.0, 5.0, 9.0])  # no width
    cropped = PolygonMasks(objects).crop_and_resize(boxes, 28)
    assert cropped.shape == (12, 28, 28)
    assert cropped.dtype == torch.bool
    for polygons, box, mask in zip(objects, boxes.double(), cropped, strict=True):
        sides = (box[2:] - box[:2]).clamp(min=0.1)
        moved = [
            ((p.reshape(-1, 2) - box[:2].numpy()) * 28 / sides.numpy()).ravel() for p in polygons
        ]
        assert (mask.numpy() == filled(moved, 28, 28)).all()
    one = rasterize_polygons_within_box(objects[0], boxes[0].numpy(), 28)
    assert one.equal(cropped[0])


def test_measures_of_polygon_masks():
    masks = PolygonMasks([[SQUARE], [np.array(SQUARE), torch.tensor(TRIANGLE)], []])
    assert polygon_area(np.array(SQUARE[::2]), np.array(SQUARE[1::2])) == 12
    assert masks.area().tolist() == [12, 36, 0]
    assert masks.nonempty().tolist() == [True, True, False]
    boxes = masks.get_bounding_boxes()
    assert isinstance(boxes, Boxes)
    assert boxes.tensor.tolist() == [[2, 1, 6, 4], [2, 1, 18, 16], [0, 0, 0, 0]]
    assert masks.device == torch.device("cpu")
    assert masks.to("meta") is masks


def test_measures_of_bit_masks():
    bits = torch.zeros(3, 5, 8, dtype=torch.bool)
    bits[0, 1:4, 2:6] = True
    bits[2, 4, 7] = True
    masks = BitMasks(bits)
    assert masks.image_size == (5, 8)
    assert masks.area().tolist() == [12, 0, 1]
    assert masks.nonempty().tolist() == [True, False, True]
    assert masks.get_bounding_boxes().tensor.tolist() == [[2, 1, 6, 4], [0] * 4, [7, 4, 8, 5]]
    assert masks.device == torch.device("cpu")
    assert len(masks.to("meta")) == 3


@pytest.mark.parametrize(
    ("item", "rows"),
    [
        (1, [1]),
        (-1, [2]),
        (slice(0, 2), [0, 1]),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.tensor([2, 0]), [2, 0]),
        ([2, 2], [2, 2]),
        (torch.zeros(3, dtype=torch.bool), []),
        (torch.zeros(0, dtype=torch.int64), []),
    ],
)
def test_indexing(item, rows):
    polygons = PolygonMasks([[SQUARE], [TRIANGLE], []])
    bits = BitMasks.from_polygon_masks(polygons, 20, 20)
    rois = ROIMasks(torch.arange(12.0).view(3, 2, 2))
    assert [len(p) for p in polygons[item]] == [len(polygons.polygons[row]) for row in rows]
    assert bits[item].tensor.equal(bits.tensor[rows])
    assert rois[item].tensor.equal(rois.tensor[rows])
    table = Instances((20, 20), gt_masks=polygons, bits=bits)
    if not isinstance(item, list):
        assert len(table[item].gt_masks) == len(table[item].bits) == len(rows)


def test_iterating_and_joining():
    polygons = PolygonMasks([[SQUARE], []])
    assert [len(p) for p in polygons] == [1, 0]
    both = PolygonMasks.cat([polygons, PolygonMasks([]), polygons])
    assert both.area().tolist() == [12, 0, 12, 0]
    assert len(PolygonMasks.cat([])) == 0
    bits = BitMasks.from_polygon_masks([[SQUARE], []], 8, 8)
    assert [int(mask.sum()) for mask in bits] == [12, 0]
    assert BitMasks.cat([bits, bits[:0]]).tensor.equal(bits.tensor)
    tables = [Instances((8, 8), gt_masks=masks) for masks in (bits, bits)]
    assert len(Instances.cat(tables).gt_masks) == 4
    with pytest.raises(ValueError, match="needs at least one"):
        BitMasks.cat([])


def test_bit_masks_cropped_to_boxes():
    random = torch.Generator().manual_seed(0)
    bits = torch.rand(4, 40, 30, generator=random) > 0.5
    whole = torch.tensor([0.0, 0.0, 30.0, 40.0]).expand(4, 4)
    # a bin of 2 x 2 pixels is covered from 2 pixels on: the ROIAlign mean of 2 x 2 samples
    pooled = torch.nn.functional.avg_pool2d(bits[:, None].float(), 2)[:, 0] >= 0.5
    square = torch.tensor([2.0, 4.0, 22.0, 24.0]).expand(4, 4)
    cropped = BitMasks(bits).crop_and_resize(square, 10)
    assert cropped.dtype == torch.bool
    assert cropped.equal(pooled[:, 2:12, 1:11])
    assert BitMasks(bits).crop_and_resize(whole, 7).shape == (4, 7, 7)


def test_many_bit_masks_are_cropped_in_parts(monkeypatch):
    bits = BitMasks(torch.rand(5, 16, 16) > 0.3)
    boxes = torch.rand(5, 4) * 6 + torch.tensor([0, 0, 8, 8])
    at_once = bits.crop_and_resize(boxes, 7)
    monkeypatch.setattr("lucidet.structures.masks.PIXELS_AT_ONCE", 300)
    assert bits.crop_and_resize(boxes, 7).equal(at_once)


def test_no_objects():
    polygons, boxes = PolygonMasks([]), torch.zeros(0, 4)
    bits = BitMasks.from_polygon_masks(polygons, 6, 7)
    assert bits.tensor.shape == (0, 6, 7)
    for masks in (polygons, bits):
        assert len(masks) == len(masks.area()) == len(masks.nonempty()) == 0
        assert masks.nonempty().dtype == torch.bool
        assert masks.get_bounding_boxes().tensor.shape == (0, 4)
        cropped = masks.crop_and_resize(boxes, 14)
        assert cropped.shape == (0, 14, 14)
        assert cropped.dtype == torch.bool
    assert len(ROIMasks(torch.zeros(0, 28, 28)).to(torch.float16)) == 0
    assert BitMasks(torch.zeros(2, 0, 0)).get_bounding_boxes().tensor.tolist() == [[0] * 4] * 2
    assert not PolygonMasks([[], []]).crop_and_resize(torch.ones(2, 4), 3).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolygonMasks("x"), "list of objects, .* got str"),
        (lambda: PolygonMasks([np.zeros(6)]), "object 0 must be a list of polygons, got ndarray"),
        (lambda: PolygonMasks([[], [[1, 2, 3, 4]]]), r"object 1 has shape \(4,\); .* at least 6"),
        (lambda: PolygonMasks([[[1, 2, 3, 4, 5, 6, 7]]]), r"shape \(7,\); .* even number"),
        (lambda: BitMasks(torch.zeros(3, 4)), r"\(M, H, W\), got shape \(3, 4\)"),
        (lambda: ROIMasks(torch.zeros(3)), r"\(M, S, S\), got shape \(3,\)"),
        (
            lambda: PolygonMasks([[SQUARE]]).crop_and_resize(torch.zeros(2, 4), 3),
            r"each of the 1 masks as \(1, 4\), got shape \(2, 4\)",
        ),
    ],
)
def test_errors_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(IndexError, match="for 1 objects"):
        PolygonMasks([[SQUARE]])[torch.tensor([True, False])]


def test_far_corners_neither_wait_nor_end_the_process():
    far = [[0.0, 0.0, 1e300, 0.0, 1e300, 1e300]]
    assert (
        polygons_to_bitmask(far, 4, 4).sum()
        == polygons_to_bitmask([[0, 0, 9, 0, 9, 9]], 4, 4).sum()
    )
