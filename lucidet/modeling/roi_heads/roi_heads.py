"""ROI heads: sample proposals, pool their features, classify and refine them.

Here are the heads for a pyramid (Lin et al. 2017, arXiv 1612.03144, section 4.2);
:mod:`lucidet.modeling.roi_heads.base` holds what precedes the heads, and
:mod:`lucidet.modeling.roi_heads.res5` those for one feature map.
"""

# N images, R proposals in all, C channels, D width of the box head, h x w bins of the pooler

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.poolers import ROIPooler
from lucidet.modeling.roi_heads.base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    build_roi_heads,
    select_foreground_proposals,
)
from lucidet.modeling.roi_heads.box_head import build_box_head
from lucidet.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from lucidet.modeling.roi_heads.res5 import Res5ROIHeads
from lucidet.structures import Boxes, Instances
from lucidet.utils.probe import probe

__all__ = [
    "ROI_HEADS_REGISTRY",
    "ROIHeads",
    "Res5ROIHeads",
    "StandardROIHeads",
    "build_roi_heads",
    "select_foreground_proposals",
]


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Pool each proposal from its pyramid level, then a box head and the two outputs."""

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: FastRCNNOutputLayers,
        train_on_pred_boxes: bool = False,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        """
        Args:
            box_in_features: names of the feature maps to pool from, fine to coarse.
            box_pooler: features and boxes -> (R, C, h, w).
            box_head: (R, C, h, w) -> (R, D).
            box_predictor: (R, D) -> scores and deltas.
            train_on_pred_boxes: the proposals returned at training have the boxes predicted for
                their classes, for heads that come after this one.
            num_classes, batch_size_per_image, positive_fraction, proposal_matcher,
                proposal_append_gt: see :class:`ROIHeads`.
        """
        super().__init__(
            num_classes=num_classes,
            batch_size_per_image=batch_size_per_image,
            positive_fraction=positive_fraction,
            proposal_matcher=proposal_matcher,
            proposal_append_gt=proposal_append_gt,
        )
        self.in_features = self.box_in_features = list(box_in_features)
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        """Return the arguments of ``__init__``; `input_shape` is the backbone's output."""
        return {
            **super().from_config(cfg),
            "train_on_pred_boxes": cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES,
            **cls._init_box_head(cfg, input_shape),
        }

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments that make the box branch: what a variant overrides."""
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_BOX_HEAD
        channels = {input_shape[name].channels or 0 for name in in_features}
        if len(channels) != 1:
            raise ValueError(
                f"the maps of MODEL.ROI_HEADS.IN_FEATURES {in_features} have different channels "
                f"{sorted(channels)}; the box head is shared, so they must be equal"
            )
        box_head: Any = build_box_head(
            cfg,
            ShapeSpec(
                channels=channels.pop(),
                height=head.POOLER_RESOLUTION,
                width=head.POOLER_RESOLUTION,
            ),
        )
        return {
            "box_in_features": in_features,
            "box_pooler": ROIPooler(
                output_size=head.POOLER_RESOLUTION,
                scales=tuple(1.0 / (input_shape[name].stride or 1) for name in in_features),
                sampling_ratio=head.POOLER_SAMPLING_RATIO,
                pooler_type=head.POOLER_TYPE,
            ),
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(
                **FastRCNNOutputLayers.from_config(cfg, box_head.output_shape)
            ),
        }

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """See :meth:`ROIHeads._forward_box`."""
        if not self.training:
            proposals = self._without_wait(proposals)
        box_features = self.box_pooler(
            [features[name] for name in self.box_in_features],
            [p.proposal_boxes for p in proposals],
        )
        probe("roi.pool", features=box_features)
        predictions = self.box_predictor(self.box_head(box_features))
        if not self.training:
            detections, _ = self.box_predictor.inference(predictions, proposals)
            return detections
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            self._replace_by_predicted_boxes(predictions, proposals)
        return losses

    @torch.no_grad()
    def _replace_by_predicted_boxes(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> None:
        """Set `proposal_boxes` to the boxes predicted for each proposal's class."""
        boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
        for proposal, box in zip(proposals, boxes, strict=True):
            proposal.proposal_boxes = Boxes(box)
