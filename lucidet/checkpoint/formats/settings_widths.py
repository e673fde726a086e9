"""Widths and depths of a detector's parts, read off the shapes of its weights."""

# C channels of the pyramid, R cells of the pooled map a side

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["width_settings"]

_BOX_HEAD = "roi_heads.box_head."


def width_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the config keys of widths that the weights show; the others keep their defaults.

    Args:
        weights: of a detector, under lucidet's names.
    """
    settings: dict[str, Any] = {}
    for name, value in weights.items():
        if name.endswith("stem.conv1.weight"):
            settings["MODEL.RESNETS.STEM_OUT_CHANNELS"] = len(value)
        elif re.fullmatch(r"backbone\.(?:bottom_up\.)?res2\.0\.conv3\.weight", name):
            settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] = len(value)
        elif re.fullmatch(r"backbone\.fpn_output\d\.weight", name):
            settings["MODEL.FPN.OUT_CHANNELS"] = len(value)
    hidden = _numbered(weights, r"proposal_generator\.rpn_head\.conv\.conv(\d+)\.weight")
    if hidden:
        settings["MODEL.RPN.CONV_DIMS"] = [len(value) for value in hidden]
    for kind in ("RETINANET", "ATSS", "FCOS"):
        tower = _numbered(weights, r"head\.cls_subnet\.(\d+)\.weight")
        convolutions = [value for value in tower if value.ndim == 4]
        if convolutions:
            settings[f"MODEL.{kind}.NUM_CONVS"] = len(convolutions)
    return settings | _box_head(weights, settings.get("MODEL.FPN.OUT_CHANNELS"))


def _box_head(weights: Mapping[str, Tensor], channels: int | None) -> dict[str, Any]:
    """Return the settings of the box head; a cascade's heads are all as its first."""
    own = {
        name.replace(f"{_BOX_HEAD}0.", _BOX_HEAD): value
        for name, value in weights.items()
        if name.startswith(_BOX_HEAD)
    }
    convolutions = _numbered(own, r"roi_heads\.box_head\.conv(\d+)\.weight")
    layers = _numbered(own, r"roi_heads\.box_head\.fc(\d+)\.weight")
    settings: dict[str, Any] = {}
    if convolutions:
        settings["MODEL.ROI_BOX_HEAD.NUM_CONV"] = len(convolutions)
        settings["MODEL.ROI_BOX_HEAD.CONV_DIM"] = channels = len(convolutions[0])
    if layers:
        settings["MODEL.ROI_BOX_HEAD.NUM_FC"] = len(layers)
        settings["MODEL.ROI_BOX_HEAD.FC_DIM"] = len(layers[0])
        if channels:  # the first layer takes (C, R, R), flattened
            cells = layers[0].shape[1] / channels
            settings["MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION"] = math.isqrt(round(cells))
    return settings


def _numbered(weights: Mapping[str, Tensor], pattern: str) -> list[Tensor]:
    """Return the tensors whose names match, in the order of the number in them."""
    found = []
    for name, value in weights.items():
        match = re.fullmatch(pattern, name)
        if match:
            found.append((int(match[1]), value))
    return [value for _, value in sorted(found, key=lambda item: item[0])]
