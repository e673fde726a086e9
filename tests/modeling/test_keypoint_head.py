"""Keypoint heads: which proposals train them, the loss with both normalizers, inference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.layers import ShapeSpec
from lucidet.modeling import ROI_KEYPOINT_HEAD_REGISTRY, build_keypoint_head, build_model
from lucidet.modeling.roi_heads.keypoint_head import (
    BaseKeypointRCNNHead,
    KRCNNConvDeconvUpsampleHead,
    keypoint_rcnn_inference,
    keypoint_rcnn_loss,
    select_proposals_with_visible_keypoints,
)
from lucidet.structures import Boxes, Instances, Keypoints
from tests.modeling.tiny import C4, CASCADE, FPN, record, tiny_config

SIZE = (96, 128)
BOX = [10.0, 10, 60, 70]
KEYPOINTS = [
    ("MODEL.KEYPOINT_ON", True),
    ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (16, 16)),
    ("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2),
]


def with_points(boxes: list[list[float]], points: list[Any], seed: int = 0) -> dict[str, Any]:
    """Return an image with boxes and keypoints (M, J, 3)."""
    result = record(SIZE, boxes, seed)
    result["instances"].gt_keypoints = Keypoints(torch.tensor(points).reshape(-1, 2, 3))
    return result


def proposals(points: list[Any], boxes: list[list[float]] | None = None) -> Instances:
    boxes = [BOX] * len(points) if boxes is None else boxes
    return Instances(
        SIZE,
        proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        gt_classes=torch.zeros(len(boxes), dtype=torch.int64),
        gt_keypoints=Keypoints(torch.tensor(points, dtype=torch.float32).reshape(-1, 2, 3)),
    )


INSIDE, HIDDEN, OUTSIDE, ABSENT = [20, 20, 2], [30, 40, 1], [90, 20, 2], [20, 20, 0]


def test_proposals_with_a_labelled_keypoint_inside_train() -> None:
    first = proposals([[INSIDE, ABSENT], [ABSENT, OUTSIDE], [HIDDEN, OUTSIDE]])
    found = select_proposals_with_visible_keypoints(
        [first, proposals([]), proposals([[ABSENT] * 2])]
    )
    assert [len(own) for own in found] == [2, 0, 0]
    assert found[0].gt_keypoints.tensor[:, 0].tolist() == [INSIDE, HIDDEN]
    assert [len(own) for own in select_proposals_with_visible_keypoints([proposals([])])] == [0]


def test_missing_keypoints_are_named() -> None:
    own = proposals([[INSIDE, ABSENT]])
    own.remove("gt_keypoints")
    with pytest.raises(ValueError, match=r"gt_keypoints.*MODEL.KEYPOINT_ON.*'keypoints'"):
        select_proposals_with_visible_keypoints([own])


class TestLoss:
    instances = (proposals([[INSIDE, OUTSIDE], [HIDDEN, INSIDE]]), proposals([]))

    def test_divided_by_the_visible_keypoints(self) -> None:
        logits = torch.randn(2, 2, 8, 8)
        targets, valid = self.instances[0].gt_keypoints.to_heatmap(torch.tensor([BOX] * 2), 8)
        assert valid.tolist() == [[1, 0], [1, 1]]
        rows = valid.flatten() > 0
        expected = F.cross_entropy(logits.flatten(2).flatten(0, 1)[rows], targets.flatten()[rows])
        torch.testing.assert_close(keypoint_rcnn_loss(logits, self.instances, None), expected)
        fixed = keypoint_rcnn_loss(logits, self.instances, 12.0)
        torch.testing.assert_close(fixed, expected * 3 / 12)

    @pytest.mark.parametrize("instances", [[proposals([])], [proposals([[ABSENT, OUTSIDE]])], []])
    def test_nothing_visible(self, instances: list[Instances]) -> None:
        count = sum(len(own) for own in instances)
        logits = torch.randn(count, 2, 8, 8, requires_grad=True)
        loss = keypoint_rcnn_loss(logits * 1.0, instances, None)
        loss.backward()
        assert loss == 0
        assert logits.grad is not None
        assert not logits.grad.any()


def test_the_highest_location_is_the_keypoint() -> None:
    logits = torch.zeros(1, 2, 8, 8)
    logits[0, 0, 2, 5] = logits[0, 1, 7, 0] = 9.0
    found = [
        Instances(SIZE, pred_boxes=Boxes([[16.0, 24, 48, 56]])),
        Instances(SIZE, pred_boxes=Boxes(torch.zeros(0, 4))),
    ]
    keypoint_rcnn_inference(logits, found)
    expected = torch.tensor([[16 + 5.5 * 4, 24 + 2.5 * 4], [16 + 2, 24 + 7.5 * 4]])
    assert (found[0].pred_keypoints[0, :, :2] - expected).abs().max() <= 2  # half a location
    assert (found[0].pred_keypoints[..., 2] > 0.5).all()  # bicubic: it may exceed 1
    assert found[1].pred_keypoints.shape == (0, 2, 3)
    assert found[1].pred_keypoint_heatmaps.shape == (0, 2, 8, 8)
    keypoint_rcnn_inference(logits[:0], [])


def test_the_head_has_detectron2s_names() -> None:
    head = build_keypoint_head(tiny_config(KEYPOINTS), ShapeSpec(channels=8, height=7, width=7))
    assert isinstance(head, KRCNNConvDeconvUpsampleHead)
    names = {name.rpartition(".")[0] for name in head.state_dict()}
    assert names == {"conv_fcn1", "conv_fcn2", "score_lowres"}
    assert head.layers(torch.zeros(3, 8, 7, 7)).shape == (3, 2, 28, 28)
    assert head.layers(torch.zeros(0, 8, 7, 7)).shape == (0, 2, 28, 28)


@pytest.mark.parametrize("visible", [True, False])
def test_both_normalizers(visible: bool) -> None:
    cfg = tiny_config(
        KEYPOINTS, [("MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS", visible)]
    )
    head = build_keypoint_head(cfg, ShapeSpec(channels=8)).train()
    # 2 keypoints of a quarter of 32 proposals
    assert head.loss_normalizer == ("visible" if visible else 2 * 32 * 0.25)
    instances = [proposals([[INSIDE, HIDDEN]]), proposals([[INSIDE, INSIDE]])]
    x = torch.randn(2, 8, 7, 7)
    loss = head(x, instances)["loss_keypoint"]
    expected = keypoint_rcnn_loss(head.layers(x), instances, None if visible else 2 * 16.0)
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="'all'"):
        KRCNNConvDeconvUpsampleHead(
            ShapeSpec(channels=8), num_keypoints=2, conv_dims=[8], loss_normalizer="all"
        )


@pytest.mark.parametrize("parts", [[FPN], [FPN, CASCADE]], ids=["FPN", "cascade"])
def test_training_and_detection(parts: list[Any]) -> None:
    model = build_model(tiny_config(*parts, KEYPOINTS)).train()
    points = [[[20.0, 20, 2], [50, 60, 1]], [[25, 35, 2], [0, 0, 0]]]
    records = [with_points([BOX, [20.0, 30, 100, 90]], points), record(SIZE, [], seed=1)]
    losses = model(records)
    assert losses["loss_keypoint"] > 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert float(model.roi_heads.metrics["keypoint_head/num_fg_samples"]) >= 1
    model.eval()
    predictor = model.roi_heads.box_predictor
    for own in predictor if isinstance(predictor, nn.ModuleList) else [predictor]:
        own.test_score_thresh, own.test_topk_per_image = 0.0, 5
    with torch.no_grad():
        large = model([{**r, "height": 192, "width": 256} for r in records])
        small = model(records)
    for a, b in zip(large, small, strict=True):
        assert len(a["instances"]) > 0
        scale = torch.tensor([2.0, 2.0, 1.0])
        torch.testing.assert_close(
            a["instances"].pred_keypoints, b["instances"].pred_keypoints * scale
        )


def test_an_image_without_annotations_may_lack_the_field() -> None:
    model = build_model(tiny_config(FPN, KEYPOINTS)).train()
    full, empty = with_points([BOX], [[INSIDE, HIDDEN]]), record(SIZE, [], seed=1)
    for records in ([empty, full], [full, empty], [empty, empty]):
        losses = model(records)
        assert losses["loss_keypoint"].isfinite()
        sum(losses.values()).backward()


def test_c4_has_no_keypoints() -> None:
    with pytest.raises(ValueError, match=r"Res5ROIHeads has no keypoints: set MODEL.KEYPOINT_ON"):
        build_model(tiny_config(C4, KEYPOINTS))


def test_a_registered_head_of_user_code() -> None:
    @ROI_KEYPOINT_HEAD_REGISTRY.register()
    class OneLayerKeypointHead(BaseKeypointRCNNHead):
        def __init__(self, cfg: Any, input_shape: ShapeSpec) -> None:
            super().__init__(num_keypoints=2, loss_weight=0.5, loss_normalizer="visible")
            self.conv = nn.Conv2d(input_shape.channels or 0, 2, 1)

        def layers(self, x: Tensor) -> Tensor:
            return self.conv(x)

    try:
        name = ("MODEL.ROI_KEYPOINT_HEAD.NAME", "OneLayerKeypointHead")
        model = build_model(tiny_config(FPN, KEYPOINTS, [name])).train()
    finally:
        ROI_KEYPOINT_HEAD_REGISTRY._obj_map.pop("OneLayerKeypointHead")
    assert model([with_points([BOX], [[INSIDE, HIDDEN]])])["loss_keypoint"] > 0
