"""RetinaNet: Lin et al. 2017, Focal Loss for Dense Object Detection (arXiv 1708.02002)."""

# N images, R_l anchors of level l, R anchors in all, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers.fast.focal_loss_sum import focal_loss_sum
from lucidet.modeling.anchor_generator import build_anchor_generator
from lucidet.modeling.assigners import Assigner
from lucidet.modeling.backbone import Backbone, build_backbone
from lucidet.modeling.box_regression import Box2BoxTransform, BoxCoder, box_loss_sum
from lucidet.modeling.legacy import GrownObjects, LegacyBox2BoxTransform
from lucidet.modeling.losses import gather_positives, mean_over_ranks, weighted, world_size
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY
from lucidet.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K
from lucidet.modeling.meta_arch.dense_head import RetinaNetHead
from lucidet.structures import Boxes

__all__ = ["RetinaNet", "RetinaNetHead", "permute_to_N_HWA_K"]


@META_ARCH_REGISTRY.register()
class RetinaNet(DenseDetector):
    """Anchors of nine shapes a cell, labelled by IoU, classified with the focal loss."""

    # for subclasses with a constructor of their own, which sets detectron2's attributes only
    normalize_losses_by = "ema"

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        box2box_transform: BoxCoder,
        anchor_matcher: Matcher | Assigner,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
        legacy_plus_one: bool = False,
        loss_normalizer: str = "ema",
        keep_empty_boxes: bool = False,
        clip_before_nms: bool = False,
    ) -> None:
        """
        Args:
            backbone: images (N, C, H, W) -> dict of features.
            head: list of features -> a list over levels for each kind of prediction: logits
                (N, A * K, H, W) and box deltas (N, A * 4, H, W).
            head_in_features: names of the levels that the head sees.
            anchor_generator: list of features -> list of Boxes.
            box2box_transform: between boxes and deltas.
            anchor_matcher: a Matcher, or an assigner of :mod:`lucidet.modeling.assigners`.
            num_classes: K, without background.
            focal_loss_alpha, focal_loss_gamma: weight of positives, and exponent.
            smooth_l1_beta: where L1 begins; 0 is plain L1.
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            test_score_thresh: detections score more than this.
            test_topk_candidates: of a level, before NMS.
            test_nms_thresh: IoU, within a class.
            max_detections_per_image: after NMS.
            pixel_mean: one entry a channel, in the units of the images (0..255).
            pixel_std: one entry a channel, as `pixel_mean`.
            vis_period: iterations between two drawings of a training loop; 0: none.
            input_format: "BGR" or "RGB", for drawings of the images.
            legacy_plus_one: clip and suppress boxes whose width is x2 - x1 + 1; the transform and
                the matcher must be of that convention too.
            loss_normalizer: "ema", "batch" or "image"; see :meth:`losses`.
            keep_empty_boxes: detections that clipping leaves without area stay.
            clip_before_nms: boxes are clipped to the image before NMS, not only after it.

        Raises:
            ValueError: another `loss_normalizer`.
        """
        if loss_normalizer not in ("ema", "batch", "image"):
            raise ValueError(
                "MODEL.RETINANET.LOSS_NORMALIZER must be 'ema', 'batch' or 'image', got "
                f"{loss_normalizer!r}"
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
            legacy_plus_one=legacy_plus_one,
            keep_empty_boxes=keep_empty_boxes,
            clip_before_nms=clip_before_nms,
        )
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = self.assigner = anchor_matcher
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        self.vis_period = vis_period
        self.normalize_losses_by = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        backbone = build_backbone(cfg)
        retinanet = cfg.MODEL.RETINANET
        shapes = [backbone.output_shape()[name] for name in retinanet.IN_FEATURES]
        matcher: Matcher | Assigner = Matcher(
            retinanet.IOU_THRESHOLDS, retinanet.IOU_LABELS, allow_low_quality_matches=True
        )
        coder = Box2BoxTransform
        if cfg.MODEL.LEGACY_PLUS_ONE:
            matcher, coder = GrownObjects(matcher), LegacyBox2BoxTransform
        return cls._arguments_of(cfg, retinanet) | {
            "backbone": backbone,
            "head": RetinaNetHead(cfg, shapes),  # type: ignore[call-arg, arg-type]  # @configurable
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "box2box_transform": coder(weights=retinanet.BBOX_REG_WEIGHTS),
            "anchor_matcher": matcher,
            "smooth_l1_beta": retinanet.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": retinanet.BBOX_REG_LOSS_TYPE,
            "vis_period": cfg.VIS_PERIOD,
            "legacy_plus_one": cfg.MODEL.LEGACY_PLUS_ONE,
            "loss_normalizer": retinanet.LOSS_NORMALIZER,
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
    ) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_box_reg`; see :meth:`DenseDetector.losses`.

        Both are sums divided by a moving average of the number of positives, a mean over the
        processes, which is smoother than each batch's. With ``loss_normalizer`` "batch" it is this
        batch's number; with "image" each image is divided by its own, and the images are averaged.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        weights = (labels >= 0).float()  # ignored anchors weigh nothing
        positives = gather_positives(anchors, labels, gt_boxes, self.num_classes)
        box_weights = None
        count = weights.new_full((), float(len(positives.anchors)))
        normalizer = mean_over_ranks(count, at_least=1)
        if self.normalize_losses_by == "ema":
            normalizer = self._ema_update("loss_normalizer", normalizer, 100 / world_size())
        elif self.normalize_losses_by == "image":
            normalizer = weights.new_full((), float(len(labels)))
            own = ((labels >= 0) & (labels < self.num_classes)).sum(dim=1).clamp(min=1)  # (N,)
            weights = weights / own[:, None]
            box_weights = (1 / own)[positives.at[0]]  # (P,)

        cls_sum = focal_loss_sum(
            pred_logits, weights, positives.at, self.focal_loss_alpha, self.focal_loss_gamma
        )
        box_sum = box_loss_sum(
            self.box2box_transform,
            positives.pick(pred_anchor_deltas),
            positives.anchors,
            positives.targets,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
            box_weights,
        )
        self.metrics = {"num_pos_anchors": count / len(labels)}
        return weighted(
            {"loss_cls": (cls_sum, normalizer, 1.0), "loss_box_reg": (box_sum, normalizer, 1.0)}
        )
