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
from lucidet.modeling.assigners import Assignment, assign_batch
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from lucidet.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from lucidet.modeling.sampling import subsample_masks
from lucidet.structures import (
    Boxes,
    ImageList,
    Instances,
    PaddedBoxes,
    PaddedInstances,
    pad_fields,
    pad_rows,
    select_rows,
    set_other_fields,
    take_rows,
    tensor_on,
)
from lucidet.utils.overrides import is_overridden
from lucidet.utils.probe import probe_images
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
    """Return each image's foreground proposals, and the masks that select them.

    Args:
        proposals: per image, with `gt_classes`.
        bg_label: K. A class of -1 (not used) is not foreground either. The CPU waits for a GPU
            once for all images.
    """
    if not proposals:
        return [], []
    classes = torch.cat([p.gt_classes for p in proposals])
    foreground = (classes != -1) & (classes != bg_label)
    masks = foreground.split([len(p) for p in proposals])
    return select_rows(proposals, foreground), list(masks)


class ROIHeads(nn.Module):
    """Base of all ROI heads: assigns objects to proposals and samples them for training.

    `metrics` holds the last training step's mean numbers of sampled proposals an image.
    """

    #: of the heads that classify and refine proposals; a cascade has several
    box_predictor: Any
    #: whether there is a head for masks, or for keypoints
    mask_on = False
    keypoint_on = False
    metrics: dict[str, Tensor] = {}
    _samples_each_image = True

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
        # a subclass' method takes one image, as in detectron2
        self._samples_each_image = is_overridden(self, ROIHeads, "_sample_proposals")

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
        """Sample the proposals of one image that the losses use, foreground first.

        A subclass may override it; it is then called for each image.

        Args:
            matched_idxs: (R,) index of each proposal's ground-truth box.
            matched_labels: (R,) 1 foreground, 0 background, -1 ignored.
            gt_classes: (M,) classes of the ground-truth boxes; M may be 0.

        Returns:
            Indices (S,) into the proposals, and their classes (S,) in 0..K.
        """
        indices, classes, count = self._sample_batch(
            matched_idxs[None], matched_labels[None], gt_classes[None]
        )
        return indices[0, : int(count)], classes[0, : int(count)]

    def _sample_batch(
        self, matched_idxs: Tensor, labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sample the proposals of all images at once.

        Args:
            matched_idxs, labels: (N, R), see :meth:`_sample_proposals`.
            gt_classes: (N, M).

        Returns:
            Indices (N, S) into the R proposals, foreground first, their classes (N, S), and (N,)
            how many of the S places of an image are sampled: the first ones.
        """
        classes = torch.full_like(matched_idxs, self.num_classes)
        if gt_classes.shape[1] > 0:
            classes = gt_classes.gather(1, matched_idxs).where(labels != 0, classes)
        classes = classes.masked_fill(labels == -1, -1)
        positive, negative = subsample_masks(
            classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
        )
        order = torch.where(positive, 0, torch.where(negative, 1, 2)).argsort(dim=1, stable=True)
        indices = order[:, : self.batch_size_per_image]
        return indices, classes.gather(1, indices), (positive | negative).sum(dim=1)

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Match proposals to the ground-truth boxes they overlap, and sample them.

        After Ren et al. 2015, section 3.3, and Girshick 2015, section 2.3: IoU of 0.5, a quarter
        foreground. The ground-truth boxes join the proposals, as early on the RPN finds none.

        Args:
            proposals: per image, with `proposal_boxes` and `objectness_logits`.
            targets: per image, with `gt_boxes`, `gt_classes` and any further `gt_*`.

        Returns:
            Per image, S or fewer proposals with `gt_classes` (S,) in 0..K and, unless the image
            has no ground truth, each `gt_*` of the box matched (meaningless for background).
        """
        if not targets:
            return []
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        views = PaddedInstances.untouched(proposals)
        candidates = PaddedInstances.padded(proposals) if views is None else views
        gt = pad_fields(targets, "gt_")
        found = self._match(self.proposal_matcher, candidates, targets)  # (N, R)
        if self._samples_each_image:
            indices, classes, count = self._sample_each_image(candidates, found, targets)
        else:
            indices, classes, count = self._sample_batch(
                found.matched_idxs, found.labels, gt["gt_classes"]
            )
        matched = found.matched_idxs.gather(1, indices)  # (N, S)
        fields = {name: take_rows(own, indices) for name, own in candidates.fields.items()}
        if gt["gt_classes"].shape[1] > 0:
            fields = {**{name: take_rows(own, matched) for name, own in gt.items()}, **fields}
        fields["gt_classes"] = classes
        batch = PaddedInstances(candidates.image_sizes, fields, count)
        foreground = (classes >= 0) & (classes != self.num_classes) & batch.valid
        mean_foreground = foreground.sum() / len(targets)
        self.metrics = {
            "roi_head/num_fg_samples": mean_foreground,
            "roi_head/num_bg_samples": count.sum() / len(targets) - mean_foreground,
        }

        def of_image(image: int) -> dict[str, Any]:
            shown = {"indices": indices, "classes": classes, "foreground": foreground}
            return {name: own[image, : batch.lengths[image]] for name, own in shown.items()}

        probe_images("roi.sample", len(targets), of_image)
        sampled = batch.split()
        for own, truth in zip(sampled, targets, strict=True):
            if len(truth) == 0:  # only background, which is not matched to anything
                for name in gt.keys() & fields.keys() - {"gt_classes"}:
                    own.remove(name)
        if views is None:
            set_other_fields(sampled, proposals, indices, candidates.fields)
        names = {name for own in targets for name in own.get_fields() if name.startswith("gt_")}
        if names - gt.keys():  # these can't be padded
            set_other_fields(sampled, targets, matched, gt, "gt_")
        return sampled

    def _match(
        self, matcher: Matcher, candidates: PaddedInstances, targets: Sequence[Instances]
    ) -> Assignment:
        """Return which ground-truth box each proposal overlaps most, (N, R) each, and show it."""
        proposals = PaddedBoxes(candidates.fields["proposal_boxes"], candidates.valid)
        gt_boxes = PaddedBoxes.from_boxes([own.gt_boxes for own in targets])
        found = assign_batch(matcher, proposals, gt_boxes)

        def of_image(image: int) -> dict[str, Any]:
            rows = slice(candidates.lengths[image])
            return {
                "matched_idxs": found.matched_idxs[image, rows],
                "labels": found.labels[image, rows],
                "quality": found.quality[image, rows],
                "proposals": Boxes(proposals.tensor[image, rows]),
                "gt_boxes": targets[image].gt_boxes,
            }

        probe_images("roi.assign", len(targets), of_image)
        return found

    def _sample_each_image(
        self, candidates: PaddedInstances, found: Assignment, targets: Sequence[Instances]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Do what :meth:`_sample_batch` does with a subclass' :meth:`_sample_proposals`."""
        indices: list[Tensor] = []
        classes: list[Tensor] = []
        for image, gt in enumerate(targets):
            rows = slice(candidates.lengths[image])
            own = found.matched_idxs[image, rows], found.labels[image, rows], gt.gt_classes
            for values, new in zip((indices, classes), self._sample_proposals(*own), strict=True):
                values.append(new)
        count = tensor_on([len(own) for own in indices], found.labels.device)
        return pad_rows(indices), pad_rows(classes), count

    def _without_wait(self, proposals: list[Instances]) -> list[Instances]:
        """Return the proposals at test so that the CPU need not know how many there are.

        On a GPU each image then has the largest number, filled up with boxes of NaN, which give no
        detection.
        """
        batch = PaddedInstances.untouched(proposals)
        if batch is None or batch.count.device.type == "cpu":
            return proposals
        predictor = self.box_predictor
        if isinstance(predictor, nn.ModuleList):  # a cascade's
            return batch.with_all_rows("proposal_boxes")
        if not isinstance(predictor, FastRCNNOutputLayers) or is_overridden(
            predictor, FastRCNNOutputLayers, "inference"
        ):
            return proposals  # user code may know nothing of boxes of NaN
        return batch.with_all_rows("proposal_boxes")

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return (sampled proposals, losses) at training; at test (detections, {}): per image,
        Instances with `pred_boxes`, `scores`, `pred_classes`, and what further heads predict.

        Args:
            images: of which nothing but the sizes may be needed.
            features: name -> (N, C, H, W).
            proposals: per image, with `proposal_boxes` and `objectness_logits`.
            targets: at training, per image, with `gt_boxes` and `gt_classes`.
        """
        if self.training:
            if targets is None:
                raise ValueError("ROI heads need targets to train; call model.eval() to infer")
            proposals = self.label_and_sample_proposals(proposals, targets)
            losses: Any = self._forward_box(features, proposals)
            if self.mask_on or self.keypoint_on:
                losses.update(self._further_losses(features, proposals))
            return proposals, losses
        detections: Any = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def _further_losses(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Return the losses of the heads that look at the sampled foreground: masks, keypoints."""
        losses: dict[str, Any] = {}
        for forward in (self._forward_mask, self._forward_keypoint):
            found: Any = forward(features, proposals)
            losses.update(found)
        return losses

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses at training, per image the detections at test: what a head defines."""
        raise NotImplementedError(f"{type(self).__name__} must define _forward_box() or forward()")

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add what the heads for masks and keypoints predict for given boxes, where there are any.

        Args:
            features: name -> (N, C, H, W).
            instances: per image, with `pred_boxes` (XYXY, pixels of the resized image) and
                `pred_classes`; they get further fields.
        """
        for forward in (self._forward_mask, self._forward_keypoint):
            found: Any = forward(features, instances)
            instances = found
        return instances

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of masks at training, `instances` with masks at test.

        Without such a head there are none. Forwards written for detectron2 call it (and
        :meth:`_forward_keypoint`) in any case.
        """
        return {} if self.training else instances

    def _forward_keypoint(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of keypoints at training, `instances` with keypoints at test."""
        return {} if self.training else instances

    def _targets_needed(self, targets: list[Instances] | None) -> list[Instances]:
        if targets is None:
            raise ValueError("ROI heads need targets to train; call model.eval() to infer")
        return targets
