"""Subclasses written for detectron2 that skip the constructors of their parents."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    "how", ["nn.Module.__init__(self)", "super(GeneralizedRCNN, self).__init__()"]
)
def test_two_stages(run: Any, how: str) -> None:
    found = run(
        f"""
import torch
from torch import nn
from detectron2.config import get_cfg
from detectron2.modeling import GeneralizedRCNN, build_backbone, build_proposal_generator
from detectron2.modeling import build_roi_heads
from detectron2.structures import Boxes, Instances

class Mine(GeneralizedRCNN):
    def __init__(self, cfg):
        {how}
        self.backbone = build_backbone(cfg)
        self.proposal_generator = build_proposal_generator(cfg, self.backbone.output_shape())
        self.roi_heads = build_roi_heads(cfg, self.backbone.output_shape())
        self.input_format, self.vis_period = "BGR", 0
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.ones(3, 1, 1), False)

model = Mine(shrink(get_cfg()))
objects = Instances((64, 64), gt_boxes=Boxes([[5, 5, 40, 40]]), gt_classes=torch.zeros(1).long())
losses = model([{{"image": torch.zeros(3, 64, 64), "instances": objects}}])
with torch.no_grad():
    result = model.eval()([{{"image": torch.zeros(3, 64, 64)}}])
found = sorted(losses), len(result)
"""
    )["found"]
    assert found == (["loss_box_reg", "loss_cls", "loss_rpn_cls", "loss_rpn_loc"], 1)


def test_dense(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2.config import get_cfg
from detectron2.modeling import RetinaNet
from detectron2.structures import Boxes, Instances

cfg = shrink(get_cfg())
cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]

class Mine(RetinaNet):
    def __init__(self, cfg):
        nn.Module.__init__(self)
        arguments = RetinaNet.from_config(cfg)
        for name in ("pixel_mean", "pixel_std"):
            values = torch.tensor(arguments.pop(name)).view(-1, 1, 1)
            self.register_buffer(name, values, False)
        for name in (  # what lucidet's from_config has beyond detectron2's
            "legacy_plus_one", "loss_normalizer", "keep_empty_boxes", "clip_before_nms"
        ):
            arguments.pop(name, None)
        for name, value in arguments.items():
            setattr(self, name, value)

model = Mine(cfg)
objects = Instances((64, 64), gt_boxes=Boxes([[5, 5, 40, 40]]), gt_classes=torch.zeros(1).long())
losses = model([{"image": torch.zeros(3, 64, 64), "instances": objects}])
with torch.no_grad():
    result = model.eval()([{"image": torch.zeros(3, 64, 64)}])
found = sorted(losses), len(result)
"""
    )["found"]
    assert found == (["loss_box_reg", "loss_cls"], 1)


def test_region_proposals_and_heads(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, ROIHeads, StandardROIHeads

@PROPOSAL_GENERATOR_REGISTRY.register()
class OldRPN(RPN):
    def __init__(self, cfg, input_shape):
        nn.Module.__init__(self)
        a = RPN.from_config(cfg, input_shape)
        self.in_features, self.rpn_head = a["in_features"], a["head"]
        for name in ("anchor_generator", "anchor_matcher", "box2box_transform",
                     "batch_size_per_image", "positive_fraction", "nms_thresh",
                     "anchor_boundary_thresh", "box_reg_loss_type", "smooth_l1_beta"):
            setattr(self, name, a[name])
        self.pre_nms_topk = dict(zip((True, False), a["pre_nms_topk"]))
        self.post_nms_topk = dict(zip((True, False), a["post_nms_topk"]))
        self.min_box_size, self.loss_weight = 0.0, {"loss_rpn_cls": 1.0, "loss_rpn_loc": 1.0}

@ROI_HEADS_REGISTRY.register()
class OldHeads(StandardROIHeads):
    def __init__(self, cfg, input_shape):
        nn.Module.__init__(self)
        for name, value in ROIHeads.from_config.__func__(ROIHeads, cfg).items():
            setattr(self, name, value)
        self._init_box_head(cfg, input_shape)

    def _init_box_head(self, cfg, input_shape):
        for name, value in StandardROIHeads._init_box_head.__func__(
            StandardROIHeads, cfg, input_shape
        ).items():
            setattr(self, name, value)
        self.in_features = self.box_in_features
        self.train_on_pred_boxes = False

cfg = shrink(get_cfg())
cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
cfg.MODEL.PROPOSAL_GENERATOR.NAME, cfg.MODEL.ROI_HEADS.NAME = "OldRPN", "OldHeads"
from detectron2.structures import Boxes, Instances
objects = Instances((64, 64), gt_boxes=Boxes([[5, 5, 40, 40]]), gt_classes=torch.zeros(1).long())
losses = build_model(cfg)([{"image": torch.zeros(3, 64, 64), "instances": objects}])
found = sorted(losses)
"""
    )["found"]
    assert found == ["loss_box_reg", "loss_cls", "loss_rpn_cls", "loss_rpn_loc"]
