"""What all ROI heads share: objects are assigned to proposals, which are sampled for training.

Classes are 0..K-1; K is background.
"""

# N images, R proposals of an image, S sampled of them, M objects, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec
from lucidet.modeling.assigners import assign
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from lucidet.modeling.sampling import subsample_labels
from lucidet.structures import ImageList, Instances
from lucidet.utils.probe import probe
from lucidet.utils.registry import Registry

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = """ROI heads: features and proposals -> losses or detections.

Each is called as ``cls(cfg, input_shape)`` and has the forward of :class:`ROIHeads`.
"""


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> ROIHeads:
    """Build ``cfg.MODEL.ROI_HEADS.NAME`` on a backbone whose ``output_shape()`` is given."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: Sequence[Instances], bg_label: int
) -> tuple[list[Instances], list[Tensor]]:
    """Return each image's proposals that are an object, and the masks that select them.

    Args:
        proposals: per image, with `gt_classes`.
        bg_label: K. A class of -1 (not used) is not foreground either.
    """
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    return [p[mask] for p, mask in zip(proposals, masks, strict=True)], masks


class ROIHeads(nn.Module):
    """Base of all ROI heads: assigns objects to proposals and samples them for training.

    `metrics` holds the last training step's mean numbers of sampled proposals an image.
    """

    #: what forwards written for detectron2 ask; a subclass with such heads sets them
    mask_on = False
    keypoint_on = False

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        """
        Args:
            num_classes: K, without background.
            batch_size_per_image: S, proposals sampled for the losses.
            positive_fraction: at most this part of them is foreground.
            proposal_matcher: a Matcher, or an assigner of :mod:`lucidet.modeling.assigners`.
            proposal_append_gt: the objects join the proposals.
        """
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt
        self.metrics: dict[str, Tensor] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        heads = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": heads.NUM_CLASSES,
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(
                heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False
            ),
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
        }

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw the proposals that the losses use, foreground first.

        Args:
            matched_idxs: (R,) index of each proposal's object.
            matched_labels: (R,) 1 foreground, 0 background, -1 not to be used.
            gt_classes: (M,) classes of the objects; M may be 0.

        Returns:
            Indices (S,) into the proposals, and their classes (S,) in 0..K.
        """
        if len(gt_classes) > 0:
            classes = gt_classes[matched_idxs]
            classes = classes.masked_fill(matched_labels == 0, self.num_classes)
            classes = classes.masked_fill(matched_labels == -1, -1)
        else:
            classes = torch.full_like(matched_idxs, self.num_classes)
        sampled = torch.cat(
            subsample_labels(
                classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
            )
        )
        return sampled, classes[sampled]

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Give proposals the objects they overlap, and sample them.

        After Ren et al. 2015, section 3.3, and Girshick 2015, section 2.3: IoU of 0.5, a quarter
        foreground. The objects themselves join the proposals, as early on the RPN finds none.

        Args:
            proposals: per image, with `proposal_boxes` and `objectness_logits`.
            targets: per image, with `gt_boxes`, `gt_classes` and any further `gt_*`.

        Returns:
            Per image, S or fewer proposals with `gt_classes` (S,) in 0..K and, unless the image
            has no object, each `gt_*` of the object matched (meaningless for background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled_proposals, num_foreground, num_sampled = [], [], 0
        for image, (candidates, gt) in enumerate(zip(proposals, targets, strict=True)):
            assignment = assign(self.proposal_matcher, [candidates.proposal_boxes], gt.gt_boxes)
            matched_idxs, labels = assignment.matched_idxs, assignment.labels
            probe(
                "roi.assign",
                image=image,
                matched_idxs=matched_idxs,
                labels=labels,
                quality=assignment.quality,
                proposals=candidates.proposal_boxes,
                gt_boxes=gt.gt_boxes,
            )
            indices, classes = self._sample_proposals(matched_idxs, labels, gt.gt_classes)
            foreground = (classes != self.num_classes) & (classes >= 0)
            probe(
                "roi.sample", image=image, indices=indices, classes=classes, foreground=foreground
            )
            sampled = candidates[indices]
            sampled.gt_classes = classes
            if len(gt) > 0:
                for name, value in gt.get_fields().items():
                    if name.startswith("gt_") and not sampled.has(name):
                        sampled.set(name, value[matched_idxs[indices]])
            sampled_proposals.append(sampled)
            num_foreground.append(foreground.sum())
            num_sampled += len(classes)
        if sampled_proposals:
            mean_foreground = torch.stack(num_foreground).sum() / len(targets)
            self.metrics = {
                "roi_head/num_fg_samples": mean_foreground,
                "roi_head/num_bg_samples": num_sampled / len(targets) - mean_foreground,
            }
        return sampled_proposals

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return (sampled proposals, losses) at training, (detections, {}) at test.

        Args:
            images: of which nothing but the sizes may be needed.
            features: name -> (N, C, H, W).
            proposals: per image, with `proposal_boxes` and `objectness_logits`.
            targets: at training, per image, with `gt_boxes` and `gt_classes`.

        Returns:
            At test, per image: Instances with `pred_boxes`, `scores`, `pred_classes`.
        """
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, self._targets_needed(targets))
            losses: Any = self._forward_box(features, proposals)
            return proposals, losses
        detections: Any = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses at training, per image the detections at test: what a head defines."""
        raise NotImplementedError(f"{type(self).__name__} must define _forward_box() or forward()")

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add what a head predicts for given boxes; heads for boxes only have nothing to add."""
        return instances

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return no losses at training, `instances` as they are at test: there is no such head.

        Forwards written for detectron2 call it (and :meth:`_forward_keypoint`) in any case.
        """
        return {} if self.training else instances

    _forward_keypoint = _forward_mask

    def _targets_needed(self, targets: list[Instances] | None) -> list[Instances]:
        if targets is None:
            raise ValueError("ROI heads need targets to train; call model.eval() to infer")
        return targets
