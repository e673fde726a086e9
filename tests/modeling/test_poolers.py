"""Pooling of regions from a pyramid."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align, roi_pool

from lucidet.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from lucidet.structures import Boxes
from lucidet.utils.probe import watching

SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


def square(side: float) -> list[float]:
    return [3.0, 5.0, 3.0 + side, 5.0 + side]


@pytest.mark.parametrize(
    ("side", "level"),
    [(0, 0), (1, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (5000, 3)],
)
def test_level_by_size(side: float, level: int) -> None:
    boxes = Boxes(torch.tensor([square(side)]))
    got = assign_boxes_to_levels([boxes], 2, 5, 224, 4)
    assert got.tolist() == [level]
    assert got.dtype == torch.int64


def test_levels_of_several_images() -> None:
    first, none = Boxes(torch.tensor([square(500), square(10)])), Boxes(torch.zeros(0, 4))
    got = assign_boxes_to_levels([first, none, Boxes(torch.tensor([square(224)]))], 2, 5, 224, 4)
    assert got.tolist() == [3, 0, 2]
    assert assign_boxes_to_levels([none], 2, 5, 224, 4).shape == (0,)


def test_box_that_is_inside_out_goes_to_the_finest_level() -> None:
    boxes = Boxes(torch.tensor([[10.0, 0.0, 0.0, 10.0]]))
    assert assign_boxes_to_levels([boxes], 2, 5, 224, 4).tolist() == [0]


def test_pooler_format() -> None:
    boxes = [Boxes(torch.zeros(0, 4)), Boxes(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]))]
    assert convert_boxes_to_pooler_format(boxes).tolist() == [[1, 1, 2, 3, 4], [1, 5, 6, 7, 8]]
    assert convert_boxes_to_pooler_format(boxes[:1]).shape == (0, 5)


def pyramid(images: int = 2) -> list[torch.Tensor]:
    return [torch.randn(images, 3, 512 // 2**i, 512 // 2**i) for i in range(2, 6)]


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        ("ROIAlignV2", lambda x, r, s: roi_align(x, r, 7, s, 2, True)),
        ("ROIAlign", lambda x, r, s: roi_align(x, r, 7, s, 2, False)),
        ("ROIPool", lambda x, r, s: roi_pool(x, r, 7, s)),
    ],
)
def test_every_box_from_its_level_in_order(kind: str, oracle) -> None:
    maps = pyramid()
    sides = [[300.0, 20.0, 150.0, 0.0], [480.0, 230.0, 30.0]]
    boxes = [Boxes(torch.tensor([square(side) for side in image])) for image in sides]
    out = ROIPooler(7, SCALES, 2, kind)(maps, boxes)
    assert out.shape == (7, 3, 7, 7)
    rois = convert_boxes_to_pooler_format(boxes)
    levels = assign_boxes_to_levels(boxes, 2, 5, 224, 4).tolist()
    assert set(levels) == {0, 1, 2, 3}
    for row, level in enumerate(levels):
        expected = oracle(maps[level], rois[row : row + 1], SCALES[level])[0]
        assert torch.allclose(out[row], expected, atol=1e-4), row


def test_one_level() -> None:
    boxes = [Boxes(torch.tensor([square(30), square(200)]))]
    maps = pyramid(images=1)[2:3]
    out = ROIPooler((3, 5), (1 / 16,), 0, "ROIAlignV2")(maps, boxes)
    expected = roi_align(maps[0], convert_boxes_to_pooler_format(boxes), (3, 5), 1 / 16, 0, True)
    assert torch.allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("scales", [SCALES, SCALES[:1]])
def test_no_boxes_and_no_images(scales: tuple) -> None:
    pooler = ROIPooler(7, scales, 0, "ROIAlignV2")
    none = Boxes(torch.zeros(0, 4))
    assert pooler(pyramid(2)[: len(scales)], [none, none]).shape == (0, 3, 7, 7)
    assert pooler(pyramid(0)[: len(scales)], []).shape == (0, 3, 7, 7)


def test_gradient_reaches_every_level() -> None:
    maps = [level.requires_grad_() for level in pyramid(1)]
    boxes = [Boxes(torch.tensor([square(s) for s in (20, 150, 300, 480)]))]
    ROIPooler(2, SCALES, 2, "ROIAlignV2")(maps, boxes).sum().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in maps)


def test_probe_sees_the_levels() -> None:
    seen = {}
    boxes = [Boxes(torch.tensor([square(20), square(300)]))]
    with watching(lambda name, values: seen.update({name: values})):
        ROIPooler(2, SCALES, 2, "ROIAlignV2")(pyramid(1), boxes)
    assert seen["roi.levels"]["levels"].tolist() == [0, 2]


def test_attributes() -> None:
    pooler = ROIPooler(7, SCALES, 0, "ROIAlignV2")
    assert (pooler.output_size, pooler.min_level, pooler.max_level) == ((7, 7), 2, 5)
    assert len(pooler.level_poolers) == 4
    assert not pooler.state_dict()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scales": (1 / 4, 1 / 16)}, "consecutive powers of 2"),
        ({"scales": (0.3,)}, "powers of 2"),
        ({"scales": ()}, "powers of 2"),
        ({"pooler_type": "ROIAlignV3"}, "POOLER_TYPE 'ROIAlignV3'.*ROIAlignV2"),
        ({"output_size": 0}, "output_size"),
        ({"output_size": (1, 2, 3)}, "output_size"),
        ({"canonical_box_size": 0}, "canonical_box_size"),
    ],
)
def test_bad_arguments(changed: dict, message: str) -> None:
    arguments = {
        "output_size": 7,
        "scales": SCALES,
        "sampling_ratio": 0,
        "pooler_type": "ROIAlignV2",
        **changed,
    }
    with pytest.raises(ValueError, match=message):
        ROIPooler(**arguments)


def test_maps_and_images_must_fit() -> None:
    pooler = ROIPooler(7, SCALES, 0, "ROIAlignV2")
    with pytest.raises(ValueError, match="built for 4 feature maps, got 3"):
        pooler(pyramid()[:3], [Boxes(torch.zeros(0, 4))] * 2)
    with pytest.raises(ValueError, match="2 images in the features, but 1 box lists"):
        pooler(pyramid(), [Boxes(torch.zeros(0, 4))])
