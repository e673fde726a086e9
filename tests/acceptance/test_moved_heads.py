"""ROI heads, predictors and spines of users that reach into the detector's inside."""

from __future__ import annotations

from typing import Any

from tests.acceptance.moved_code import BALLOONS, CONFIG

ONE_IMAGE = """
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

def losses_and_detections(cfg):
    truth = Instances((48, 64))
    truth.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 30.0, 30.0]]))
    truth.gt_classes = torch.tensor([0])
    inputs = [{"image": torch.rand(3, 48, 64) * 255, "instances": truth}]
    model = build_model(cfg)
    with EventStorage():
        losses = model(inputs)
    sum(losses.values()).backward()
    with torch.no_grad():
        return losses, model.eval()(inputs)
"""


def test_heads_with_a_forward_of_their_own(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + ONE_IMAGE
        + """
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads

@ROI_HEADS_REGISTRY.register()
class MovedForward(StandardROIHeads):
    def forward(self, images, features, proposals, targets=None):
        if not self.training:
            detections = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals)
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(self, features, instances):
        assert not (self.mask_on or self.keypoint_on)
        instances = self._forward_mask(features, instances)
        return self._forward_keypoint(features, instances)

cfg.MODEL.ROI_HEADS.NAME = "MovedForward"
losses, outputs = losses_and_detections(cfg)
"""
    )
    assert {"loss_cls", "loss_box_reg"} < set(found["losses"])
    assert found["outputs"][0]["instances"].has("pred_boxes")


def test_predictor_with_losses_of_its_own(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + ONE_IMAGE
        + """
from detectron2.config import configurable
from detectron2.layers import cat, cross_entropy
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.box_regression import _dense_box_regression_loss
from detectron2.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers, _log_classification_stats, fast_rcnn_inference,
)

class Sharpened(FastRCNNOutputLayers):
    @configurable
    def __init__(self, input_shape, *, temperature, **rest):
        super().__init__(input_shape, **rest)
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {**super().from_config(cfg, input_shape), "temperature": 0.5}

    def losses(self, predictions, proposals):
        scores, deltas = predictions
        classes = cat([p.gt_classes for p in proposals])
        _log_classification_stats(scores, classes)
        at = (classes < self.num_classes).nonzero()[:, 0]
        boxes = cat([p.proposal_boxes.tensor for p in proposals])[at]
        truth = cat([p.gt_boxes.tensor for p in proposals])[at]
        chosen = deltas.view(len(deltas), -1, 4)[at, classes[at]]
        # all that is given is foreground: detectron2 writes an ellipsis for its mask
        regression = _dense_box_regression_loss(
            [boxes], self.box2box_transform, [chosen[None]], [truth], ...,
            self.box_reg_loss_type, self.smooth_l1_beta,
        )
        return {
            "loss_cls": cross_entropy(scores / self.temperature, classes),
            "loss_box_reg": regression / len(classes),
        }

@ROI_HEADS_REGISTRY.register()
class SharpenedHeads(StandardROIHeads):
    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        parts = super()._init_box_head(cfg, input_shape)
        parts["box_predictor"] = Sharpened(cfg, parts["box_head"].output_shape)
        return parts

cfg.MODEL.ROI_HEADS.NAME = "SharpenedHeads"
losses, outputs = losses_and_detections(cfg)
"""
    )
    assert set(found["losses"]) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


def test_spine_with_a_preparation_of_its_own(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + ONE_IMAGE
        + """
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import ImageList

@META_ARCH_REGISTRY.register()
class MovedSpine(GeneralizedRCNN):
    def preprocess_image(self, batched_inputs):
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        return ImageList.from_tensors(
            images,
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )

cfg.MODEL.META_ARCHITECTURE = "MovedSpine"
losses, outputs = losses_and_detections(cfg)

from detectron2.engine import DefaultPredictor
predictor = DefaultPredictor(cfg)
resized = predictor.transform_gen.get_transform(np.zeros((96, 128, 3), np.uint8))
"""
    )
    assert len(found["losses"]) == 4
    assert (found["resized"].new_h, found["resized"].new_w) == (48, 64)


def test_configs_with_masks_give_their_boxes(run: Any) -> None:
    found = run(
        BALLOONS
        + ONE_IMAGE
        + """
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.modeling.roi_heads import CascadeROIHeads

name = "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file(name))
url = model_zoo.get_checkpoint_url(name)
cfg.MODEL.MASK_ON = False
shrink(cfg)
losses, outputs = losses_and_detections(cfg)
heads = type(build_model(cfg).roi_heads)
"""
    )
    assert found["heads"] is found["CascadeROIHeads"]
    assert {f"loss_cls_stage{stage}" for stage in range(3)} < set(found["losses"])
    assert found["url"].endswith("144998488/model_final_480dd8.pkl")
