"""ROI heads: sample proposals, pool their features, classify and refine them.

Here are the heads for a pyramid (Lin et al. 2017, arXiv 1612.03144, section 4.2);
:mod:`lucidet.modeling.roi_heads.base` holds what precedes the heads, and
:mod:`lucidet.modeling.roi_heads.res5` those for one feature map.
"""

# N images, R proposals in all, C channels, D width of the box head, h x w bins of the pooler

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
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
from lucidet.modeling.roi_heads.keypoint_head import (
    build_keypoint_head,
    select_proposals_with_visible_keypoints,
)
from lucidet.modeling.roi_heads.mask_head import build_mask_head
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
    "select_proposals_with_visible_keypoints",
]


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Pool each proposal from its pyramid level, then a box head and the two outputs.

    Heads for masks and keypoints (He et al. 2017, arXiv 1703.06870) look at the sampled foreground
    at training and at the detections at test.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: FastRCNNOutputLayers,
        mask_in_features: Sequence[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: Sequence[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
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
            mask_in_features: names of the feature maps for masks; None: no masks.
            mask_pooler: as `box_pooler`; None: the head gets the feature maps as they are.
            mask_head: what it pooled and the proposals or detections -> losses, or masks.
            keypoint_in_features, keypoint_pooler, keypoint_head: likewise for keypoints.
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
        self.mask_on = mask_in_features is not None
        if mask_in_features is not None:
            self.mask_in_features = list(mask_in_features)
            self.mask_pooler = mask_pooler
            self.mask_head = mask_head
        self.keypoint_on = keypoint_in_features is not None
        if keypoint_in_features is not None:
            self.keypoint_in_features = list(keypoint_in_features)
            self.keypoint_pooler = keypoint_pooler
            self.keypoint_head = keypoint_head
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        """Return the arguments of ``__init__``; `input_shape` is the backbone's output."""
        arguments = super().from_config(cfg)
        arguments["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        for make in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            # a plain method, of an older subclass, sets attributes; the subclass calls it itself
            if inspect.ismethod(make):
                arguments.update(make(cfg, input_shape))
        return arguments

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments that make the box branch: what a variant overrides."""
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_BOX_HEAD
        pooler, shape = _pooler(head, in_features, input_shape)
        box_head: Any = build_box_head(cfg, shape)
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(
                **FastRCNNOutputLayers.from_config(cfg, box_head.output_shape)
            ),
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments that make the mask branch, none where MODEL.MASK_ON is False."""
        if not cfg.MODEL.MASK_ON:
            return {}
        return _further_head("mask", cfg.MODEL.ROI_MASK_HEAD, build_mask_head, cfg, input_shape)

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments that make the keypoint branch, as :meth:`_init_mask_head` does."""
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        return _further_head("keypoint", head, build_keypoint_head, cfg, input_shape)

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

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """See :meth:`ROIHeads._forward_mask`; at training `instances` are the sampled proposals."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        pooled = self._pooled(self.mask_pooler, self.mask_in_features, features, instances)
        assert self.mask_head is not None
        return self.mask_head(pooled, instances)

    def _forward_keypoint(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """See :meth:`ROIHeads._forward_keypoint`; proposals without visible keypoints are left."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(instances)
            mean = sum(len(own) for own in instances) / max(len(instances), 1)
            self.metrics = {**self.metrics, "keypoint_head/num_fg_samples": torch.tensor(mean)}
        pooled = self._pooled(self.keypoint_pooler, self.keypoint_in_features, features, instances)
        assert self.keypoint_head is not None
        return self.keypoint_head(pooled, instances)

    def _pooled(
        self,
        pooler: ROIPooler | None,
        names: Sequence[str],
        features: dict[str, Tensor],
        instances: Sequence[Instances],
    ) -> Any:
        """Return the features (R, C, h, w) of proposals or detections; the maps without pooler."""
        if pooler is None:
            return {name: features[name] for name in names}
        boxes = [own.proposal_boxes if self.training else own.pred_boxes for own in instances]
        return pooler([features[name] for name in names], boxes)


def _pooler(
    head: CfgNode, in_features: Sequence[str], input_shape: dict[str, ShapeSpec]
) -> tuple[ROIPooler, ShapeSpec]:
    """Return the pooler of a branch, from its section of the config, and the shape it gives."""
    channels = {input_shape[name].channels or 0 for name in in_features}
    if len(channels) != 1:
        raise ValueError(
            f"the maps of MODEL.ROI_HEADS.IN_FEATURES {in_features} have different channels "
            f"{sorted(channels)}; the heads are shared by them, so they must be equal"
        )
    side = head.POOLER_RESOLUTION
    pooler = ROIPooler(
        output_size=side,
        scales=tuple(1.0 / (input_shape[name].stride or 1) for name in in_features),
        sampling_ratio=head.POOLER_SAMPLING_RATIO,
        pooler_type=head.POOLER_TYPE,
    )
    return pooler, ShapeSpec(channels=channels.pop(), height=side, width=side)


def _further_head(
    kind: str,
    head: CfgNode,
    build: Callable[[CfgNode, Any], nn.Module],
    cfg: CfgNode,
    input_shape: dict[str, ShapeSpec],
) -> dict[str, Any]:
    """Return the arguments of ``StandardROIHeads.__init__`` for a mask or keypoint head.

    Args:
        kind: "mask" or "keypoint".
        head: section of the config.
        build: makes the head for what its pooler gives.
        cfg, input_shape: as of ``from_config``.
    """
    in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
    pooler: ROIPooler | None = None
    shape: Any = {name: input_shape[name] for name in in_features}
    if head.POOLER_TYPE:
        pooler, shape = _pooler(head, in_features, input_shape)
    return {
        f"{kind}_in_features": in_features,
        f"{kind}_pooler": pooler,
        f"{kind}_head": build(cfg, shape),
    }
