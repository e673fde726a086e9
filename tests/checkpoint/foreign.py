"""Small detectors, and their weights under the names of other libraries, made from lucidet's."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, get_cfg
from lucidet.modeling import build_model

BRANCHES = {"shortcut": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}
NUM_RATIOS = 3


def small_config(*overrides: object) -> CfgNode:
    """Return a Faster R-CNN with a pyramid, as narrow as its tests allow."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_list(
        [
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.FPN.OUT_CHANNELS", 32),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
            *("MODEL.RETINANET.NUM_CLASSES", 5, "MODEL.ATSS.NUM_CLASSES", 5),
        ]
    )
    cfg.merge_from_list(list(overrides))
    return cfg


FPN = [
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
    *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]]),
    *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
    *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 2),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 3),
]
MASKS_AND_KEYPOINTS = [
    *("MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.NUM_CONV", 2),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 8, "MODEL.KEYPOINT_ON", True),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (8, 8, 8)),
]
DENSE = [
    *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
    *("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
    *("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]),
]
RETINANET = [
    *DENSE,
    *("MODEL.META_ARCHITECTURE", "RetinaNet"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[s, s * 1.26, s * 1.59] for s in (32, 64, 128, 256, 512)]),
]
ATSS = [
    *DENSE,
    *("MODEL.META_ARCHITECTURE", "ATSS", "MODEL.FPN.TOP_BLOCK_IN_FEATURE", "p5"),
]


def build(*overrides: object) -> nn.Module:
    """Return a small detector with random numbers in every tensor."""
    model = build_model(small_config(*overrides))
    generator = torch.Generator().manual_seed(0)
    state = model.state_dict()
    with torch.no_grad():
        for value in state.values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model


def ratios_first(rows: Tensor, num_anchors: int) -> Tensor:
    """Put a predictor's rows into the order of other libraries."""
    if num_anchors <= NUM_RATIOS:
        return rows
    grouped = rows.reshape(num_anchors // NUM_RATIOS, NUM_RATIOS, -1, *rows.shape[1:])
    return grouped.transpose(0, 1).reshape(rows.shape)


def background_first(name: str, value: Tensor) -> Tensor:
    """Put background in front of the classes in a two-stage predictor's tensor."""
    if ".cls_score." in name:
        return torch.cat([value[-1:], value[:-1]])
    if "mask_head.predictor" in name:
        return torch.cat([torch.full_like(value[:1], 9.0), value])
    return torch.cat([torch.full_like(value[:4], 9.0), value])


def caffe2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the blobs of Detectron for a state dict; norms have scale and shift only."""
    blobs = {}
    blocks = {m[1]: m[2] for m in (re.search(r"(res\d)\.(\d+)\.", n) for n in state) if m}
    for name, value in state.items():
        if "running_" in name or "num_batches" in name:
            continue
        module, _, tensor = name.rpartition(".")
        end = "_w" if tensor == "weight" else "_b"
        if module.endswith(".norm"):
            module = module.removesuffix(".norm")
            end = "_bn_s" if tensor == "weight" else "_bn_b"
        if match := re.search(r"(res\d)\.(\d+)\.(\w+)$", module):
            blob = f"{match[1]}_{match[2]}_branch{BRANCHES[match[3]]}"
        elif module.endswith("stem.conv1"):
            blob = "res_conv1" if end.startswith("_bn") else "conv1"
        elif match := re.search(r"fpn_(lateral|output)(\d)$", module):
            stage = f"res{match[2]}"
            lateral = "" if match[2] == "5" else "_lateral"
            inner = f"inner_{stage}_{blocks[stage]}_sum{lateral}"
            blob = "fpn_" + (inner if match[1] == "lateral" else f"{stage}_{blocks[stage]}_sum")
        else:
            blob = _head_blob(module, "fpn_lateral2.weight" in " ".join(state))
        if "box_predictor" in name or "mask_head.predictor" in name:
            value = background_first(name, value)
        if blob in ("rpn_cls_logits", "rpn_bbox_pred"):
            anchors = len(state["proposal_generator.rpn_head.objectness_logits.weight"])
            value = ratios_first(value, anchors)
        blobs[blob + end] = value
    return blobs


def _head_blob(module: str, pyramid: bool) -> str:
    fpn = "_fpn2" if pyramid else ""
    names = {
        "proposal_generator.rpn_head.conv": f"conv_rpn{fpn}",
        "proposal_generator.rpn_head.objectness_logits": f"rpn_cls_logits{fpn}",
        "proposal_generator.rpn_head.anchor_deltas": f"rpn_bbox_pred{fpn}",
        "roi_heads.box_head.fc1": "fc6",
        "roi_heads.box_head.fc2": "fc7",
        "roi_heads.box_predictor.cls_score": "cls_score",
        "roi_heads.box_predictor.bbox_pred": "bbox_pred",
        "roi_heads.mask_head.deconv": "conv5_mask",
        "roi_heads.mask_head.predictor": "mask_fcn_logits",
        "roi_heads.keypoint_head.score_lowres": "kps_score_lowres",
        "backbone.top_block.p6": "fpn_6",
        "backbone.top_block.p7": "fpn_7",
        "head.cls_score": "retnet_cls_pred_fpn3",
        "head.bbox_pred": "retnet_bbox_pred_fpn3",
    }
    if match := re.fullmatch(r"head\.(cls|bbox)_subnet\.(\d)", module):
        return f"retnet_{match[1]}_conv_n{int(match[2]) // 2}_fpn3"
    if match := re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)", module):
        return f"_[mask]_fcn{match[1]}"
    if match := re.fullmatch(r"roi_heads\.keypoint_head\.(conv_fcn\d)", module):
        return match[1]
    return names[module]


def resnet(name: str) -> str:
    """Return torchvision's name of a ResNet's tensor (without what precedes it)."""
    name = re.sub(r"^stem\.conv1\.norm\.", "bn1.", name)
    name = re.sub(r"^stem\.conv1\.", "conv1.", name)
    name = re.sub(r"^res(\d)\.", lambda m: f"layer{int(m[1]) - 1}.", name)
    name = re.sub(r"\.conv(\d)\.norm\.", r".bn\1.", name)
    name = name.replace(".shortcut.norm.", ".downsample.1.")
    name = name.replace(".shortcut.", ".downsample.0.")
    return name.replace("conv2_offset.", "conv2.offset.")


def maskrcnn_benchmark(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the names of maskrcnn-benchmark, or of ATSS for a dense detector."""
    heads = {
        "proposal_generator.rpn_head.conv": "rpn.head.conv",
        "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
        "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
        "roi_heads.box_head.fc1": "roi_heads.box.feature_extractor.fc6",
        "roi_heads.box_head.fc2": "roi_heads.box.feature_extractor.fc7",
        "roi_heads.box_predictor": "roi_heads.box.predictor",
        "roi_heads.mask_head.deconv": "roi_heads.mask.predictor.conv5_mask",
        "roi_heads.mask_head.predictor": "roi_heads.mask.predictor.mask_fcn_logits",
        "roi_heads.keypoint_head.score_lowres": "roi_heads.keypoint.predictor.kps_score_lowres",
        "roi_heads.res5": "roi_heads.box.feature_extractor.head.layer4",
        "head.cls_subnet": "rpn.head.cls_tower",
        "head.bbox_subnet": "rpn.head.bbox_tower",
        "head.cls_score": "rpn.head.cls_logits",
        "head.bbox_pred": "rpn.head.bbox_pred",
        "head.ctrness": "rpn.head.centerness",
        "backbone.top_block": "backbone.fpn.top_blocks",
    }
    result = {}
    for name, value in state.items():
        if name == "head.scales":
            result |= {f"module.rpn.head.scales.{i}.scale": v[None] for i, v in enumerate(value)}
            continue
        new = name
        if match := re.fullmatch(r"backbone\.(?:bottom_up\.)?((?:stem|res\d)\..*)", name):
            inside = resnet(match[1])
            new = "backbone.body." + ("stem." if match[1].startswith("stem") else "") + inside
            if "conv2_offset" in " ".join(state) and re.search(r"layer[2-4].*\.conv2\.weight", new):
                new = new.replace(".conv2.weight", ".conv2.conv.weight")
        elif match := re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)\.(.*)", name):
            kind = "inner" if match[1] == "lateral" else "layer"
            new = f"backbone.fpn.fpn_{kind}{int(match[2]) - 1}.{match[3]}"
        elif match := re.fullmatch(r"roi_heads\.(mask|keypoint)_head\.(\w+_fcn\d\..*)", name):
            new = f"roi_heads.{match[1]}.feature_extractor.{match[2]}"
        else:
            for ours, theirs in heads.items():
                if name.startswith(f"{ours}."):
                    rest = name.removeprefix(ours)
                    if ours.endswith("res5"):
                        rest = resnet("res5" + rest).removeprefix("layer4")
                    new = theirs + rest
        if "box_predictor" in name or "mask_head.predictor" in name:
            value = background_first(name, value)
        if re.search(r"objectness_logits|anchor_deltas|^head\.(cls_score|bbox_pred)", name):
            deltas = [
                n for n in state if re.search(r"anchor_deltas.weight|head.bbox_pred.weight", n)
            ]
            value = ratios_first(value, len(state[deltas[0]]) // 4)
        result[f"module.{new}"] = value
    return result
