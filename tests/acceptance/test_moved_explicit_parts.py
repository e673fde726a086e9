"""Detectors assembled in Python, without a config, as for detectron2."""

from __future__ import annotations

from typing import Any


def test_detectors_of_explicit_parts(run: Any) -> None:
    found = run(
        """
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, GeneralizedRCNN, ResNet
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead, FastRCNNOutputLayers, StandardROIHeads,
)
from detectron2.structures import Boxes, Instances

def bottom_up(features):
    return ResNet(
        stem=BasicStem(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=ResNet.make_default_stages(depth=18, norm="FrozenBN"),
        out_features=features,
    )

rcnn = GeneralizedRCNN(
    backbone=FPN(
        bottom_up=bottom_up(["res2", "res3", "res4", "res5"]),
        in_features=["res2", "res3", "res4", "res5"],
        out_channels=16,
        top_block=LastLevelMaxPool(),
    ),
    proposal_generator=RPN(
        in_features=["p2", "p3", "p4", "p5", "p6"],
        head=StandardRPNHead(in_channels=16, num_anchors=3),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=Matcher(
            thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=Box2BoxTransform(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(200, 100),
        post_nms_topk=(100, 100),
        nms_thresh=0.7,
    ),
    roi_heads=StandardROIHeads(
        num_classes=80,
        batch_size_per_image=64,
        positive_fraction=0.25,
        proposal_matcher=Matcher(
            thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
        ),
        box_in_features=["p2", "p3", "p4", "p5"],
        box_pooler=ROIPooler(
            output_size=7,
            scales=(1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32),
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        ),
        box_head=FastRCNNConvFCHead(
            input_shape=ShapeSpec(channels=16, height=7, width=7),
            conv_dims=[],
            fc_dims=[32, 32],
        ),
        box_predictor=FastRCNNOutputLayers(
            input_shape=ShapeSpec(channels=32),
            test_score_thresh=0.05,
            box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
            num_classes=80,
        ),
    ),
    pixel_mean=[103.530, 116.280, 123.675],
    pixel_std=[1.0, 1.0, 1.0],
    input_format="BGR",
)
retinanet = RetinaNet(
    backbone=FPN(
        bottom_up=bottom_up(["res3", "res4", "res5"]),
        in_features=["res3", "res4", "res5"],
        out_channels=16,
        top_block=LastLevelP6P7(in_channels=512, out_channels=16, in_feature="res5"),
    ),
    head=RetinaNetHead(
        input_shape=[ShapeSpec(channels=16)] * 5,
        num_classes=80,
        conv_dims=[16, 16],
        prior_prob=0.01,
        num_anchors=9,
    ),
    anchor_generator=DefaultAnchorGenerator(
        sizes=[[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[8, 16, 32, 64, 128],
        offset=0.0,
    ),
    box2box_transform=Box2BoxTransform(weights=[1.0, 1.0, 1.0, 1.0]),
    anchor_matcher=Matcher(
        thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True
    ),
    num_classes=80,
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    focal_loss_alpha=0.25,
    focal_loss_gamma=2.0,
    pixel_mean=[103.530, 116.280, 123.675],
    pixel_std=[1.0, 1.0, 1.0],
    input_format="BGR",
)
instances = Instances((64, 64))
instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 40.0, 40.0]]))
instances.gt_classes = torch.tensor([3])
inputs = [{"image": torch.rand(3, 64, 64) * 255, "instances": instances}]
all_losses = []
for model in (rcnn, retinanet):
    all_losses.append(model(inputs))
    sum(all_losses[-1].values()).backward()
    with torch.no_grad():
        model.eval()(inputs)
"""
    )
    names = [set(losses) for losses in found["all_losses"]]
    assert names[0] == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert names[1] == {"loss_cls", "loss_box_reg"}
