"""ATSS: Zhang et al. 2020, Bridging the Gap Between Anchor-based and Anchor-free Detection via
Adaptive Training Sample Selection (arXiv 1912.02424)."""

# N images, R_l anchors of level l, R anchors in all, K classes, P positives

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import giou_loss
from lucidet.layers.fast.focal_loss_sum import focal_loss_sum
from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.modeling.assigners import (
    Assigner,
    ATSSAssigner,
    CenteredMaxIoUAssigner,
    ScaleRangeAssigner,
    TopKAssigner,
)
from lucidet.modeling.backbone import Backbone, build_backbone
from lucidet.modeling.box_regression import Box2BoxTransform, Box2BoxTransformLinear, BoxCoder
from lucidet.modeling.legacy import LegacyBox2BoxTransform
from lucidet.modeling.losses import (
    centerness_of,
    gather_positives,
    mean_over_ranks,
    scores_with_centerness,
    weighted,
)
from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.modeling.meta_arch.dense_head import CenternessHead
from lucidet.structures import Boxes

__all__ = ["ATSS", "PointTransform", "build_assigner"]

POSITIVE_TYPES = ("ATSS", "TOPK", "IoU", "SSC")
REGRESSION_TYPES = ("BOX", "POINT")


class PointTransform(Box2BoxTransformLinear):
    """Distances from an anchor's centre to the sides, in strides: an anchor is `strides` wide."""

    def __init__(self, strides: float) -> None:
        """`strides`: width of an anchor divided by the stride of its level, the same on all."""
        super().__init__(normalize_by_size=True)
        self.strides = strides

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return (P, 4) distances to left, top, right, bottom."""
        return super().get_deltas(src_boxes, target_boxes) * self.strides

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes (P, 4) that lie so far around the anchors' centres."""
        return super().apply_deltas(deltas / self.strides, boxes)


def build_assigner(cfg: CfgNode) -> Assigner:
    """Return the assigner that MODEL.ATSS.POSITIVE_TYPE names.

    Raises:
        ValueError: there is no such type.
    """
    atss, legacy = cfg.MODEL.ATSS, cfg.MODEL.LEGACY_PLUS_ONE
    if atss.POSITIVE_TYPE == "ATSS":
        per_cell = len(atss.ASPECT_RATIOS) * atss.SCALES_PER_OCTAVE
        return ATSSAssigner(atss.TOPK, per_cell, legacy)
    if atss.POSITIVE_TYPE == "TOPK":
        return TopKAssigner(atss.TOPK, legacy)
    if atss.POSITIVE_TYPE == "IoU":
        return CenteredMaxIoUAssigner(atss.IOU_THRESHOLDS, atss.IOU_LABELS, legacy_plus_one=legacy)
    if atss.POSITIVE_TYPE == "SSC":
        bounds = [8 * stride for stride in atss.ANCHOR_STRIDES[:-1]]  # 64, 128, 256, 512
        return ScaleRangeAssigner(list(zip([-1, *bounds], [*bounds, math.inf], strict=True)))
    raise ValueError(
        f"MODEL.ATSS.POSITIVE_TYPE {atss.POSITIVE_TYPE!r} is none of {', '.join(POSITIVE_TYPES)}"
    )


@META_ARCH_REGISTRY.register()
class ATSS(DenseDetector):
    """One square anchor a cell, labelled by its objects' statistics, scored with centerness."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        box2box_transform: BoxCoder,
        assigner: Assigner,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        reg_loss_weight: float = 2.0,
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
        legacy_plus_one: bool = False,
    ) -> None:
        """
        Args:
            backbone: images (N, C, H, W) -> dict of features.
            head: list of features -> a list over levels for each kind of prediction: logits
                (N, A * K, H, W), box deltas (N, A * 4, H, W), centerness (N, A, H, W).
            head_in_features: names of the levels that the head sees.
            anchor_generator: list of features -> list of Boxes.
            box2box_transform: between boxes and deltas.
            assigner: of :mod:`lucidet.modeling.assigners`; a positive's center lies in its box.
            num_classes: K, without background.
            focal_loss_alpha, focal_loss_gamma: weight of positives, and exponent.
            reg_loss_weight: of the GIoU loss.
            test_score_thresh: candidates have a class score above this.
            test_topk_candidates: of a level, before NMS.
            test_nms_thresh: IoU, within a class.
            max_detections_per_image: after NMS.
            pixel_mean: one entry a channel, in the units of the images (0..255).
            pixel_std: one entry a channel, as `pixel_mean`.
            input_format: "BGR" or "RGB", for drawings of the images.
            legacy_plus_one: clip and suppress boxes whose width is x2 - x1 + 1; the transform and
                the assigner must be of that convention too.
        """
        super().__init__(
            backbone,
            head,
            head_in_features,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            input_format=input_format,
            test_score_thresh=0.0,
            test_topk_candidates=test_topk_candidates,
            test_nms_thresh=test_nms_thresh,
            max_detections_per_image=max_detections_per_image,
            legacy_plus_one=legacy_plus_one,
            clip_before_nms=True,
        )
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.assigner = assigner
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.reg_loss_weight = reg_loss_weight
        self.test_class_score_thresh = test_score_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        atss = cfg.MODEL.ATSS
        if atss.REGRESSION_TYPE not in REGRESSION_TYPES:
            raise ValueError(
                f"MODEL.ATSS.REGRESSION_TYPE {atss.REGRESSION_TYPE!r} is none of "
                f"{', '.join(REGRESSION_TYPES)}"
            )
        points = atss.REGRESSION_TYPE == "POINT"
        backbone = build_backbone(cfg)
        shapes = [backbone.output_shape()[name] for name in atss.IN_FEATURES]
        strides = [shape.stride for shape in shapes if shape.stride]
        if strides != list(atss.ANCHOR_STRIDES):
            raise ValueError(
                f"MODEL.ATSS.ANCHOR_STRIDES {tuple(atss.ANCHOR_STRIDES)} are not those of "
                f"{atss.IN_FEATURES}, which are {strides}"
            )
        octave = [
            atss.OCTAVE ** (i / atss.SCALES_PER_OCTAVE) for i in range(atss.SCALES_PER_OCTAVE)
        ]
        anchors = DefaultAnchorGenerator(
            sizes=[[size * scale for scale in octave] for size in atss.ANCHOR_SIZES],
            aspect_ratios=[list(atss.ASPECT_RATIOS)],
            strides=strides,
            offset=0.5,
        )
        box_coder = LegacyBox2BoxTransform if cfg.MODEL.LEGACY_PLUS_ONE else Box2BoxTransform
        return cls._arguments_of(cfg, atss) | {
            "backbone": backbone,
            "head": CenternessHead(
                input_shape=shapes,
                num_classes=atss.NUM_CLASSES,
                num_anchors=anchors.num_anchors[0],
                conv_dims=[shapes[0].channels] * atss.NUM_CONVS,
                norm=atss.NORM,
                prior_prob=atss.PRIOR_PROB,
                deformable_last=atss.USE_DCN_IN_TOWER,
                positive_deltas=points,
            ),
            "anchor_generator": anchors,
            "box2box_transform": PointTransform(atss.ANCHOR_SIZES[0] / strides[0])
            if points
            else box_coder(weights=atss.BBOX_REG_WEIGHTS),
            "assigner": build_assigner(cfg),
            "reg_loss_weight": atss.REG_LOSS_WEIGHT,
            "legacy_plus_one": cfg.MODEL.LEGACY_PLUS_ONE,
        }

    def losses(  # type: ignore[override]
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_box_reg` and `loss_centerness`.

        The normalizers are means over the processes: of the positives for classes and centerness,
        of the summed centerness targets, which weight them, for boxes.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        weights = (labels >= 0).float()  # ignored anchors weigh nothing
        positives = gather_positives(anchors, labels, gt_boxes, self.num_classes)
        central = centerness_of(positives.anchors, positives.targets)  # (P,)
        count = mean_over_ranks(central.new_full((), float(len(positives.anchors))), at_least=1)
        weight = mean_over_ranks(central.sum(), at_least=1e-6)

        cls_sum = focal_loss_sum(
            pred_logits, weights, positives.at, self.focal_loss_alpha, self.focal_loss_gamma
        )
        deltas = positives.pick(pred_anchor_deltas)
        boxes = self.box2box_transform.apply_deltas(deltas, positives.anchors)
        giou = giou_loss(boxes, positives.targets)
        centerness_sum = F.binary_cross_entropy_with_logits(
            positives.pick(pred_centerness), central, reduction="sum"
        )
        self.metrics = {"num_pos_anchors": count / len(labels)}
        return weighted(
            {
                "loss_cls": (cls_sum, count, 1.0),
                "loss_box_reg": ((giou * central).sum(), weight, self.reg_loss_weight),
                "loss_centerness": (centerness_sum, count, 1.0),
            }
        )

    def scores(self, logits: list[Tensor], *centerness: list[Tensor]) -> list[Tensor]:
        """Return the scores per level (.., R_l, K); 0 where the class score is too low.

        The threshold is for the class score alone: a box far from the centre loses to others in
        NMS, but is a candidate.
        """
        return [
            torch.where(
                level.sigmoid() > self.test_class_score_thresh,
                scores_with_centerness(level, central),
                0.0,
            )
            for level, central in zip(logits, centerness[0], strict=True)
        ]
