"""ROI heads for one feature map: ResNet's res5 on each proposal."""

# N images, R proposals in all, C channels pooled, D channels of res5, h x w bins of the pooler

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec
from lucidet.modeling.backbone.resnet import BottleneckBlock, ResNet
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.poolers import ROIPooler
from lucidet.modeling.roi_heads.base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    select_foreground_proposals,
)
from lucidet.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from lucidet.modeling.roi_heads.mask_head import build_mask_head
from lucidet.structures import Boxes, Instances
from lucidet.utils.probe import probe


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """The "C4" head: pool from one feature map, then ResNet's res5 on each proposal.

    After He et al. 2015 (arXiv 1512.03385), appendix A.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        pooler: ROIPooler,
        res5: nn.Module,
        box_predictor: FastRCNNOutputLayers,
        mask_head: nn.Module | None = None,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        """
        Args:
            in_features: names of the feature maps to pool from.
            pooler: features and boxes -> (R, C, h, w).
            res5: what turns that into features (R, D, h', w').
            box_predictor: their means (R, D) -> scores and deltas.
            mask_head: those features and proposals or detections -> losses, or masks; None: no
                masks.
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
        self.in_features = list(in_features)
        self.pooler = pooler
        self.res5 = res5
        self.box_predictor = box_predictor
        self.mask_on = mask_head is not None
        if mask_head is not None:
            self.mask_head = mask_head

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        """Return the arguments of ``__init__``; `input_shape` is the backbone's output."""
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if len(in_features) != 1:
            raise ValueError(
                f"Res5ROIHeads pools from one feature map, got MODEL.ROI_HEADS.IN_FEATURES "
                f"{in_features}; for a pyramid set MODEL.ROI_HEADS.NAME 'StandardROIHeads'"
            )
        if cfg.MODEL.KEYPOINT_ON:
            raise ValueError(
                "Res5ROIHeads has no keypoints: set MODEL.KEYPOINT_ON False, or "
                "MODEL.ROI_HEADS.NAME 'StandardROIHeads'"
            )
        head = cfg.MODEL.ROI_BOX_HEAD
        build: Callable[..., tuple[nn.Module, int]] = cls._build_res5_block
        if not inspect.ismethod(build):  # a subclass has it as a plain method, with a self
            build = partial(build, cls)
        res5, out_channels = build(cfg)
        side = head.POOLER_RESOLUTION
        shape = ShapeSpec(channels=out_channels, width=side, height=side)
        return {
            **super().from_config(cfg),
            "in_features": in_features,
            "pooler": ROIPooler(
                output_size=head.POOLER_RESOLUTION,
                scales=(1.0 / (input_shape[in_features[0]].stride or 1),),
                sampling_ratio=head.POOLER_SAMPLING_RATIO,
                pooler_type=head.POOLER_TYPE,
            ),
            "res5": res5,
            "box_predictor": FastRCNNOutputLayers(
                **FastRCNNOutputLayers.from_config(cfg, ShapeSpec(channels=out_channels))
            ),
            "mask_head": build_mask_head(cfg, shape) if cfg.MODEL.MASK_ON else None,
        }

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Module, int]:
        """Return ResNet's last stage and its output channels, from the keys of MODEL.RESNETS."""
        resnets = cfg.MODEL.RESNETS
        if resnets.DEFORM_ON_PER_STAGE[-1]:
            raise ValueError(
                "Res5ROIHeads has no deformable res5: set the last entry of "
                "MODEL.RESNETS.DEFORM_ON_PER_STAGE to False"
            )
        # res2 -> res5 doubles the width three times
        out_channels = resnets.RES2_OUT_CHANNELS * 8
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            bottleneck_channels=resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 8,
            out_channels=out_channels,
            num_groups=resnets.NUM_GROUPS,
            norm=resnets.NORM,
            stride_in_1x1=resnets.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def _shared_roi_transform(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Return (R, D, h', w') for the boxes of all images in order."""
        pooled = self.pooler(features, boxes)
        probe("roi.pool", features=pooled)
        return self.res5(pooled)

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """See :meth:`ROIHeads._forward_box`; the losses of masks are among those returned."""
        if not self.training:
            proposals = self._without_wait(proposals)
        box_features = self._shared_roi_transform(
            [features[name] for name in self.in_features], [p.proposal_boxes for p in proposals]
        )
        predictions = self.box_predictor(box_features.mean(dim=(2, 3)))
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            if self.mask_on:  # of the same features: res5 runs once
                foreground, chosen = select_foreground_proposals(proposals, self.num_classes)
                losses.update(self.mask_head(box_features[torch.cat(chosen)], foreground))
            return losses
        detections, _ = self.box_predictor.inference(predictions, proposals)
        return detections

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the detections with masks at test; at training `_forward_box` has the losses."""
        if self.training or not self.mask_on:
            return {} if self.training else instances
        maps = [features[name] for name in self.in_features]
        return self.mask_head(
            self._shared_roi_transform(maps, [own.pred_boxes for own in instances]), instances
        )
