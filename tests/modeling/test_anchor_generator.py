"""Anchors of each level's grid."""

from __future__ import annotations

import pytest
import torch

from lucidet.config import get_cfg
from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    DefaultAnchorGenerator,
    RotatedAnchorGenerator,
    build_anchor_generator,
)
from lucidet.structures import Boxes, RotatedBoxes
from lucidet.utils.probe import watching


def maps(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.zeros(1, 1, *size) for size in sizes]


def test_fpn_on_400_by_600() -> None:
    """416 x 608 after padding to a multiple of 32: 63195 anchors on p2..p6."""
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    strides = (4, 8, 16, 32, 64)
    generator = build_anchor_generator(cfg, [ShapeSpec(channels=1, stride=s) for s in strides])
    levels = generator(maps((104, 152), (52, 76), (26, 38), (13, 19), (7, 10)))
    assert [len(level) for level in levels] == [47424, 11856, 2964, 741, 210]
    assert sum(len(level) for level in levels) == 63195
    assert generator.num_anchors == generator.num_cell_anchors == [3] * 5
    assert generator.box_dim == 4
    # every level's cell has the sizes and ratios asked for
    for level, size in zip(levels, (32, 64, 128, 256, 512), strict=True):
        wh = level.tensor[:3, 2:] - level.tensor[:3, :2]
        assert (wh.prod(dim=1).sqrt() - size).abs().max() < 1e-3
        assert torch.allclose(wh[:, 1] / wh[:, 0], torch.tensor([0.5, 1.0, 2.0]))


def test_single_level_of_fifteen() -> None:
    cfg = get_cfg()
    generator = build_anchor_generator(cfg, [ShapeSpec(channels=1, stride=16)])
    (anchors,) = generator(maps((25, 39)))
    assert len(anchors) == 14625
    assert generator.num_anchors == [15]
    assert isinstance(anchors, Boxes)


def test_order_is_row_cell_size_ratio() -> None:
    generator = DefaultAnchorGenerator(
        sizes=[16, 32], aspect_ratios=[0.25, 1.0], strides=[8], offset=0.0
    )
    (anchors,) = generator.grid_anchors([(2, 3)])
    assert anchors.shape == (24, 4)
    cell = [[-16, -4, 16, 4], [-8, -8, 8, 8], [-32, -8, 32, 8], [-16, -16, 16, 16]]
    assert anchors[:4].tolist() == cell
    assert (anchors[4:8] - anchors[:4]).tolist() == [[8, 0, 8, 0]] * 4  # next cell: to the right
    assert (anchors[12:16] - anchors[:4]).tolist() == [[0, 8, 0, 8]] * 4  # next row: down


@pytest.mark.parametrize(("offset", "x"), [(0.0, 0.0), (0.5, 4.0), (0.25, 2.0)])
def test_offset_moves_the_centres(offset: float, x: float) -> None:
    generator = DefaultAnchorGenerator(sizes=[32], aspect_ratios=[1.0], strides=[8], offset=offset)
    assert Boxes(generator.grid_anchors([(1, 1)])[0]).get_centers().tolist() == [[x, x]]


def test_default_offset_is_the_cells_centre() -> None:
    generator = DefaultAnchorGenerator(sizes=[32, 64], aspect_ratios=[0.25, 1, 4], strides=[4])
    expected = [
        [-30.0, -6.0, 34.0, 10.0],
        [-14.0, -14.0, 18.0, 18.0],
        [-6.0, -30.0, 10.0, 34.0],
        [-62.0, -14.0, 66.0, 18.0],
        [-30.0, -30.0, 34.0, 34.0],
        [-14.0, -62.0, 18.0, 66.0],
    ]
    assert generator(maps((1, 1)))[0].tensor.tolist() == expected


def test_empty_map_gives_no_anchor() -> None:
    generator = DefaultAnchorGenerator(sizes=[32], aspect_ratios=[1.0], strides=[8])
    assert generator.grid_anchors([(0, 5)])[0].shape == (0, 4)


def test_state_dict_holds_nothing() -> None:
    generator = DefaultAnchorGenerator(sizes=[32], aspect_ratios=[1.0], strides=[8, 16])
    assert not generator.state_dict()
    assert len(generator.cell_anchors) == 2
    assert [name for name, _ in generator.named_buffers()] == ["cell_anchors.0", "cell_anchors.1"]
    with pytest.raises(IndexError):
        generator.cell_anchors[2]


def test_probe_sees_the_grid() -> None:
    seen: list = []
    generator = DefaultAnchorGenerator(sizes=[32], aspect_ratios=[1.0], strides=[8])
    with watching(lambda name, values: seen.append((name, sorted(values)))):
        generator(maps((2, 2)))
    assert seen == [("anchors.grid", ["anchors", "cell_anchors", "strides"])]


def test_rotated() -> None:
    generator = RotatedAnchorGenerator(
        sizes=[32, 64], aspect_ratios=[0.25, 1.0], strides=[8], angles=[0, 45], offset=0.5
    )
    assert generator.num_anchors == [8]
    assert generator.box_dim == 5
    (anchors,) = generator(maps((1, 2)))
    assert isinstance(anchors, RotatedBoxes)
    assert anchors.tensor[:3].tolist() == [[4, 4, 64, 16, 0], [4, 4, 64, 16, 45], [4, 4, 32, 32, 0]]
    assert anchors.tensor[8, :2].tolist() == [12, 4]


def test_registry_names() -> None:
    names = sorted(name for name, _ in ANCHOR_GENERATOR_REGISTRY)
    assert names == ["DefaultAnchorGenerator", "RotatedAnchorGenerator"]
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
    rotated = build_anchor_generator(cfg, [ShapeSpec(channels=1, stride=16)])
    assert rotated.num_anchors == [45]  # 5 sizes, 3 ratios, 3 angles


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"offset": 1.0}, r"0 <= offset < 1 .*got 1\.0"),
        ({"offset": -0.1}, "offset"),
        ({"sizes": []}, "sizes are empty"),
        ({"sizes": [[32], []]}, "sizes of level 1 are empty"),
        ({"sizes": [[32], [64], [128]]}, "for 3 levels.*2 feature maps"),
        ({"sizes": [32, 0]}, "sizes must be positive"),
        ({"aspect_ratios": [-1.0]}, "aspect_ratios must be positive"),
    ],
)
def test_bad_arguments(changed: dict, message: str) -> None:
    arguments = {"sizes": [32], "aspect_ratios": [1.0], "strides": [8, 16], **changed}
    with pytest.raises(ValueError, match=message):
        DefaultAnchorGenerator(**arguments)


def test_on_a_gpu_anchors_are_computed_once_for_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again where somebody wrote into them, or for another size."""
    from tests.modeling.operator_count import counted_operators

    generator = DefaultAnchorGenerator(sizes=[[32]], aspect_ratios=[[0.5, 1.0]], strides=[8])

    def launches(side: int) -> tuple[int, torch.Tensor]:
        maps = torch.zeros(1, 4, side, side)
        with counted_operators(monkeypatch) as operators:
            (anchors,) = generator([maps])
        assert torch.equal(anchors.tensor, generator([maps])[0].tensor)  # as on a CPU
        return len(operators), anchors.tensor

    first, anchors = launches(3)
    assert first > 0
    assert launches(3)[0] == 0
    assert launches(4)[0] == first
    anchors.add_(1)
    assert launches(3)[0] == first
    generator.cell_anchors[0].mul_(2)
    assert launches(3)[0] == first
    for side in range(5, 20):
        launches(side)
    assert len(generator._grids) <= 8
