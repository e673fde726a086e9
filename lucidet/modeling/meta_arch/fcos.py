"""FCOS: Tian et al. 2019, Fully Convolutional One-Stage Object Detection (arXiv 1904.01355).

With the authors' later improvements: positives near the objects' centres, GIoU loss, distances in
strides, centerness from the box tower.
"""

# N images, R_l locations of level l, R locations in all, K classes, P positives

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
from lucidet.modeling.assigners import Assigner, ScaleRangeAssigner
from lucidet.modeling.backbone import Backbone, build_backbone
from lucidet.modeling.box_regression import Box2BoxTransformLinear, BoxCoder
from lucidet.modeling.losses import (
    centerness_of,
    gather_positives,
    mean_over_ranks,
    scores_with_centerness,
    weighted,
    world_size,
)
from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.modeling.meta_arch.dense_head import CenternessHead
from lucidet.structures import Boxes

__all__ = ["FCOS", "FCOSHead"]

#: detectron2's name
FCOSHead = CenternessHead


@META_ARCH_REGISTRY.register()
class FCOS(DenseDetector):
    """No shapes to choose: every location predicts its distances to the object's four sides.

    A location is handled as an anchor of one stride's size.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        assigner: Assigner,
        num_classes: int,
        box2box_transform: BoxCoder | None = None,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
        loss_normalizer: str = "ema",
        keep_empty_boxes: bool = False,
        clip_before_nms: bool = False,
    ) -> None:
        """
        Args:
            backbone: images (N, C, H, W) -> dict of features.
            head: list of features -> a list over levels for each kind of prediction: logits
                (N, K, H, W), box deltas (N, 4, H, W), centerness (N, 1, H, W).
            head_in_features: names of the levels that the head sees.
            anchor_generator: list of features -> list of Boxes, one stride wide.
            assigner: of :mod:`lucidet.modeling.assigners`; a positive's center lies in its box.
            num_classes: K, without background.
            box2box_transform: between boxes and deltas; default: distances in strides.
            focal_loss_alpha, focal_loss_gamma: weight of positives, and exponent.
            test_score_thresh: detections score more than this, centerness included.
            test_topk_candidates: of a level, before NMS.
            test_nms_thresh: IoU, within a class.
            max_detections_per_image: after NMS.
            pixel_mean: one entry a channel, in the units of the images (0..255).
            pixel_std: one entry a channel, as `pixel_mean`.
            input_format: "BGR" or "RGB", for drawings of the images.
            loss_normalizer: "ema" or "batch"; see :meth:`losses`.
            keep_empty_boxes: detections that clipping leaves without area stay.
            clip_before_nms: boxes are clipped to the image before NMS, not only after it.

        Raises:
            ValueError: another `loss_normalizer`.
        """
        if loss_normalizer not in ("ema", "batch"):
            raise ValueError(
                f"MODEL.FCOS.LOSS_NORMALIZER must be 'ema' or 'batch', got {loss_normalizer!r}"
            )
        super().__init__(
            backbone,
            head,
            head_in_features,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            input_format=input_format,
            test_score_thresh=test_score_thresh,
            test_topk_candidates=test_topk_candidates,
            test_nms_thresh=test_nms_thresh,
            max_detections_per_image=max_detections_per_image,
            keep_empty_boxes=keep_empty_boxes,
            clip_before_nms=clip_before_nms,
        )
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform or Box2BoxTransformLinear(normalize_by_size=True)
        self.assigner = assigner
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.normalize_losses_by = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        fcos = cfg.MODEL.FCOS
        backbone = build_backbone(cfg)
        shapes = [backbone.output_shape()[name] for name in fcos.IN_FEATURES]
        strides = [shape.stride for shape in shapes if shape.stride]
        bounds = list(fcos.SIZES_OF_INTEREST)
        if len(bounds) != len(shapes) - 1:
            raise ValueError(
                f"MODEL.FCOS.SIZES_OF_INTEREST {bounds} separates {len(bounds) + 1} levels, but "
                f"MODEL.FCOS.IN_FEATURES has {len(shapes)}"
            )
        return cls._arguments_of(cfg, fcos) | {
            "backbone": backbone,
            "head": CenternessHead(
                input_shape=shapes,
                num_classes=fcos.NUM_CLASSES,
                conv_dims=[shapes[0].channels] * fcos.NUM_CONVS,
                norm=fcos.NORM,
                prior_prob=fcos.PRIOR_PROB,
                deformable_last=fcos.USE_DCN_IN_TOWER,
                positive_deltas=True,
                learn_scales=fcos.LEARN_SCALES,
            ),
            "anchor_generator": DefaultAnchorGenerator(
                sizes=[[stride] for stride in strides],
                aspect_ratios=[[1.0]],
                strides=strides,
                offset=fcos.OFFSET,
                measure_strides=cfg.MODEL.ANCHOR_GENERATOR.MEASURE_STRIDES,
            ),
            "assigner": ScaleRangeAssigner(
                list(zip([-1, *bounds], [*bounds, math.inf], strict=True)),
                strides,
                fcos.CENTER_SAMPLING_RADIUS or None,
                open_ranges=True,
            ),
            "loss_normalizer": fcos.LOSS_NORMALIZER,
            "keep_empty_boxes": cfg.TEST.KEEP_EMPTY_BOXES,
            "clip_before_nms": cfg.TEST.CLIP_BEFORE_NMS,
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
        """Return `loss_fcos_cls`, `loss_fcos_loc` and `loss_fcos_ctr`.

        All three are sums divided by a moving average of the number of positives, a mean over the
        processes; with ``loss_normalizer`` "batch" by this batch's number.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        weights = (labels >= 0).float()  # ignored locations weigh nothing
        positives = gather_positives(anchors, labels, gt_boxes, self.num_classes)
        count = weights.new_full((), float(len(positives.anchors)))
        normalizer = mean_over_ranks(count, at_least=1)
        if self.normalize_losses_by == "ema":
            normalizer = self._ema_update("loss_normalizer", normalizer, 300 / world_size())

        cls_sum = focal_loss_sum(
            pred_logits, weights, positives.at, self.focal_loss_alpha, self.focal_loss_gamma
        )
        deltas = positives.pick(pred_anchor_deltas)
        boxes = self.box2box_transform.apply_deltas(deltas, positives.anchors)
        box_sum = giou_loss(boxes, positives.targets, reduction="sum")
        central = centerness_of(positives.anchors, positives.targets)  # (P,)
        centerness_sum = F.binary_cross_entropy_with_logits(
            positives.pick(pred_centerness), central, reduction="sum"
        )
        self.metrics = {"num_pos_anchors": count / len(labels)}
        return weighted(
            {
                "loss_fcos_cls": (cls_sum, normalizer, 1.0),
                "loss_fcos_loc": (box_sum, normalizer, 1.0),
                "loss_fcos_ctr": (centerness_sum, normalizer, 1.0),
            }
        )

    def scores(self, logits: list[Tensor], *centerness: list[Tensor]) -> list[Tensor]:
        """Return the scores per level (.., R_l, K)."""
        return [
            scores_with_centerness(level, central)
            for level, central in zip(logits, centerness[0], strict=True)
        ]
