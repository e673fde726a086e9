"""Anchors and assigner of a model, taken from the model that the config builds."""

# L levels, A anchors a cell, R_l anchors of a level

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.modeling import build_model
from lucidet.modeling.assigners import ATSSAssigner, ScaleRangeAssigner
from lucidet.modeling.matcher import Matcher

__all__ = ["MAX_IOU", "Level", "Scheme", "schemes_of"]

MAX_IOU, ATSS, FCOS = "max-IoU", "ATSS", "FCOS"
#: configs whose rules are shown beside those of the user's config
_USUAL = {MAX_IOU: "retinanet_R_18_FPN", ATSS: "atss_R_18_FPN", FCOS: "fcos_R_50_FPN_1x"}


@dataclass(frozen=True)
class Level:
    """The anchors of one level on images of one padded size.

    Attributes:
        anchors: (R_l, 4) XYXY, pixels: row by row, cell by cell, A at each.
        xs, ys: centers of the columns and of the rows of cells, ascending.
        per_cell: A.
        stride: pixels between cells.
    """

    anchors: Tensor
    xs: Tensor
    ys: Tensor
    per_cell: int
    stride: float


@dataclass(frozen=True)
class Scheme:
    """A rule that matches anchors or locations to boxes.

    Attributes:
        name: ``max-IoU``, ``ATSS`` or ``FCOS``.
        source: the config that it is from.
        own: it is that of the user's config.
        generator: list of features -> anchors of each level.
        assigner: an assigner of :mod:`lucidet.modeling.assigners`, or a `Matcher`.
        divisor: images are padded to multiples of this, pixels.
        shapes: the sizes and ratios of the anchors matter; else they are locations.
        positive_iou: a max-IoU rule's threshold for positives; 1 for other rules.
    """

    name: str
    source: str
    own: bool
    generator: Any
    assigner: Any
    divisor: int
    shapes: bool
    positive_iou: float

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of a padded image, pixels."""
        side = max(1, self.divisor)
        return math.ceil(width / side) * side, math.ceil(height / side) * side

    def levels(self, width: int, height: int) -> list[Level]:
        """Return the anchors on padded images of a size."""
        strides = [float(stride) for stride in self.generator.strides]
        grids = [(math.ceil(height / s), math.ceil(width / s)) for s in strides]
        levels = []
        made, per_cell = self.generator.grid_anchors(grids), self.generator.num_anchors
        for (rows, columns), stride, anchors, each in zip(
            grids, strides, made, per_cell, strict=True
        ):
            centers = ((anchors[::each, :2] + anchors[::each, 2:]) / 2).view(rows, columns, 2)
            xs, ys = centers[0, :, 0].contiguous(), centers[:, 0, 1].contiguous()
            levels.append(Level(anchors, xs, ys, each, stride))
        return levels


def schemes_of(cfg: CfgNode, source: str) -> list[Scheme]:
    """Return the rule of a config's model and, for comparison, the two others as published.

    Raises:
        ValueError: the model has no anchors that are boxes, or another assigner.
    """
    own = _scheme(cfg, source, own=True)
    others = [_usual(name) for name in _USUAL if name != own.name]
    order = list(_USUAL)
    return sorted([own, *others], key=lambda scheme: order.index(scheme.name))


@lru_cache(maxsize=3)
def _usual(name: str) -> Scheme:
    cfg = get_cfg()
    cfg.merge_from_file(find_config(_USUAL[name]))
    return _scheme(cfg, _USUAL[name], own=False)


def _scheme(cfg: CfgNode, source: str, own: bool) -> Scheme:
    trial = cfg.clone()
    trial.defrost()
    trial.MODEL.DEVICE, trial.MODEL.TIMM.PRETRAINED, trial.MODEL.CLASS_MAP = "cpu", False, []
    _make_small(trial)
    with torch.random.fork_rng(devices=[]):
        model = build_model(trial)
    part = getattr(model, "proposal_generator", None) or model
    generator = getattr(part, "anchor_generator", None)
    assigner = getattr(part, "anchor_matcher", None) or getattr(part, "assigner", None)
    if generator is None or assigner is None or getattr(generator, "box_dim", 0) != 4:
        raise ValueError(
            f"{cfg.MODEL.META_ARCHITECTURE} has no anchors that are boxes; lucidet coverage is for "
            "Faster R-CNN, RetinaNet, ATSS and FCOS"
        )
    name, threshold = _kind(assigner)
    return Scheme(
        name=name,
        source=source,
        own=own,
        generator=generator,
        assigner=assigner,
        divisor=_divisor(model),
        shapes=name != FCOS,
        positive_iou=threshold,
    )


def _make_small(cfg: CfgNode) -> None:
    """Give a config a small ResNet: strides, anchors and rule stay, memory and time are saved."""
    nets = cfg.MODEL.RESNETS
    if cfg.MODEL.BACKBONE.NAME.endswith(("build_resnet_fpn_backbone", "resnet_fpn_p5_backbone")):
        nets.DEPTH, nets.RES2_OUT_CHANNELS = 18, 64
        nets.NUM_GROUPS, nets.WIDTH_PER_GROUP = 1, 64
        nets.DEFORM_ON_PER_STAGE = [False] * 4
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = min(64, cfg.MODEL.ROI_BOX_HEAD.FC_DIM)


def _divisor(model: nn.Module) -> int:
    backbone: Any = getattr(model, "backbone", None)
    return int(getattr(backbone, "size_divisibility", 0) or 1)


def _kind(assigner: Any) -> tuple[str, float]:
    """Return which rule an assigner is, and its IoU for positives."""
    if isinstance(assigner, ATSSAssigner):
        return ATSS, 1.0
    if isinstance(assigner, ScaleRangeAssigner):
        return FCOS, 1.0
    rules = assigner if isinstance(assigner, Matcher) else getattr(assigner, "by_iou", assigner)
    thresholds: Sequence[float] | None = getattr(rules, "thresholds", None)
    if not thresholds:
        raise ValueError(f"lucidet coverage does not know the assigner {type(assigner).__name__}")
    return MAX_IOU, float(max(t for t in thresholds if math.isfinite(t)))
