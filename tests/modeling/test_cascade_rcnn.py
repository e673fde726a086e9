from __future__ import annotations

import pytest
import torch

from lucidet.layers import ShapeSpec
from lucidet.modeling.roi_heads import CascadeROIHeads
from lucidet.modeling.roi_heads.cascade_rcnn import _ScaleGradient
from lucidet.structures import Boxes, ImageList, Instances
from tests.modeling.tiny import CASCADE, FPN, objects, tiny_config

SIZE = (64, 96)
A, B, C = [0, 0, 10, 10], [0, 0, 10, 12], [20, 20, 60, 60]
SHAPES = {f"p{i}": ShapeSpec(channels=16, stride=2**i) for i in range(2, 7)}
IMAGES = ImageList(torch.zeros(1, 3, *SIZE), [SIZE])


def build(*options) -> CascadeROIHeads:
    return CascadeROIHeads(tiny_config(FPN, CASCADE, list(options)), SHAPES)


def features():
    return {
        name: torch.rand(1, 16, SIZE[0] // shape.stride, SIZE[1] // shape.stride)
        for name, shape in SHAPES.items()
    }


def proposals(boxes) -> Instances:
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))


def test_stages_have_their_own_thresholds_codes_and_names():
    heads = build()
    assert [m.thresholds[1:-1] for m in heads.proposal_matchers] == [[0.5], [0.6], [0.7]]
    assert [p.box2box_transform.weights[0] for p in heads.box_predictor] == [10, 20, 30]
    names = {".".join(name.split(".")[:2]) for name in heads.state_dict()}
    assert names == {f"box_{part}.{i}" for part in ("head", "predictor") for i in range(3)}


@pytest.mark.parametrize("gt", [[C, A], []])
def test_training(gt):
    heads = build().train()
    _, losses = heads(IMAGES, features(), [proposals([B])], [objects(SIZE, gt)])
    assert set(losses) == {
        f"{name}_stage{i}" for name in ("loss_cls", "loss_box_reg") for i in range(3)
    }
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())
    assert "stage2/roi_head/num_fg_samples" in heads.metrics
    assert "stage1/fast_rcnn/cls_accuracy" in heads.box_predictor[1].metrics


def test_a_later_stage_asks_for_more_overlap():
    heads = build()
    gt = [objects(SIZE, [[0, 0, 20, 20]], [2])]
    boxes = [torch.tensor([[0.0, 0, 20, 13], [0.0, 0, 20, 20]])]  # overlaps 0.65 and 1
    for stage, expected in [(1, [2, 2]), (2, [3, 2])]:
        given = heads._create_proposals_from_boxes(boxes, [SIZE])
        (result,) = heads._match_and_label_boxes(given, stage, gt)
        assert result.gt_classes.tolist() == expected


def test_inference_keeps_every_proposal_until_the_end():
    heads = build(("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)).eval()
    with torch.no_grad():
        (found,), losses = heads(IMAGES, features(), [proposals([A, C])], None)
        (nothing,), _ = heads(IMAGES, features(), [proposals([])], None)
    assert losses == {}
    assert 0 < len(found) <= 6
    assert len(nothing) == 0
    outside = [torch.tensor([[200.0, 0, 210, 9], [0.0, 0, 9, 9]])]
    assert len(heads._create_proposals_from_boxes(outside, [SIZE])[0]) == 2
    assert len(heads.train()._create_proposals_from_boxes(outside, [SIZE])[0]) == 1


def test_gradients_of_the_features_are_shared():
    values = torch.ones(2, requires_grad=True)
    _ScaleGradient.apply(values, 0.25).sum().backward()
    assert values.grad.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False), "CLS_AGNOSTIC_BBOX_REG True"),
        (("MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.4]), r"IOUS begins with 0\.5.*must be equal"),
        (("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6)), r"2 IOUS, but 3 BBOX_REG_WEIGHTS"),
        (("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True), "TRAIN_ON_PRED_BOXES False"),
    ],
)
def test_settings_that_contradict_each_other(option, message):
    with pytest.raises(ValueError, match=message):
        build(option)
