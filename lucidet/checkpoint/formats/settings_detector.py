"""The config keys that can be read off a detector's weights under lucidet's names."""

# K classes, A anchors a cell

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lucidet.checkpoint.formats.settings_widths import width_settings

_BLOCK = re.compile(r"(?:.*\.)?res([2-5])\.(\d+)\.conv1\.weight")
#: blocks of res2, res3, res4 -> depth
_DEPTHS = {(2, 2, 2): 18, (3, 4, 6): 50, (3, 4, 23): 101, (3, 8, 36): 152}
#: mean and deviation of detectron2's ResNeXts, BGR
_RESNEXT_STD = [57.375, 57.120, 58.395]


def detector_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what the weights say of their config; values that they don't show stay out.

    Not to be seen are thresholds, anchors' sizes, dilation, and (unless the file holds it) how
    images are normalized: for these detectron2's defaults are right for its models. A ResNeXt gets
    the values of detectron2's.
    """
    settings = resnet_settings(weights) | _pyramid(weights) | _pixels(weights)
    if "proposal_generator.rpn_head.conv.weight" in weights or any(
        name.startswith("roi_heads.") for name in weights
    ):
        return settings | _two_stage(weights) | width_settings(weights)
    return settings | _dense(weights) | width_settings(weights)


def _pixels(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return how images are normalized, which detectron2 stores with a model."""
    names = {"pixel_mean": "MODEL.PIXEL_MEAN", "pixel_std": "MODEL.PIXEL_STD"}
    found = {names[name]: weights[name] for name in names if name in weights}
    return {key: [round(v, 4) for v in value.flatten().tolist()] for key, value in found.items()}


def resnet_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return depth, widths, norm and deformable stages of the ResNet among the weights."""
    blocks: dict[int, set[str]] = {}
    for name in weights:
        if match := _BLOCK.fullmatch(name):
            blocks.setdefault(int(match[1]), set()).add(match[2])
    counts = tuple(len(blocks.get(stage, ())) for stage in (2, 3, 4))
    if counts not in _DEPTHS:
        return {}
    first = next(n for n in weights if n.endswith("res2.0.conv1.weight"))
    block = first.removesuffix("conv1.weight")
    depth = _DEPTHS[counts]
    if f"{block}conv3.weight" not in weights:
        settings: dict[str, Any] = {
            "MODEL.RESNETS.DEPTH": 34 if depth == 50 else depth,
            "MODEL.RESNETS.RES2_OUT_CHANNELS": len(weights[first]),
        }
    else:
        width, group_width = weights[f"{block}conv2.weight"].shape[:2]
        settings = {
            "MODEL.RESNETS.DEPTH": depth,
            "MODEL.RESNETS.NUM_GROUPS": width // group_width,
            "MODEL.RESNETS.WIDTH_PER_GROUP": group_width,
        }
        if width != group_width:
            settings["MODEL.RESNETS.STRIDE_IN_1X1"] = False
            settings["MODEL.PIXEL_STD"] = _RESNEXT_STD
    settings["MODEL.RESNETS.NORM"] = _norm(weights, f"{block}conv1.norm")
    deformable = [
        any(f"res{i}." in n and "conv2_offset" in n for n in weights) for i in range(2, 6)
    ]
    settings["MODEL.RESNETS.DEFORM_ON_PER_STAGE"] = deformable
    offsets = next((t for n, t in weights.items() if n.endswith("conv2_offset.weight")), None)
    settings["MODEL.RESNETS.DEFORM_MODULATED"] = offsets is not None and len(offsets) % 27 == 0
    return settings


def _norm(weights: Mapping[str, Tensor], norm: str) -> str:
    if f"{norm}.num_batches_tracked" in weights:
        return "BN"
    return "FrozenBN" if f"{norm}.running_mean" in weights else "GN"


def _pyramid(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    levels = sorted(
        {int(m[1]) for m in map(re.compile(r"backbone\.fpn_lateral(\d)\..*").match, weights) if m}
    )
    if not levels:
        return {"MODEL.BACKBONE.NAME": "build_resnet_backbone"}
    maps = [f"res{level}" for level in levels]
    settings: dict[str, Any] = {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": maps,
        "MODEL.FPN.IN_FEATURES": maps,
    }
    if f"backbone.fpn_lateral{levels[0]}.norm.weight" in weights:
        settings["MODEL.FPN.NORM"] = _norm(weights, f"backbone.fpn_lateral{levels[0]}.norm")
    top = weights.get("backbone.top_block.p6.weight")
    if top is not None:
        settings["MODEL.BACKBONE.NAME"] = "build_retinanet_resnet_fpn_backbone"
        settings["MODEL.FPN.TOP_BLOCK_IN_FEATURE"] = (
            "p5" if top.shape[0] == top.shape[1] else "res5"
        )
    return settings


def _two_stage(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    roi = any(name.startswith("roi_heads.") for name in weights)
    settings: dict[str, Any] = {
        "MODEL.META_ARCHITECTURE": "GeneralizedRCNN" if roi else "ProposalNetwork"
    }
    if any(name.startswith("backbone.fpn_") for name in weights):
        settings |= {
            "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
            "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
            "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
            "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
            "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
        }
        if roi:
            settings |= {
                "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
                "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
                "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
                "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
            }
    for kind, key in (("fc", "NUM_FC"), ("conv", "NUM_CONV")):
        pattern = re.compile(rf"roi_heads\.box_head\.{kind}\d+\.weight")
        count = sum(bool(pattern.fullmatch(name)) for name in weights)
        if count:
            settings[f"MODEL.ROI_BOX_HEAD.{key}"] = count
    if "roi_heads.box_head.conv1.norm.weight" in weights:
        settings["MODEL.ROI_BOX_HEAD.NORM"] = _norm(weights, "roi_heads.box_head.conv1.norm")
    scores = weights.get("roi_heads.box_predictor.cls_score.weight")
    boxes = weights.get("roi_heads.box_predictor.bbox_pred.weight")
    if scores is not None and boxes is not None:
        settings["MODEL.ROI_HEADS.NUM_CLASSES"] = len(scores) - 1
        settings["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"] = (
            len(boxes) == 4 < 4 * (len(scores) - 1)
        )
    return settings | _masks_and_keypoints(weights)


def _masks_and_keypoints(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the keys of the heads for masks and keypoints, where there are any."""
    settings: dict[str, Any] = {}
    masks = weights.get("roi_heads.mask_head.predictor.weight")
    if masks is not None:
        classes = (
            len(weights["roi_heads.box_predictor.cls_score.weight"]) - 1
            if ("roi_heads.box_predictor.cls_score.weight" in weights)
            else None
        )
        convs = [
            n for n in weights if re.fullmatch(r"roi_heads\.mask_head\.mask_fcn\d+\.weight", n)
        ]
        settings["MODEL.MASK_ON"] = True
        settings["MODEL.ROI_MASK_HEAD.NUM_CONV"] = len(convs)
        settings["MODEL.ROI_MASK_HEAD.CONV_DIM"] = masks.shape[1]
        settings["MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"] = len(masks) == 1 and classes != 1
        if "roi_heads.mask_head.mask_fcn1.norm.weight" in weights:
            norm = _norm(weights, "roi_heads.mask_head.mask_fcn1.norm")
            settings["MODEL.ROI_MASK_HEAD.NORM"] = norm
    keypoints = weights.get("roi_heads.keypoint_head.score_lowres.weight")
    if keypoints is not None:
        pattern = re.compile(r"roi_heads\.keypoint_head\.conv_fcn(\d+)\.weight")
        numbered = {int(found[1]): n for n in weights if (found := pattern.fullmatch(n))}
        convs = [numbered[number] for number in sorted(numbered)]
        settings["MODEL.KEYPOINT_ON"] = True
        settings["MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"] = tuple(len(weights[n]) for n in convs)
        settings["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"] = keypoints.shape[1]
    return settings


def _dense(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    if "head.cls_score.weight" not in weights:
        return {}
    anchors = len(weights["head.bbox_pred.weight"]) // 4
    classes = len(weights["head.cls_score.weight"]) // anchors
    norm = "GN" if "head.cls_subnet.1.weight" in weights else ""
    if "head.ctrness.weight" not in weights:
        octaves = [[size * 2 ** (i / 3) for i in range(3)] for size in (32, 64, 128, 256, 512)]
        return {
            "MODEL.META_ARCHITECTURE": "RetinaNet",
            "MODEL.RETINANET.NUM_CLASSES": classes,
            "MODEL.RETINANET.NORM": norm,
            "MODEL.ANCHOR_GENERATOR.SIZES": octaves,
        }
    name = "ATSS" if "head.scales" in weights else "FCOS"
    settings = {
        "MODEL.META_ARCHITECTURE": name,
        f"MODEL.{name}.NUM_CLASSES": classes,
        f"MODEL.{name}.NORM": norm,
    }
    if any(n.startswith("head.cls_subnet.") and ".offset." in n for n in weights):
        settings[f"MODEL.{name}.USE_DCN_IN_TOWER"] = True
    return settings
