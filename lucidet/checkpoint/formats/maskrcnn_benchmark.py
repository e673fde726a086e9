"""Names of maskrcnn-benchmark and what grew from it, such as the ATSS authors' code.

Background is class 0 in a Faster R-CNN, and within a cell anchors come ratio by ratio. Boxes there
are as wide as x2 - x1 + 1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from lucidet.checkpoint.formats.renamed import (
    Renamed,
    background_last,
    masks_without_background,
    reorder_anchors,
    without_background,
)
from lucidet.checkpoint.formats.resnet import resnet_name

NUM_RATIOS = 3
_FPN = re.compile(r"backbone\.fpn\.fpn_(inner|layer)(\d)\.(.+)")
_SCALE = re.compile(r"rpn\.head\.scales\.(\d+)\.scale")
_NUMBERED = re.compile(r"(\d+)\.(.+)")
_TWO_STAGE = {
    "rpn.head.conv": "proposal_generator.rpn_head.conv",
    "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
    "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
    "roi_heads.box.feature_extractor.fc6": "roi_heads.box_head.fc1",
    "roi_heads.box.feature_extractor.fc7": "roi_heads.box_head.fc2",
    "roi_heads.box.predictor.cls_score": "roi_heads.box_predictor.cls_score",
    "roi_heads.box.predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    "roi_heads.mask.predictor.conv5_mask": "roi_heads.mask_head.deconv",
    "roi_heads.mask.predictor.mask_fcn_logits": "roi_heads.mask_head.predictor",
    "roi_heads.keypoint.predictor.kps_score_lowres": "roi_heads.keypoint_head.score_lowres",
}
#: convolutions of these heads; with a norm the convolution is 0 and the norm 1
_HEAD_CONV = re.compile(
    r"roi_heads\.(mask|keypoint)\.feature_extractor\.((?:mask|conv)_fcn\d+)\.(.+)"
)
_DENSE = {
    "rpn.head.cls_tower": "head.cls_subnet",
    "rpn.head.bbox_tower": "head.bbox_subnet",
    "rpn.head.cls_logits": "head.cls_score",
    "rpn.head.bbox_pred": "head.bbox_pred",
    "rpn.head.centerness": "head.ctrness",
}
_BACKGROUND_FIRST = "roi_heads.box.predictor."


def recognize(names: Collection[str]) -> bool:
    """Return whether the stem is where maskrcnn-benchmark has it."""
    return "backbone.body.stem.conv1.weight" in names


def rename(weights: Mapping[str, Tensor]) -> Renamed:
    """Return the weights under lucidet's names, in lucidet's orders."""
    renamed = Renamed("maskrcnn-benchmark or ATSS", {})
    dense = any(name.startswith("rpn.head.cls_tower.") for name in weights)
    bbox = weights.get("rpn.head.bbox_pred.weight")
    num_anchors = 0 if bbox is None else len(bbox) // 4
    scales: dict[int, Tensor] = {}
    for name, value in weights.items():
        if name.startswith(("rpn.anchor_generator.", "anchor_generator.")):
            renamed.unused[name] = "anchors, which the config gives"
        elif name.startswith("roi_heads.mask.feature_extractor.head."):
            renamed.unused[name] = "the box head's res5 once more, which masks share"
        elif match := _SCALE.fullmatch(name):
            scales[int(match[1])] = value.reshape(())
        else:
            new = _name(name, _DENSE if dense else _TWO_STAGE) or name
            renamed.weights[new] = _ordered(name, value, num_anchors)
    if scales:
        renamed.weights["head.scales"] = torch.stack([scales[i] for i in sorted(scales)])
    renamed.settings = _settings(renamed.weights, dense)
    return renamed


def _name(name: str, heads: Mapping[str, str]) -> str | None:
    if name.startswith("backbone.body."):
        resnet = resnet_name(name.removeprefix("backbone.body."))
        # without a pyramid the body is the backbone; which of both, the model knows
        return resnet and f"backbone.bottom_up.{resnet}"
    if match := _FPN.fullmatch(name):
        kind, number, rest = match.groups()
        conv = "fpn_lateral" if kind == "inner" else "fpn_output"
        # with a norm the convolution is 0 and the norm 1
        part = _NUMBERED.fullmatch(rest)
        tensor = rest if part is None else f"{'norm.' if part[1] == '1' else ''}{part[2]}"
        return f"backbone.{conv}{int(number) + 1}.{tensor}"
    if name.startswith("backbone.fpn.top_blocks."):
        return name.replace("backbone.fpn.top_blocks.", "backbone.top_block.")
    head = "roi_heads.box.feature_extractor.head."
    if name.startswith(head):
        resnet = resnet_name(name.removeprefix(head))
        return resnet and f"roi_heads.{resnet}"
    if match := _HEAD_CONV.fullmatch(name):
        kind, conv, rest = match.groups()
        part = _NUMBERED.fullmatch(rest)
        tensor = rest if part is None else f"{'norm.' if part[1] == '1' else ''}{part[2]}"
        return f"roi_heads.{kind}_head.{conv}.{tensor}"
    for old, new in heads.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def _ordered(name: str, value: Tensor, num_anchors: int) -> Tensor:
    if name.startswith(f"{_BACKGROUND_FIRST}cls_score."):
        return background_last(value)
    if name.startswith(f"{_BACKGROUND_FIRST}bbox_pred."):
        # one box for all classes comes as two, background's and the objects'
        return without_background(value)
    if name.startswith("roi_heads.mask.predictor.mask_fcn_logits."):
        return masks_without_background(value)
    if name.startswith(("rpn.head.cls_logits.", "rpn.head.bbox_pred.")) and num_anchors:
        return reorder_anchors(value, num_anchors, NUM_RATIOS)
    return value


def _settings(weights: Mapping[str, Tensor], dense: bool) -> dict[str, object]:
    settings: dict[str, object] = {"MODEL.LEGACY_PLUS_ONE": True}
    if dense and "head.ctrness.weight" in weights:
        settings["MODEL.FPN.TOP_BLOCK_IN_FEATURE"] = "p5"
    return settings
