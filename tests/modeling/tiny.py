"""Small detectors and inputs for the tests of whole models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lucidet.config import CfgNode, get_cfg
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances

# A ResNet-50 of 1/8 of the width: all of its blocks, in 40 ms on one core.
NARROW_RESNET = [
    ("MODEL.DEVICE", "cpu"),
    ("MODEL.WEIGHTS", ""),
    ("MODEL.RESNETS.DEPTH", 50),
    ("MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
    ("MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", 8),
    ("MODEL.RESNETS.NORM", "BN"),
    ("MODEL.BACKBONE.FREEZE_AT", 0),
    ("MODEL.ROI_HEADS.NUM_CLASSES", 3),
    ("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"),
    ("MODEL.ROI_BOX_HEAD.NUM_FC", 2),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", 32),
    ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
    ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32),
    ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100),
    ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 50),
    ("MODEL.RPN.PRE_NMS_TOPK_TEST", 50),
    ("MODEL.RPN.POST_NMS_TOPK_TEST", 20),
]

FPN = [
    ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
    ("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
    ("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
    ("MODEL.FPN.OUT_CHANNELS", 16),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [128], [256]]),
    ("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
    ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    ("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
]
C4 = [("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 14)]
DC5 = [
    ("MODEL.RESNETS.OUT_FEATURES", ["res5"]),
    ("MODEL.RESNETS.RES5_DILATION", 2),
    ("MODEL.RPN.IN_FEATURES", ["res5"]),
    ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    ("MODEL.ROI_HEADS.IN_FEATURES", ["res5"]),
]
CASCADE = [
    ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
    ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
]
DENSE = [
    ("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
    ("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
    ("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]),
    ("MODEL.FPN.OUT_CHANNELS", 64),  # GroupNorm: 2 channels for each of 32 groups
]
RETINANET = [
    *DENSE,
    ("MODEL.META_ARCHITECTURE", "RetinaNet"),
    ("MODEL.RETINANET.NUM_CLASSES", 3),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]]),
]
ATSS = [*DENSE, ("MODEL.META_ARCHITECTURE", "ATSS"), ("MODEL.ATSS.NUM_CLASSES", 3)]
FCOS = [*DENSE, ("MODEL.META_ARCHITECTURE", "FCOS"), ("MODEL.FCOS.NUM_CLASSES", 3)]
PROPOSALS = [("MODEL.META_ARCHITECTURE", "ProposalNetwork")]


def tiny_config(*parts: list[tuple[str, Any]]) -> CfgNode:
    """Return the default config with a narrow ResNet and then the keys of `parts`."""
    cfg = get_cfg()
    for part in (NARROW_RESNET, *parts):
        cfg.merge_from_list([item for pair in part for item in pair])
    return cfg


def objects(
    size: tuple[int, int], boxes: list[list[float]], classes: list[int] | None = None
) -> Instances:
    """Return ground truth of an image of `size` (height, width); classes default to 0."""
    return Instances(
        size,
        gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        gt_classes=torch.tensor(classes or [0] * len(boxes), dtype=torch.int64),
    )


def record(
    size: tuple[int, int], boxes: list[list[float]] | None = None, seed: int = 0, **more: Any
) -> dict[str, Any]:
    """Return one image of noise as a detector takes it, with objects unless `boxes` is None."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    result: dict[str, Any] = {"image": image, **more}
    if boxes is not None:
        result["instances"] = objects(size, boxes)
    return result


def tiny_model(cfg: CfgNode, seed: int = 0) -> nn.Module:
    """Return a detector with random weights that behaves like a trained one.

    Its norms know the statistics of noise images, so that activations are of order one, and its
    last layers are spread, so that scores don't tie.
    """
    torch.manual_seed(seed)
    model = build_model(cfg)
    last_layers = ("cls_", "objectness", "anchor_deltas", "bbox_pred", "centerness")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(word in name for word in last_layers):
                parameter.add_(0.05 * torch.randn_like(parameter))
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        model.train()([record((96, 128), [[10.0, 10, 60, 70]], seed=i) for i in range(2)])
        for norm in norms:
            norm.momentum = 0.1
    return model
