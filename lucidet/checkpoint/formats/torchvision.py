"""Names of torchvision's detectors: FasterRCNN, MaskRCNN, KeypointRCNN, RetinaNet and FCOS.

Beside the names two orders differ: background is class 0 in a Faster R-CNN, and within a cell the
anchors come ratio by ratio instead of size by size. RetinaNet and FCOS have a sigmoid for label 0
too, though it is never an object; it is kept, so that a class is torchvision's label there.
"""

# K classes, A anchors a cell

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from lucidet.checkpoint.formats.renamed import (
    Renamed,
    background_last,
    masks_without_background,
    reorder_anchors,
    without_background,
)
from lucidet.checkpoint.formats.resnet import resnet_name
from lucidet.checkpoint.formats.settings_torchvision import detector_settings

#: aspect ratios of every anchor generator in torchvision's models
NUM_RATIOS = 3
#: children of ``nn.Sequential(*list(resnet.children())[:-2])``, a usual way to cut a ResNet
_SEQUENTIAL = {"0": "conv1", "1": "bn1", **{str(3 + i): f"layer{i}" for i in range(1, 5)}}
_COARSEST_LEVEL = 5

_FPN = re.compile(r"backbone\.fpn\.(inner|layer)_blocks\.(\d+)\.(?:([01])\.)?(\w+)")
_RPN_CONV = re.compile(r"rpn\.head\.conv\.(?:(\d+)\.0\.)?(\w+)")
_BOX_CONV = re.compile(r"roi_heads\.box_head\.(\d+)\.([01])\.(\w+)")
_BOX_FC = re.compile(r"roi_heads\.box_head\.(?:fc)?(\d+)\.(\w+)")
#: one layer or a block; ``mask_fcn1`` in files of torchvision before 0.13
_MASK_CONV = re.compile(r"roi_heads\.mask_head\.(?:(\d+)\.([01])|mask_fcn(\d))\.(\w+)")
_KEYPOINT_CONV = re.compile(r"roi_heads\.keypoint_head\.(\d+)\.(\w+)")
_TOWER = re.compile(r"head\.(classification|regression)_head\.conv\.(\d+)\.(?:([01])\.)?(\w+)")
_RENAMED = {
    "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
    "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
    "roi_heads.box_predictor": "roi_heads.box_predictor",
    "roi_heads.mask_predictor.conv5_mask": "roi_heads.mask_head.deconv",
    "roi_heads.mask_predictor.mask_fcn_logits": "roi_heads.mask_head.predictor",
    "roi_heads.keypoint_predictor.kps_score_lowres": "roi_heads.keypoint_head.score_lowres",
    "head.classification_head.cls_logits": "head.cls_score",
    "head.regression_head.bbox_reg": "head.bbox_pred",
    "head.regression_head.bbox_ctrness": "head.ctrness",
    "backbone.fpn.extra_blocks": "backbone.top_block",
}


def recognize(names: Collection[str]) -> bool:
    """Return whether these are the names of a torchvision detector."""
    two_stage = "rpn.head.cls_logits.weight" in names and (
        "roi_heads.box_predictor.cls_score.weight" in names
    )
    return two_stage or "head.classification_head.cls_logits.weight" in names


def rename(weights: Mapping[str, Tensor]) -> Renamed:
    """Return a torchvision detector's weights under lucidet's names, in lucidet's orders."""
    names = _Names(weights)
    renamed = Renamed("a torchvision detector", {})
    for name, value in weights.items():
        new = names.of(name)
        renamed.weights[new or name] = names.ordered(name, value)
    _add_tower_biases(renamed.weights)
    renamed.settings = detector_settings(weights)
    return renamed


def _add_tower_biases(weights: dict[str, Tensor]) -> None:
    """Give the convolutions of towers biases of zero where torchvision, before a norm, has none."""
    for name in list(weights):
        if name.startswith("head.") and "_subnet." in name and weights[name].dim() == 4:
            bias = weights[name].new_zeros(len(weights[name]))
            weights.setdefault(name.removesuffix("weight") + "bias", bias)


class _Names:
    """The map for one file: it depends on how many levels, layers and anchors there are."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        inner = {m[2] for m in map(_FPN.fullmatch, weights) if m and m[1] == "inner"}
        self.num_levels = len(inner)
        self.rpn_convs = len({m[1] for m in map(_RPN_CONV.fullmatch, weights) if m})
        box = [m for m in map(_BOX_FC.fullmatch, weights) if m]
        self.box_fcs = sorted({int(m[1]) for m in box})
        self.tower_norm = any(m and m[3] == "1" for m in map(_TOWER.fullmatch, weights))
        self.rpn_anchors = self._rows(weights, "rpn.head.cls_logits")
        self.dense_anchors = self._rows(weights, "head.regression_head.bbox_reg") // 4

    @staticmethod
    def _rows(weights: Mapping[str, Tensor], module: str) -> int:
        weight = weights.get(f"{module}.weight")
        return 0 if weight is None else len(weight)

    def of(self, name: str) -> str | None:
        """Return lucidet's name of a tensor, None for an unknown one."""
        if name.startswith("backbone.") and not name.startswith("backbone.fpn."):
            return self._body(name)
        for old, new in _RENAMED.items():
            if name.startswith(f"{old}."):
                return new + name.removeprefix(old)
        if match := _FPN.fullmatch(name):
            kind, index, part, tensor = match.groups()
            level = _COARSEST_LEVEL - self.num_levels + 1 + int(index)
            conv = "fpn_lateral" if kind == "inner" else "fpn_output"
            return f"backbone.{conv}{level}.{'norm.' if part == '1' else ''}{tensor}"
        if match := _RPN_CONV.fullmatch(name):
            index, tensor = match.groups()
            number = f"conv{index}." if self.rpn_convs > 1 else ""
            return f"proposal_generator.rpn_head.conv.{number}{tensor}"
        if match := _BOX_CONV.fullmatch(name):
            index, part, tensor = match.groups()
            conv = f"roi_heads.box_head.conv{int(index) + 1}"
            return f"{conv}.{'norm.' if part == '1' else ''}{tensor}"
        if match := _BOX_FC.fullmatch(name):
            index, tensor = match.groups()
            return f"roi_heads.box_head.fc{self.box_fcs.index(int(index)) + 1}.{tensor}"
        if match := _MASK_CONV.fullmatch(name):
            index, part, number, tensor = match.groups()
            conv = f"roi_heads.mask_head.mask_fcn{number or int(index) + 1}"
            return f"{conv}.{'norm.' if part == '1' else ''}{tensor}"
        if match := _KEYPOINT_CONV.fullmatch(name):  # each followed by a ReLU, which counts too
            index, tensor = match.groups()
            return f"roi_heads.keypoint_head.conv_fcn{int(index) // 2 + 1}.{tensor}"
        if match := _TOWER.fullmatch(name):
            kind, index, part, tensor = match.groups()
            tower = "head.cls_subnet" if kind == "classification" else "head.bbox_subnet"
            # in blocks a layer's conv, norm and ReLU count as one, else each has a number
            layers = 1 if part is None else 3 if self.tower_norm else 2
            return f"{tower}.{layers * int(index) + int(part or 0)}.{tensor}"
        return None

    def _body(self, name: str) -> str:
        """Return the name of a tensor in the backbone below the pyramid, or in one without."""
        inside = name.removeprefix("backbone.").removeprefix("body.")
        prefix = "backbone.bottom_up." if self.num_levels else "backbone."
        resnet = resnet_name(inside)
        if resnet is None and not name.startswith("backbone.body."):
            first, _, rest = inside.partition(".")
            resnet = resnet_name(f"{_SEQUENTIAL.get(first, first)}.{rest}")
        return prefix + (resnet or f"features.{inside}")

    def ordered(self, name: str, value: Tensor) -> Tensor:
        """Return a tensor with classes and anchors in lucidet's order."""
        if name.startswith("roi_heads.box_predictor.cls_score."):
            return background_last(value)
        if name.startswith("roi_heads.box_predictor.bbox_pred."):
            return without_background(value)
        if name.startswith("roi_heads.mask_predictor.mask_fcn_logits."):
            return masks_without_background(value)
        if name.startswith(("rpn.head.cls_logits.", "rpn.head.bbox_pred.")):
            return reorder_anchors(value, self.rpn_anchors, NUM_RATIOS)
        if name.startswith(
            ("head.classification_head.cls_logits.", "head.regression_head.bbox_reg.")
        ):
            return reorder_anchors(value, self.dense_anchors, NUM_RATIOS)
        return value
