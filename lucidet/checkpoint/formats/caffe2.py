"""Names of Caffe2's blobs in Detectron: ``conv1_w``, ``res2_0_branch2a_bn_s`` and so on.

They are those of the ImageNet backbones of MSRA and FAIR, and of Detectron's own models. There the
background is class 0, and with several sizes of anchors on one map all sizes of a ratio follow each
other.
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

NUM_RATIOS = 3
_BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
#: what a blob holds, by the end of its name: (lucidet's end, whether it belongs to a norm)
_ENDS = {
    "_bn_s": "norm.weight",
    "_bn_b": "norm.bias",
    "_bn_gamma": "norm.weight",
    "_bn_beta": "norm.bias",
    "_bn_rm": "norm.running_mean",
    "_bn_riv": "norm.running_var",
    "_bn_running_mean": "norm.running_mean",
    "_bn_running_var": "norm.running_var",
    "_gn_s": "norm.weight",
    "_gn_b": "norm.bias",
    "_w": "weight",
    "_b": "bias",
}
_MODULES = [
    (r"(?:res_)?conv1", "stem.conv1"),
    (r"res(\d)_(\d+)_branch(1|2a|2b|2c)", None),
    (r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?", r"backbone.fpn_lateral\1"),
    (r"fpn_res(\d)_\d+_sum", r"backbone.fpn_output\1"),
    (r"fpn_([67])", r"backbone.top_block.p\1"),
    (r"conv_rpn(?:_fpn\d)?", "proposal_generator.rpn_head.conv"),
    (r"rpn_cls_logits(?:_fpn\d)?", "proposal_generator.rpn_head.objectness_logits"),
    (r"rpn_bbox_pred(?:_fpn\d)?", "proposal_generator.rpn_head.anchor_deltas"),
    (r"fc6", "roi_heads.box_head.fc1"),
    (r"fc7", "roi_heads.box_head.fc2"),
    (r"head_conv(\d)", r"roi_heads.box_head.conv\1"),
    (r"cls_score", "roi_heads.box_predictor.cls_score"),
    (r"bbox_pred", "roi_heads.box_predictor.bbox_pred"),
    (r"_?\[?mask\]?_fcn(\d)", r"roi_heads.mask_head.mask_fcn\1"),
    (r"conv5_mask", "roi_heads.mask_head.deconv"),
    (r"mask_fcn_logits", "roi_heads.mask_head.predictor"),
    (r"conv_fcn(\d)", r"roi_heads.keypoint_head.conv_fcn\1"),
    (r"kps_score_lowres", "roi_heads.keypoint_head.score_lowres"),
    (r"retnet_cls_pred_fpn\d", "head.cls_score"),
    (r"retnet_bbox_pred_fpn\d", "head.bbox_pred"),
]
_PATTERNS = [(re.compile(pattern), new) for pattern, new in _MODULES]
_TOWER = re.compile(r"retnet_(cls|bbox)_conv_n(\d)_fpn\d")
#: what training leaves in a file, and the classifier of images
_UNUSED = {
    re.compile(r".*_momentum"): "state of the optimiser",
    re.compile(r"lr|weight_order|model_iter|.*_iter"): "state of training",
    re.compile(r"(?:fc1000|pred|last_out_L1000)_[wb]"): "classifier of images",
    # fixed bilinear weights: the head interpolates
    re.compile(r"kps_score_[wb]"): "enlargement of heat maps, which has no weights here",
}


def recognize(names: Collection[str]) -> bool:
    """Return whether these are names of blobs: ``conv1_w`` or ``res2_0_branch2a_w``."""
    return "conv1_w" in names or "res2_0_branch2a_w" in names


def blob_name(name: str) -> str | None:
    """Return lucidet's name of a blob; a backbone's without what stands before ``stem``.

    >>> blob_name("res2_0_branch2a_bn_s")
    'res2.0.conv1.norm.weight'
    >>> blob_name("fpn_inner_res4_5_sum_lateral_w")
    'backbone.fpn_lateral4.weight'
    """
    end = next((end for end in sorted(_ENDS, key=len, reverse=True) if name.endswith(end)), None)
    if end is None:
        return None
    module = name.removesuffix(end)
    if tower := _TOWER.fullmatch(module):
        kind, index = tower.groups()
        return f"head.{kind}_subnet.{2 * int(index)}.{_ENDS[end]}"
    for pattern, new in _PATTERNS:
        match = pattern.fullmatch(module)
        if match is None:
            continue
        if new is None:
            stage, block, branch = match.groups()
            return f"res{stage}.{block}.{_BRANCHES[branch]}.{_ENDS[end]}"
        return f"{match.expand(new)}.{_ENDS[end]}"
    return None


def rename(weights: Mapping[str, Tensor]) -> Renamed:
    """Return Caffe2's weights under lucidet's names.

    Norms in these files are mostly folded into scale and shift; they get mean 0 and variance 1, so
    that a FrozenBN does the same (up to its epsilon).
    """
    renamed = Renamed("Caffe2 blobs (Detectron, MSRA)", {}, anywhere=True)
    logits = weights.get("rpn_cls_logits_w")
    num_anchors = 0 if logits is None else len(logits)
    for name, value in weights.items():
        reason = next((why for what, why in _UNUSED.items() if what.fullmatch(name)), None)
        if reason is not None:
            renamed.unused[name] = reason
            continue
        new = blob_name(name)
        if new is None:
            renamed.weights[name] = value
        elif name.startswith("cls_score_"):
            renamed.weights[new] = background_last(value)
        elif name.startswith("mask_fcn_logits_"):
            renamed.weights[new] = masks_without_background(value)
        elif name.startswith("bbox_pred_"):
            renamed.weights[new] = without_background(value)
        elif name.startswith("rpn_") and num_anchors:
            renamed.weights[new] = reorder_anchors(value, num_anchors, NUM_RATIOS)
        else:
            renamed.weights[new] = value
    _give_prefixes(renamed)
    _drop_folded_bias(renamed)
    _complete_norms(renamed.weights, weights)
    renamed.settings = {
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "INPUT.FORMAT": "BGR",
    }
    return renamed


def _give_prefixes(renamed: Renamed) -> None:
    """Say where the backbone stands, if the file holds a whole detector."""
    names = list(renamed.weights)
    if not any(name.startswith(("proposal_generator.", "head.")) for name in names):
        return
    renamed.anywhere = False
    pyramid = any(name.startswith("backbone.fpn_") for name in names)
    for name in names:
        if name.startswith(("stem.", "res")):
            prefix = "backbone.bottom_up." if pyramid else "backbone."
            if name.startswith("res5.") and not pyramid:
                prefix = "roi_heads."  # the head of a C4 detector
            renamed.weights[prefix + name] = renamed.weights.pop(name)


def _drop_folded_bias(renamed: Renamed) -> None:
    """Leave out a bias of zeros in front of a norm, which some files hold for the stem."""
    for name in [n for n in renamed.weights if n.endswith(".bias") and ".norm." not in n]:
        norm = name.removesuffix("bias") + "norm.weight"
        if norm in renamed.weights and not renamed.weights[name].any():
            del renamed.weights[name]
            renamed.unused[name] = "bias of zeros in front of a norm"


def _complete_norms(new: dict[str, Tensor], old: Mapping[str, Tensor]) -> None:
    """Give folded batch norms mean 0 and variance 1; group norms have neither."""
    if any(name.endswith("_gn_s") for name in old):
        return
    for name in [name for name in new if name.endswith(".norm.weight")]:
        norm = name.removesuffix("weight")
        new.setdefault(f"{norm}running_mean", torch.zeros_like(new[name]))
        new.setdefault(f"{norm}running_var", torch.ones_like(new[name]))
