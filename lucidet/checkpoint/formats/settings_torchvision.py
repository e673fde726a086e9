"""The config that goes with a torchvision detector's weights, read off the weights.

The same values as in ``configs/torchvision``, whose comments explain them; a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lucidet.checkpoint.formats.resnet import imagenet_rgb
from lucidet.data.datasets.builtin_meta import COCO_CATEGORIES

_RETINANET_SIZES = [
    [32, 40, 50],
    [64, 80, 101],
    [128, 161, 203],
    [256, 322, 406],
    [512, 645, 812],
]
_SIZES = [32, 64, 128, 256, 512]
#: torchvision's labels are COCO's ids, 1 to 90, ten of them without a category; 0 is background
_COCO_LABELS = range(91)
_COCO_KEYPOINTS = 17
#: blocks of layer1 ... layer4 -> depth, for ResNets of bottlenecks and of basic blocks
_DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_BASIC_DEPTHS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}


def detector_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return config keys and values for a detector with torchvision's `weights` (its names).

    Not in the weights, and set as in torchvision's published models: sizes and ratios of anchors
    (ratios 0.5, 1, 2), thresholds, the norms' epsilon (see `docs/weights.md`). Weights with as
    many outputs as torchvision's for COCO are taken for weights trained on COCO.
    """
    settings = imagenet_rgb() | {
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.ANCHOR_GENERATOR.ROUND": True,
        "MODEL.ANCHOR_GENERATOR.MEASURE_STRIDES": True,
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    }
    two_stage = "rpn.head.cls_logits.weight" in weights
    settings |= _faster_rcnn(weights) if two_stage else _dense(weights)
    return settings | _backbone(weights, two_stage)


def _trained_for_coco(num_classes: int, first: int) -> dict[str, Any]:
    """Return what the classes are in COCO's data sets; {} where the number is not COCO's.

    Args:
        num_classes: K, of lucidet's model.
        first: torchvision's label of class 0.
    """
    labels = _COCO_LABELS[first:]
    if num_classes != len(labels):
        return {}
    contiguous = {category["id"]: k for k, category in enumerate(COCO_CATEGORIES)}
    return {
        "MODEL.CLASS_MAP": [contiguous.get(label, -1) for label in labels],
        "DATASETS.TEST": ("coco_2017_val",),
    }


def _backbone(weights: Mapping[str, Tensor], two_stage: bool) -> dict[str, Any]:
    levels = len({n.split(".")[3] for n in weights if n.startswith("backbone.fpn.inner_blocks.")})
    # without counters the file was saved from frozen norms
    frozen = not any(name.endswith("num_batches_tracked") for name in weights)
    norm = "FrozenBN" if frozen else "BN"
    if "backbone.body.16.0.weight" in weights:
        return {
            "MODEL.BACKBONE.NAME": "build_mobilenet_fpn_backbone",
            "MODEL.MOBILENET.NORM": norm,
            "MODEL.BACKBONE.FREEZE_AT": 3 if frozen else 0,
            "MODEL.FPN.IN_FEATURES": ["c4", "c5"],
            "MODEL.FPN.LEVELS": [4, 5],
        }
    settings = _resnet(weights) | {
        "MODEL.RESNETS.NORM": norm,
        "MODEL.BACKBONE.FREEZE_AT": 2 if frozen else 0,
    }
    if levels == 0:
        return settings | {
            "MODEL.BACKBONE.NAME": "build_resnet_backbone",
            "MODEL.BACKBONE.SIZE_DIVISIBILITY": 32,
            "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        }
    maps = [f"res{i}" for i in range(6 - levels, 6)]
    fpn_norm = "BN" if "backbone.fpn.inner_blocks.0.1.weight" in weights else ""
    settings |= {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": maps,
        "MODEL.FPN.IN_FEATURES": maps,
        "MODEL.FPN.NORM": fpn_norm,
    }
    if not two_stage:
        top = weights["backbone.fpn.extra_blocks.p6.weight"].shape[1]
        out = weights["backbone.fpn.extra_blocks.p6.weight"].shape[0]
        settings["MODEL.BACKBONE.NAME"] = "build_retinanet_resnet_fpn_backbone"
        settings["MODEL.FPN.TOP_BLOCK_IN_FEATURE"] = "p5" if top == out else "res5"
    return settings


def _resnet(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return depth and widths of a ResNet below ``backbone.body``, by its blocks."""
    parts = [name.split(".") for name in weights if name.startswith("backbone.body.layer")]
    blocks = tuple(len({p[3] for p in parts if p[2] == f"layer{i}"}) for i in range(1, 5))
    bottleneck = "backbone.body.layer1.0.conv3.weight" in weights
    depth = (_DEPTHS if bottleneck else _BASIC_DEPTHS).get(blocks)
    if depth is None:  # a backbone with other names: the reader has to say
        return {}
    settings: dict[str, Any] = {"MODEL.RESNETS.DEPTH": depth}
    if not bottleneck:
        settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
        return settings
    width, group_width = weights["backbone.body.layer1.0.conv2.weight"].shape[:2]
    if width != group_width:
        settings["MODEL.RESNETS.NUM_GROUPS"] = width // group_width
    settings["MODEL.RESNETS.WIDTH_PER_GROUP"] = group_width
    return settings


def _faster_rcnn(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    inner = {n.split(".")[3] for n in weights if n.startswith("backbone.fpn.inner_blocks.")}
    finest = 6 - len(inner)
    if inner:
        levels = [f"p{i}" for i in range(finest, 7)]
        pooled = levels[:1] if len(inner) == 2 else levels[:-1]
    else:
        levels = pooled = ["res5"]
    several_sizes = len(weights["rpn.head.cls_logits.weight"]) > 3
    classes = len(weights["roi_heads.box_predictor.cls_score.weight"]) - 1
    rpn_convs = {n.split(".")[3] for n in weights if n.startswith("rpn.head.conv.")}
    box_convs = {n.split(".")[2] for n in weights if _is_box_conv(n)}
    further = _masks(weights) | _keypoints(weights)
    return (
        _trained_for_coco(classes, first=1)
        | further
        | {
            "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
            "MODEL.ANCHOR_GENERATOR.SIZES": [_SIZES] if several_sizes else [[s] for s in _SIZES],
            "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0.001,
            "MODEL.RPN.IN_FEATURES": levels,
            "MODEL.RPN.CONV_DIMS": [-1] * sum(number.isdigit() for number in rpn_convs) or [-1],
            "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
            "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
            "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
            "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
            "MODEL.RPN.SCORE_THRESH": 0.05 if len(inner) == 2 else 0.0,
            "MODEL.RPN.SMOOTH_L1_BETA": 1 / 9,
            "MODEL.RPN.NORMALIZE_BY_SAMPLED": True,
            "MODEL.RPN.RANK_PROBABILITIES": True,
            "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
            "MODEL.ROI_HEADS.IN_FEATURES": pooled,
            "MODEL.ROI_HEADS.NUM_CLASSES": classes,
            "MODEL.ROI_HEADS.MIN_BOX_SIZE_TEST": 0.01,
            "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
            "MODEL.ROI_BOX_HEAD.NUM_CONV": len(box_convs),
            "MODEL.ROI_BOX_HEAD.NUM_FC": 1 if box_convs else 2,
            "MODEL.ROI_BOX_HEAD.NORM": "BN" if box_convs else "",
            "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
            "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1 / 9,
        }
    )


def _masks(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the keys of a mask head, where there is one."""
    if "roi_heads.mask_predictor.mask_fcn_logits.weight" not in weights:
        return {}
    head = "roi_heads.mask_head."
    convs = [n for n in weights if n.startswith(head) and weights[n].dim() == 4]
    return {
        "MODEL.MASK_ON": True,
        "MODEL.ROI_MASK_HEAD.NUM_CONV": len(convs),
        "MODEL.ROI_MASK_HEAD.NORM": "BN" if f"{head}0.1.weight" in weights else "",
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
        "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 2,
        "MODEL.ROI_MASK_HEAD.SOFT_TARGETS": True,
        "MODEL.ROI_MASK_HEAD.PASTE_WHOLE_PIXELS": True,
    }


def _keypoints(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the keys of a keypoint head, where there is one."""
    last = weights.get("roi_heads.keypoint_predictor.kps_score_lowres.weight")
    if last is None:
        return {}
    head = "roi_heads.keypoint_head."
    convs = sorted(
        (n for n in weights if n.startswith(head) and weights[n].dim() == 4),
        key=lambda name: int(name.split(".")[2]),
    )
    settings: dict[str, Any] = {
        "MODEL.KEYPOINT_ON": True,
        "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": tuple(len(weights[name]) for name in convs),
        "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": last.shape[1],
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": "ROIAlign",
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": 14,
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO": 2,
    }
    if last.shape[1] == _COCO_KEYPOINTS:
        settings["DATASETS.TEST"] = ("keypoints_coco_2017_val",)
    return settings


def _is_box_conv(name: str) -> bool:
    return name.startswith("roi_heads.box_head.") and name.endswith(".0.weight")


def _dense(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    anchors = len(weights["head.regression_head.bbox_reg.weight"]) // 4
    classes = len(weights["head.classification_head.cls_logits.weight"]) // anchors
    settings = _trained_for_coco(classes, first=0) | {
        "TEST.KEEP_EMPTY_BOXES": True,
        "TEST.CLIP_BEFORE_NMS": True,
    }
    if "head.regression_head.bbox_ctrness.weight" in weights:
        return settings | {
            "MODEL.META_ARCHITECTURE": "FCOS",
            "MODEL.FCOS.NUM_CLASSES": classes,
            "MODEL.FCOS.OFFSET": 0.0,
            "MODEL.FCOS.LOSS_NORMALIZER": "batch",
        }
    second = "head.classification_head.conv.0.1.weight" in weights
    return settings | {
        "MODEL.META_ARCHITECTURE": "RetinaNet",
        "MODEL.ANCHOR_GENERATOR.SIZES": _RETINANET_SIZES,
        "MODEL.RETINANET.NUM_CLASSES": classes,
        "MODEL.RETINANET.NORM": "GN" if second else "",
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou" if second else "smooth_l1",
        "MODEL.RETINANET.LOSS_NORMALIZER": "image",
        "TEST.DETECTIONS_PER_IMAGE": 300,
    }
