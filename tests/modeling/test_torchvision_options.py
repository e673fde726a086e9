"""The options that torchvision's weights need, each by itself; their defaults are detectron2's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.modeling.assigners import ScaleRangeAssigner
from lucidet.modeling.backbone import FPN, MobileNetV3
from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.modeling.proposal_generator.proposal_utils import keep_best
from lucidet.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from lucidet.structures import Boxes, Instances


def generator(**options: Any) -> DefaultAnchorGenerator:
    return DefaultAnchorGenerator(
        sizes=[[32], [64]], aspect_ratios=[[0.5]], strides=[32, 64], offset=0.0, **options
    )


def test_rounded_corners() -> None:
    plain, rounded = generator(), generator(round_corners=True)
    assert plain.cell_anchors[0][0, 2].item() == pytest.approx(22.627417)
    assert rounded.cell_anchors[0].tolist() == [[-23.0, -11.0, 23.0, 11.0]]


@pytest.mark.parametrize(("measure", "stride"), [(False, 64.0), (True, 61.0)])
def test_measured_strides(measure: bool, stride: float) -> None:
    """A map of 13 cells on 25 x 32 = 800 pixels."""
    features = [torch.zeros(1, 1, 25, 25), torch.zeros(1, 1, 13, 13)]
    fine, coarse = generator(measure_strides=measure)(features)
    assert (fine.tensor[1, 0] - fine.tensor[0, 0]).item() == 32.0
    assert (coarse.tensor[1, 0] - coarse.tensor[0, 0]).item() == stride


def test_proposals_above_a_score() -> None:
    boxes = [torch.tensor([[[0.0, 0, 9, 9], [20, 20, 29, 29]]])]
    logits = [torch.tensor([[3.0, -4.0]])]
    for thresh, expected in ((0.0, 2), (0.05, 1), (1.0, 0)):
        kept = keep_best(boxes, logits, [(40, 40)], 0.7, 10, 0.0, score_thresh=thresh)
        assert len(kept[0]) == expected


def test_ranked_by_probability() -> None:
    """Both probabilities are 1 in float32: the first wins, though its logit is lower."""
    boxes = [torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9]]])]
    logits = [torch.tensor([[40.0, 50.0]])]
    for ranked, best in ((False, 50.0), (True, 40.0)):
        kept = keep_best(boxes, logits, [(40, 40)], 0.7, 1, 0.0, rank_probabilities=ranked)[0]
        assert kept.objectness_logits.tolist() == [best]


def test_smallest_detection() -> None:
    """The thin box is the best and hides the other, unless it is dropped before NMS."""
    boxes = [torch.tensor([[39.999, 0, 60, 10], [10.0, 0, 40, 10]])]
    scores = [torch.tensor([[0.9, 0.1], [0.8, 0.2]])]
    for smallest, expected in ((0.0, [0, 1]), (0.01, [1])):
        _, rows = fast_rcnn_inference(
            boxes, scores, [(40, 40)], 0.5, 0.5, 10, min_box_size=smallest
        )
        assert rows[0].tolist() == expected


def test_empty_boxes_stay() -> None:
    found = Instances((10, 10), pred_boxes=Boxes(torch.tensor([[3.0, 3, 3, 8], [1, 1, 2, 2]])))
    assert len(detector_postprocess(found, 10, 10)) == 1
    assert len(detector_postprocess(found, 10, 10, keep_empty=True)) == 2


def test_open_ranges() -> None:
    """A distance of exactly 64 pixels belongs to both levels, or to none."""
    cell = Boxes(torch.tensor([[60.0, 60, 68, 68]]))  # centre (64, 64)
    objects = Boxes(torch.tensor([[0.0, 30, 100, 100]]))
    ranges = [(-1.0, 64.0), (64.0, 128.0)]
    for is_open, expected in ((False, [1, 1]), (True, [0, 0])):
        assigner = ScaleRangeAssigner(ranges, open_ranges=is_open)
        assert assigner([cell, cell], objects).labels.tolist() == expected


# ------------------------------------------------------------------------------------- MobileNet


def test_mobilenet_maps() -> None:
    net = MobileNetV3(["c1", "c4", "c5"], norm="BN").eval()
    maps = net(torch.zeros(1, 3, 64, 96))
    shapes = net.output_shape()
    assert list(maps) == list(shapes) == ["c1", "c4", "c5"]
    for name, value in maps.items():
        shape = shapes[name]
        expected = (1, shape.channels, 64 // (shape.stride or 1), 96 // (shape.stride or 1))
        assert tuple(value.shape) == expected
    assert net.size_divisibility == 32


@pytest.mark.parametrize(("freeze_at", "frozen"), [(0, 0), (1, 1), (3, 5)])
def test_mobilenet_freezes(freeze_at: int, frozen: int) -> None:
    net = MobileNetV3(norm="BN", freeze_at=freeze_at)
    still = [not any(p.requires_grad for p in layer.parameters()) for layer in net.features]
    assert sum(still) == frozen
    assert all(still[:frozen])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_features": ["c6"]}, r"OUT_FEATURES \['c6'\] must be some of"),
        ({"out_features": []}, "must be some of"),
        ({"norm": "GN"}, "NORM must be one of"),
    ],
)
def test_mobilenet_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileNetV3(**options)


def test_pyramid_on_maps_of_one_stride() -> None:
    net = FPN(MobileNetV3(norm="BN"), ["c4", "c5"], 8, levels=[4, 5]).eval()
    assert net.output_shape() == {
        "p4": ShapeSpec(channels=8, stride=32),
        "p5": ShapeSpec(channels=8, stride=32),
    }
    assert net(torch.zeros(1, 3, 64, 64))["p4"].shape == (1, 8, 2, 2)


@pytest.mark.parametrize(("levels", "message"), [((), "twice the one before"), ((4, 6), "by one")])
def test_pyramid_levels_are_checked(levels: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FPN(MobileNetV3(norm="BN"), ["c4", "c5"], 8, levels=levels)
