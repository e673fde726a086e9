"""Mask heads: targets, losses, inference, and the head in the three kinds of ROI heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.layers import ShapeSpec
from lucidet.modeling import ROI_MASK_HEAD_REGISTRY, build_mask_head, build_model
from lucidet.modeling.roi_heads.mask_head import (
    BaseMaskRCNNHead,
    MaskRCNNConvUpsampleHead,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from lucidet.structures import BitMasks, Boxes, Instances, PolygonMasks
from lucidet.utils.probe import watching
from tests.modeling.tiny import C4, CASCADE, DC5, FPN, record, tiny_config

SIZE = (96, 128)
SQUARE, WIDE = [10.0, 10, 60, 70], [20.0, 30, 100, 90]
MASKS = [("MODEL.MASK_ON", True), ("MODEL.ROI_MASK_HEAD.CONV_DIM", 16)]
KINDS = {"FPN": [FPN], "C4": [C4], "DC5": [DC5], "cascade": [FPN, CASCADE]}


def polygon(box: list[float]) -> list[list[float]]:
    """Return the lower left half of a box."""
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y2, x1, y2]]


def masked(boxes: list[list[float]], kind: str = "polygon", seed: int = 0) -> dict[str, Any]:
    """Return an image with boxes and masks."""
    result = record(SIZE, boxes, seed)
    masks = PolygonMasks([polygon(box) for box in boxes])
    bits = BitMasks.from_polygon_masks(masks, *SIZE)
    result["instances"].gt_masks = masks if kind == "polygon" else bits
    return result


def foreground(boxes: list[list[float]], classes: list[int], masks: Any) -> Instances:
    return Instances(
        SIZE,
        proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
        gt_masks=masks,
    )


class TestLoss:
    def instances(self) -> list[Instances]:
        masks = PolygonMasks([polygon(SQUARE), polygon(WIDE)])
        first = foreground([SQUARE, [12.0, 15, 70, 80]], [2, 0], masks)
        return [first, foreground([], [], PolygonMasks([])), foreground([WIDE], [1], masks[1:])]

    @pytest.mark.parametrize("classes", [3, 1])
    def test_is_the_mean_over_the_masks_of_each_class(self, classes: int) -> None:
        instances = self.instances()
        logits = torch.randn(3, classes, 14, 14)
        targets = torch.cat(
            [own.gt_masks.crop_and_resize(own.proposal_boxes.tensor, 14) for own in instances]
        )
        own = logits[torch.arange(3), torch.tensor([2, 0, 1]) if classes == 3 else 0]
        expected = F.binary_cross_entropy_with_logits(own, targets.float())
        torch.testing.assert_close(mask_rcnn_loss(logits, instances), expected)

    def test_without_proposals_there_is_a_gradient_of_zeros(self) -> None:
        logits = torch.zeros(0, 3, 14, 14, requires_grad=True)
        loss = mask_rcnn_loss(logits * 1.0, self.instances()[1:2])
        loss.backward()
        assert loss == 0
        assert logits.grad is not None

    def test_bit_masks_are_cropped_as_each_image_would(self) -> None:
        bits = [BitMasks(torch.rand(2, *SIZE) < 0.5), BitMasks(torch.rand(1, 50, 64) < 0.5)]
        boxes = [[SQUARE, WIDE], [[3.5, 4.5, 64, 50]]]
        instances = [foreground(b, [0] * len(b), m) for b, m in zip(boxes, bits, strict=True)]
        targets = torch.cat(
            [own.gt_masks.crop_and_resize(own.proposal_boxes.tensor, 14) for own in instances]
        )
        logits = torch.randn(3, 1, 14, 14)
        expected = F.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
        torch.testing.assert_close(mask_rcnn_loss(logits, instances), expected)

    def test_masks_of_user_code(self) -> None:
        class Full:
            def __init__(self, count: int) -> None:
                self.count = count

            def __len__(self) -> int:
                return self.count

            def crop_and_resize(self, boxes: Tensor, size: int) -> Tensor:
                return torch.ones(len(boxes), size, size, dtype=torch.bool)

        logits = torch.full((2, 1, 4, 4), 20.0)
        assert mask_rcnn_loss(logits, [foreground([SQUARE, WIDE], [0, 1], Full(2))]) < 1e-6

    def test_missing_masks_are_named(self) -> None:
        own = foreground([SQUARE], [0], PolygonMasks([polygon(SQUARE)]))
        own.remove("gt_masks")
        with pytest.raises(ValueError, match=r"gt_masks.*MODEL.MASK_ON.*'segmentation'"):
            mask_rcnn_loss(torch.zeros(1, 3, 14, 14), [own])


class TestInference:
    @pytest.mark.parametrize("classes", [3, 1])
    def test_probabilities_of_each_detections_class(self, classes: int) -> None:
        found = [
            Instances(
                SIZE, pred_boxes=Boxes([WIDE] * len(own)), pred_classes=torch.tensor(own).long()
            )
            for own in ([2, 0], [], [1])
        ]
        logits = torch.randn(3, classes, 14, 14)
        mask_rcnn_inference(logits, found)
        assert [own.pred_masks.shape for own in found] == [(n, 1, 14, 14) for n in (2, 0, 1)]
        expected = logits[0, 2 if classes == 3 else 0].sigmoid()
        torch.testing.assert_close(found[0].pred_masks[0, 0], expected)

    def test_no_images(self) -> None:
        mask_rcnn_inference(torch.zeros(0, 3, 14, 14), [])


def test_the_head_has_detectron2s_names_and_doubles_the_side() -> None:
    cfg = tiny_config(MASKS, [("MODEL.ROI_MASK_HEAD.NUM_CONV", 2)])
    head = build_mask_head(cfg, ShapeSpec(channels=8, height=14, width=14))
    assert isinstance(head, MaskRCNNConvUpsampleHead)
    names = {name.rpartition(".")[0] for name in head.state_dict()}
    assert names == {"mask_fcn1", "mask_fcn2", "deconv", "predictor"}
    assert head.layers(torch.zeros(2, 8, 14, 14)).shape == (2, 3, 28, 28)
    assert head.layers(torch.zeros(0, 8, 14, 14)).shape == (0, 3, 28, 28)
    agnostic = tiny_config(MASKS, [("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True)])
    shared = build_mask_head(agnostic, ShapeSpec(channels=8))
    assert shared.layers(torch.zeros(2, 8, 14, 14)).shape == (2, 1, 28, 28)
    with pytest.raises(ValueError, match="conv_dims"):
        MaskRCNNConvUpsampleHead(ShapeSpec(channels=8), num_classes=3, conv_dims=[])


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_detection(kind: str) -> None:
    model = build_model(tiny_config(*KINDS[kind], MASKS)).train()
    records = [masked([SQUARE, WIDE]), record(SIZE, [], seed=1)]
    losses = model(records)
    assert losses["loss_mask"] > 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if kind == "C4":
        assert "mask_rcnn/accuracy" in model.roi_heads.mask_head.metrics
    model.eval()
    model.roi_heads.box_predictor = _everything(model.roi_heads.box_predictor)
    with torch.no_grad():
        outputs = model([{**r, "height": 48, "width": 64} for r in records])
    for output in outputs:
        found = output["instances"]
        assert found.pred_masks.shape == (len(found), 48, 64)
        assert found.pred_masks.dtype == torch.bool
        assert len(found) > 0


def _everything(predictor: Any) -> Any:
    """Let a predictor return detections of every score."""
    for own in predictor if isinstance(predictor, nn.ModuleList) else [predictor]:
        own.test_score_thresh = 0.0
        own.test_topk_per_image = 5
    return predictor


@torch.no_grad()
def test_polygons_and_bit_masks_train_alike() -> None:
    """A box is as large as its object here, and the sides of its mask are straight lines."""
    model = build_model(tiny_config(FPN, MASKS)).train()
    losses = []
    for kind in ("polygon", "bitmask"):
        torch.manual_seed(1)
        losses.append(float(model([masked([SQUARE, WIDE], kind)])["loss_mask"]))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_an_image_without_annotations_may_lack_the_field() -> None:
    model = build_model(tiny_config(FPN, MASKS)).train()
    empty = record(SIZE, [], seed=1)
    for records in ([empty, masked([SQUARE])], [masked([SQUARE]), empty], [empty, empty]):
        losses = model(records)
        assert losses["loss_mask"].isfinite()
        sum(losses.values()).backward()


@torch.no_grad()
def test_given_boxes() -> None:
    """Masks of given boxes are those of the detections with these boxes."""
    model = build_model(tiny_config(FPN, MASKS)).eval()
    model.roi_heads.box_predictor = _everything(model.roi_heads.box_predictor)
    records = [record(SIZE, seed=i) for i in range(2)]
    detected = model.inference(records, do_postprocess=False)
    given = [
        Instances(SIZE, pred_boxes=own.pred_boxes, pred_classes=own.pred_classes)
        for own in detected
    ]
    again = model.inference(records, given, do_postprocess=False)
    for a, b in zip(detected, again, strict=True):
        torch.testing.assert_close(a.pred_masks, b.pred_masks)


def test_probes_show_each_image_and_change_nothing() -> None:
    model = build_model(tiny_config(FPN, MASKS)).train()
    records = [masked([SQUARE, WIDE], seed=i) for i in range(2)]
    losses, events = [], []
    for watcher in (None, lambda name, values: events.append((name, values))):
        torch.manual_seed(1)
        if watcher is None:
            losses.append(model(records))
        else:
            with watching(watcher):
                losses.append(model(records))
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    shown = [values for name, values in events if name == "mask.targets"]
    assert [values["image"] for values in shown] == [0, 1]
    for values in shown:
        count = len(values["boxes"])
        assert values["targets"].shape == values["logits"].shape == (count, 28, 28)


def test_a_registered_head_of_user_code() -> None:
    @ROI_MASK_HEAD_REGISTRY.register()
    class OneLayerMaskHead(BaseMaskRCNNHead):
        def __init__(self, cfg: Any, input_shape: ShapeSpec) -> None:
            super().__init__(loss_weight=2.0)
            self.conv = nn.Conv2d(input_shape.channels or 0, cfg.MODEL.ROI_HEADS.NUM_CLASSES, 1)

        def layers(self, x: Tensor) -> Tensor:
            return self.conv(x)

    try:
        name = ("MODEL.ROI_MASK_HEAD.NAME", "OneLayerMaskHead")
        model = build_model(tiny_config(FPN, MASKS, [name])).train()
    finally:
        ROI_MASK_HEAD_REGISTRY._obj_map.pop("OneLayerMaskHead")
    losses = model([masked([SQUARE])])
    assert losses["loss_mask"] > 0
    with torch.no_grad():
        assert model.eval()([record(SIZE)])[0]["instances"].has("pred_masks")


def test_without_pooler_the_head_gets_the_feature_maps() -> None:
    seen = []

    @ROI_MASK_HEAD_REGISTRY.register()
    class WholeMaps(nn.Module):
        def __init__(self, cfg: Any, input_shape: dict[str, ShapeSpec]) -> None:
            super().__init__()
            seen.append(sorted(input_shape))

        def forward(self, x: dict[str, Tensor], instances: list[Instances]) -> dict[str, Tensor]:
            seen.append(sorted(x))
            return {}

    try:
        options = [
            ("MODEL.ROI_MASK_HEAD.NAME", "WholeMaps"),
            ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""),
        ]
        model = build_model(tiny_config(FPN, MASKS, options)).train()
    finally:
        ROI_MASK_HEAD_REGISTRY._obj_map.pop("WholeMaps")
    model([masked([SQUARE])])
    assert seen == [["p2", "p3", "p4", "p5"]] * 2
