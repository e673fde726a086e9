"""The region proposal network (Ren et al. 2015, arXiv 1506.01497, section 3)."""

# N images, L levels, A anchors a cell, R_l = HWA anchors of level l, R anchors in all, B = box_dim,
# M objects, P sampled positives

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import DefaultAnchorGenerator, build_anchor_generator
from lucidet.modeling.assigners import assign_batch
from lucidet.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from lucidet.modeling.losses import weighted
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY
from lucidet.modeling.proposal_generator.proposal_utils import keep_best
from lucidet.modeling.proposal_generator.rpn_head import (
    RPN_HEAD_REGISTRY,
    StandardRPNHead,
    build_rpn_head,
)
from lucidet.modeling.sampling import subsample_masks
from lucidet.structures import Boxes, ImageList, Instances, PaddedBoxes, take_rows
from lucidet.utils.overrides import is_overridden
from lucidet.utils.probe import probe, probe_images

__all__ = ["RPN", "RPN_HEAD_REGISTRY", "StandardRPNHead", "build_rpn_head"]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Scores and refines anchors into class-agnostic proposals.

    `metrics` holds the last training step's mean numbers of sampled anchors an image.
    """

    # for subclasses with a constructor of their own, which sets detectron2's attributes only
    score_thresh = 0.0
    normalize_by_sampled = False
    rank_probabilities = False
    metrics: dict[str, Tensor] = {}
    _subsamples_each_image = True
    _losses_see_samples_only = False

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: DefaultAnchorGenerator,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        score_thresh: float = 0.0,
        normalize_by_sampled: bool = False,
        rank_probabilities: bool = False,
    ) -> None:
        """
        Args:
            in_features: names of the levels, as the backbone calls them.
            head: list of features -> (list of logits, list of deltas).
            anchor_generator: list of features -> list of Boxes.
            anchor_matcher: a Matcher, or an assigner of :mod:`lucidet.modeling.assigners`.
            box2box_transform: between boxes and deltas.
            batch_size_per_image: anchors sampled for the losses.
            positive_fraction: at most this part of them is positive.
            pre_nms_topk: (training, test) candidates a level before NMS.
            post_nms_topk: (training, test) proposals an image after NMS.
            nms_thresh: IoU, in 0..1.
            min_box_size: pixels; smaller proposals are dropped.
            anchor_boundary_thresh: anchors further outside than this many pixels are left out of
                training; negative: all take part.
            loss_weight: one factor for both losses, or one by name (absent: 1).
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            smooth_l1_beta: where L1 begins; 0 is plain L1.
            score_thresh: objectness, 0..1, below which a candidate can't become a proposal.
            normalize_by_sampled: see :meth:`losses`.
            rank_probabilities: NMS ranks candidates by probability instead of logit.
        """
        super().__init__()
        if not 0.0 <= nms_thresh <= 1.0:
            raise ValueError(f"nms_thresh must be an IoU in 0..1, got {nms_thresh}")
        self.in_features = list(in_features)
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta
        self.score_thresh = score_thresh
        self.normalize_by_sampled = normalize_by_sampled
        self.rank_probabilities = rank_probabilities
        # a subclass' method takes one image, as in detectron2
        self._subsamples_each_image = is_overridden(self, RPN, "_subsample_labels")
        self._losses_see_samples_only = not is_overridden(self, RPN, "losses", "predict_proposals")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of ``__init__``; `input_shape` is the backbone's output."""
        rpn = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(
                rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True
            ),
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
            "score_thresh": rpn.SCORE_THRESH,
            "normalize_by_sampled": rpn.NORMALIZE_BY_SAMPLED,
            "rank_probabilities": rpn.RANK_PROBABILITIES,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return proposals and, at training, losses.

        Args:
            images: of which only the sizes are used.
            features: name -> (N, C, H, W).
            gt_instances: at training, per image, with `gt_boxes` in the frame of `images`.

        Returns:
            Per image, Instances with `proposal_boxes` and `objectness_logits`, highest first and
            without gradients; and a dict with `loss_rpn_cls` and `loss_rpn_loc` (test: empty).
        """
        levels = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(levels)
        # where only the sampled anchors have gradients, the maps need none
        head: Any = self.rpn_head
        at_samples = (
            self._losses_see_samples_only
            and self.training
            and isinstance(head, StandardRPNHead)
            and head.trains_on_samples(levels, self.batch_size_per_image * len(levels[0]))
        )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not at_samples):
            maps = head(levels)
        logits = [flatten_map(level, 1).squeeze(2) for level in maps[0]]  # (N, A, H, W) -> (N, HWA)
        box_dim = self.anchor_generator.box_dim
        deltas = [flatten_map(level, box_dim) for level in maps[1]]  # (N, AB, H, W) -> (N, HWA, B)
        probe("rpn.head", logits=logits, deltas=deltas)
        losses: dict[str, Tensor] = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("the RPN needs gt_instances to train; call model.eval() to infer")
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            if at_samples:
                sampled = torch.stack(gt_labels) >= 0
                logits, deltas = head.of_samples(levels, sampled, logits, deltas)
            losses = self.losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Say for every anchor whether it is an object, and draw those that the losses use.

        After Ren et al. 2015, section 3.1.2: 256 anchors an image, up to half of them positive.

        Args:
            anchors: per level, R_l boxes.
            gt_instances: per image, with `gt_boxes`.

        Returns:
            Per image, labels (R,) int8: 1 positive, 0 negative, -1 not used; and per image the
            matched objects' boxes (R, 4), which mean something only where the label is 1.
        """
        gt_boxes = PaddedBoxes.from_boxes([gt.gt_boxes for gt in gt_instances])  # (N, M, 4)
        found = assign_batch(self.anchor_matcher, anchors, gt_boxes)
        labels = found.labels  # (N, R)
        if self.anchor_boundary_thresh >= 0:
            all_anchors, inside = Boxes.cat(anchors), {}
            for size in {gt.image_size for gt in gt_instances}:
                inside[size] = all_anchors.inside_box(size, self.anchor_boundary_thresh)
            labels = labels.where(torch.stack([inside[gt.image_size] for gt in gt_instances]), -1)
        probe_images(
            "rpn.assign",
            len(labels),
            lambda image: {
                "matched_idxs": found.matched_idxs[image],
                "labels": labels[image],
                "quality": found.quality[image],
                "gt_boxes": gt_instances[image].gt_boxes,
                "anchors": anchors,
            },
        )
        if self._subsamples_each_image:
            labels = torch.stack([self._subsample_labels(own) for own in labels])
        else:
            labels = self._subsample_labels(labels)
        probe_images("rpn.sample", len(labels), lambda image: {"labels": labels[image]})
        return list(labels), list(take_rows(gt_boxes.tensor, found.matched_idxs))

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Return `label` (R,) or (N, R) with -1 where an anchor is not sampled, in its memory."""
        positive, negative = subsample_masks(
            label, self.batch_size_per_image, self.positive_fraction, 0
        )
        label.fill_(-1)
        label.masked_fill_(positive, 1)
        label.masked_fill_(negative, 0)
        return label

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return `loss_rpn_cls` and `loss_rpn_loc`, each weighted.

        Both are sums over the sampled anchors, divided by the anchors sampled from a batch,
        ``batch_size_per_image * N``, whether or not so many could be found; with
        ``normalize_by_sampled`` by those that were.

        Args:
            anchors: per level, R_l boxes.
            pred_objectness_logits: per level (N, R_l).
            gt_labels: per image (R,) in {1, 0, -1}.
            pred_anchor_deltas: per level (N, R_l, B).
            gt_boxes: per image (R, 4), used where the label is 1.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        num_images = len(gt_labels)
        positive = labels == 1
        self.metrics = {
            "rpn/num_pos_anchors": positive.sum() / num_images,
            "rpn/num_neg_anchors": (labels == 0).sum() / num_images,
        }
        normalizer: int | Tensor = self.batch_size_per_image * num_images
        if self.normalize_by_sampled:
            normalizer = (labels >= 0).sum().clamp(min=1)
        logits = torch.cat(pred_objectness_logits, dim=1).float()
        # weights of 0 and 1 instead of an index: the CPU need not wait for its length
        classification = F.binary_cross_entropy_with_logits(
            logits, positive.float(), weight=(labels >= 0).float(), reduction="sum"
        )
        localization = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            positive,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        sums = {"loss_rpn_cls": classification, "loss_rpn_loc": localization}
        return weighted(
            {
                name: (total, normalizer, self.loss_weight.get(name, 1.0))
                for name, total in sums.items()
            }
        )

    @torch.no_grad()  # proposals are given to the ROI heads as constants
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return each image's best proposals; only the top candidates of a level are decoded.

        Args:
            anchors: per level, R_l boxes.
            pred_objectness_logits: per level (N, R_l).
            pred_anchor_deltas: per level (N, R_l, B).
            image_sizes: (height, width) of each image without padding.

        Returns:
            Per image, Instances with `proposal_boxes` and `objectness_logits`, highest first.
        """
        top_logits, top_anchors, top_deltas = [], [], []
        for level, logits, deltas in zip(
            anchors, pred_objectness_logits, pred_anchor_deltas, strict=True
        ):
            values, index = logits.topk(
                min(self.pre_nms_topk[self.training], logits.shape[1]), dim=1
            )
            top_logits.append(values)
            top_anchors.append(type(level)(level.tensor[index.flatten()]))  # (N * k_l, B)
            top_deltas.append(deltas.gather(1, index[..., None].expand(-1, -1, deltas.shape[2])))
        return keep_best(
            self._decode_proposals(top_anchors, top_deltas),
            top_logits,
            image_sizes,
            self.nms_thresh,
            self.post_nms_topk[self.training],
            self.min_box_size,
            self.score_thresh,
            self.rank_probabilities,
        )

    def _decode_proposals(
        self, anchors: list[Boxes], pred_anchor_deltas: list[Tensor]
    ) -> list[Tensor]:
        """Return per level the boxes (N, n_l, B) that the deltas (N, n_l, B) make of the anchors.

        `anchors` hold n_l boxes, the same for all images, or N * n_l, image after image.
        """
        deltas = torch.cat(pred_anchor_deltas, dim=1)
        boxes = torch.cat(
            [
                level.tensor.view(-1, *own.shape[1:]).expand(own.shape)
                for level, own in zip(anchors, pred_anchor_deltas, strict=True)
            ],
            dim=1,
        )
        decoded = self.box2box_transform.apply_deltas(deltas.flatten(0, 1), boxes.flatten(0, 1))
        lengths = [own.shape[1] for own in pred_anchor_deltas]
        return list(decoded.view(deltas.shape).split(lengths, dim=1))


def flatten_map(level: Tensor, box_dim: int) -> Tensor:
    """Return a head's (N, A*B, H, W) as (N, HWA, B), in the order of the anchors.

    >>> flatten_map(torch.zeros(2, 12, 5, 7), 4).shape
    torch.Size([2, 105, 4])
    """
    n, _, height, width = level.shape
    return level.view(n, -1, box_dim, height, width).permute(0, 3, 4, 1, 2).flatten(1, 3)
