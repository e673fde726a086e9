"""Cascade R-CNN (Cai & Vasconcelos 2018, arXiv 1712.00726): heads of rising quality in a row."""

# N images, R proposals in all, C channels, D width of a box head, T stages, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec
from lucidet.modeling.box_regression import Box2BoxTransform
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.poolers import ROIPooler
from lucidet.modeling.roi_heads.base import ROI_HEADS_REGISTRY
from lucidet.modeling.roi_heads.box_head import build_box_head
from lucidet.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from lucidet.modeling.roi_heads.roi_heads import StandardROIHeads
from lucidet.structures import (
    Boxes,
    ImageList,
    Instances,
    PaddedInstances,
    clip_padded,
    pad_rows,
    take_rows,
)
from lucidet.utils.probe import probe

__all__ = ["CascadeROIHeads"]

Predictions = tuple[Tensor, Tensor]


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """Each stage's boxes are the next stage's proposals, judged at a higher IoU."""

    #: ModuleLists, one module a stage
    box_head: Any
    box_predictor: Any

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_heads: Sequence[nn.Module],
        box_predictors: Sequence[nn.Module],
        proposal_matchers: Sequence[Matcher],
        mask_in_features: Sequence[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: Sequence[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_append_gt: bool = True,
        proposal_matcher: Matcher | None = None,
        train_on_pred_boxes: bool = False,
    ) -> None:
        """
        Args:
            box_in_features: names of the feature maps to pool from, fine to coarse.
            box_pooler: shared by all stages.
            box_heads: T, one a stage.
            box_predictors: T; their boxes are shared by all classes.
            proposal_matchers: T; the first serves the sampling.
            proposal_matcher: not used: the matchers are `proposal_matchers`.
            train_on_pred_boxes: not available here.
            mask_in_features, mask_pooler, mask_head, keypoint_in_features, keypoint_pooler,
                keypoint_head, num_classes, batch_size_per_image, positive_fraction,
                proposal_append_gt: as in :class:`StandardROIHeads`; at training masks and
                keypoints see the proposals of the first stage.

        Raises:
            ValueError: the lists have different lengths, or `train_on_pred_boxes` is True.
        """
        lengths = [len(box_heads), len(box_predictors), len(proposal_matchers)]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"a cascade needs as many box heads as predictors and matchers, got {lengths}"
            )
        if train_on_pred_boxes:
            raise ValueError(
                "a cascade trains each stage on the boxes of the one before: set "
                "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES False"
            )
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),  # type: ignore[arg-type]
            mask_in_features=mask_in_features,
            mask_pooler=mask_pooler,
            mask_head=mask_head,
            keypoint_in_features=keypoint_in_features,
            keypoint_pooler=keypoint_pooler,
            keypoint_head=keypoint_head,
            num_classes=num_classes,
            batch_size_per_image=batch_size_per_image,
            positive_fraction=positive_fraction,
            proposal_matcher=proposal_matchers[0],
            proposal_append_gt=proposal_append_gt,
        )
        self.num_cascade_stages = len(box_heads)
        self.proposal_matchers = list(proposal_matchers)

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments that make the stages; shapes are checked as for one head."""
        cascade = cfg.MODEL.ROI_BOX_CASCADE_HEAD
        if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
            raise ValueError(
                "the stages of CascadeROIHeads hand on one box a proposal: set "
                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True"
            )
        if cascade.IOUS[0] != cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0]:
            raise ValueError(
                f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS begins with {cascade.IOUS[0]}, but sampling is "
                f"done at MODEL.ROI_HEADS.IOU_THRESHOLDS {cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS}; "
                "they must be equal"
            )
        if len(cascade.IOUS) != len(cascade.BBOX_REG_WEIGHTS):
            raise ValueError(
                f"MODEL.ROI_BOX_CASCADE_HEAD has {len(cascade.IOUS)} IOUS, but "
                f"{len(cascade.BBOX_REG_WEIGHTS)} BBOX_REG_WEIGHTS; both have one entry a stage"
            )
        first = super()._init_box_head(cfg, input_shape)
        pooled = ShapeSpec(
            channels=input_shape[first["box_in_features"][0]].channels,
            height=cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION,
            width=cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION,
        )
        heads = [first["box_head"]] + [build_box_head(cfg, pooled) for _ in cascade.IOUS[1:]]
        return {
            "box_in_features": first["box_in_features"],
            "box_pooler": first["box_pooler"],
            "box_heads": heads,
            "box_predictors": [
                FastRCNNOutputLayers(
                    **{
                        **FastRCNNOutputLayers.from_config(cfg, head.output_shape),
                        "box2box_transform": Box2BoxTransform(weights=weights),
                    }
                )
                for head, weights in zip(heads, cascade.BBOX_REG_WEIGHTS, strict=True)
            ],
            "proposal_matchers": [Matcher([iou], [0, 1]) for iou in cascade.IOUS],
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`ROIHeads.forward`; each stage has losses of its own name."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, self._targets_needed(targets))
            losses: Any = self._forward_box(features, proposals, targets)
            losses.update(self._further_losses(features, proposals))
            return proposals, losses
        detections: Any = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of all stages at training, per image the detections at test."""
        if not self.training:
            proposals = self._without_wait(proposals)
        maps = [features[name] for name in self.box_in_features]
        image_sizes = [p.image_size for p in proposals]
        losses: dict[str, Tensor] = {}
        scores: list[Sequence[Tensor]] = []  # per stage, per image (R_i, K + 1)
        for stage, predictor in enumerate(self.box_predictor):
            predictions = self._run_stage(maps, proposals, stage)
            if self.training:
                for name, value in predictor.losses(predictions, proposals).items():
                    losses[f"{name}_stage{stage}"] = value
                predictor.metrics = {f"stage{stage}/{k}": v for k, v in predictor.metrics.items()}
            else:
                scores.append(predictor.predict_probs(predictions, proposals))
            boxes = predictor.predict_boxes(predictions, proposals)
            if stage + 1 < self.num_cascade_stages:
                proposals = self._create_proposals_from_boxes(boxes, image_sizes)
                if self.training:
                    proposals = self._match_and_label_boxes(
                        proposals, stage + 1, self._targets_needed(targets)
                    )
        if self.training:
            return losses
        # the last boxes, with the scores of all stages on average (section 4.1)
        mean_scores = [torch.stack(stages).mean(dim=0) for stages in zip(*scores, strict=True)]
        last = self.box_predictor[-1]
        detections, _ = fast_rcnn_inference(
            boxes,
            mean_scores,
            image_sizes,
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return detections

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> Predictions:
        """Return the scores (R, K + 1) and deltas (R, 4) of one stage."""
        pooled = self.box_pooler(features, [p.proposal_boxes for p in proposals])
        probe("roi.pool", features=pooled)
        # the stages share the features' gradient in equal parts, so that T heads pull on the
        # backbone no harder than one
        pooled = _ScaleGradient.apply(pooled, 1.0 / self.num_cascade_stages)
        return self.box_predictor[stage](self.box_head[stage](pooled))

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Set `gt_classes` and `gt_boxes` of the proposals by the matcher of `stage`.

        Nothing is sampled: what an earlier stage sampled stays.
        """
        if not proposals:
            return []
        candidates = PaddedInstances.untouched(proposals) or PaddedInstances.padded(proposals)
        found = self._match(self.proposal_matchers[stage], candidates, targets)  # (N, R)
        matched, classes = found.labels == 1, torch.full_like(found.matched_idxs, self.num_classes)
        fields = dict(candidates.fields)
        gt_classes = pad_rows([own.gt_classes for own in targets])  # (N, M)
        if gt_classes.shape[1] > 0:
            classes = gt_classes.gather(1, found.matched_idxs).where(matched, classes)
            gt_boxes = pad_rows([own.gt_boxes.tensor for own in targets])
            fields["gt_boxes"] = take_rows(gt_boxes, found.matched_idxs)
        fields["gt_classes"] = classes
        mean = matched.sum() / len(proposals)
        total = candidates.count.sum()
        self.metrics = {
            **self.metrics,
            f"stage{stage}/roi_head/num_fg_samples": mean,
            f"stage{stage}/roi_head/num_bg_samples": total / len(proposals) - mean,
        }
        return PaddedInstances(candidates.image_sizes, fields, candidates.count).split()

    @torch.no_grad()
    def _create_proposals_from_boxes(
        self, boxes: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Return one stage's boxes (R_i, 4), clipped, as proposals of the next.

        At training those without area are dropped; at test every proposal must keep its place.
        """
        if not boxes:
            return []
        clipped = clip_padded(pad_rows(boxes), image_sizes)  # (N, R, 4)
        lengths = [len(own) for own in boxes]
        if not self.training:
            return [
                Instances(size, proposal_boxes=Boxes(own[:length]))
                for size, own, length in zip(image_sizes, clipped, lengths, strict=True)
            ]
        kept = (clipped[..., 2:] > clipped[..., :2]).all(dim=2)  # padding has no area
        first = (~kept).byte().argsort(dim=1, stable=True)
        fields = {"proposal_boxes": take_rows(clipped, first)}
        return PaddedInstances(image_sizes, fields, kept.sum(dim=1)).split()


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by `scale`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None
