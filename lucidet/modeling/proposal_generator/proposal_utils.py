"""From scored boxes to proposals: top-k, clipping, NMS; objects join the proposals at training.

All boxes are XYXY in pixels of the padded batch's images, 0 <= x1 <= x2 <= W after clipping.
"""

# N images, L levels, R_l anchors of level l, k_l candidates kept of level l, K = sum of k_l

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lucidet.layers import nms_padded
from lucidet.structures import (
    Boxes,
    Instances,
    PaddedBoxes,
    PaddedInstances,
    clip_padded,
    take_rows,
)
from lucidet.utils.probe import probe_images

# The logit of a probability of almost 1: an object given as a proposal is certain.
GROUND_TRUTH_LOGIT = math.log((1.0 - 1e-10) / 1e-10)


def find_top_rpn_proposals(
    proposals: Sequence[Tensor],
    pred_objectness_logits: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Return the best proposals of each image, after Ren et al. 2015, section 3.3.

    The top `pre_nms_topk` of every level are clipped to the image, boxes that are too small
    are dropped, NMS runs within each level, and the best `post_nms_topk` of all levels stay.

    Args:
        proposals: per level (N, R_l, 4) decoded boxes.
        pred_objectness_logits: per level (N, R_l).
        image_sizes: (height, width) of each image without its padding.
        nms_thresh: IoU above which the lower of two boxes goes.
        min_box_size: width and height must be larger, in pixels.
        training: boxes or logits that are not finite raise; else such candidates are dropped.

    Returns:
        Per image, Instances with `proposal_boxes` and `objectness_logits`, highest first.

    Raises:
        FloatingPointError: `training`, and a candidate is NaN or infinite.
    """
    top = [level.topk(min(pre_nms_topk, level.shape[1]), dim=1) for level in pred_objectness_logits]
    boxes = [
        level.gather(1, index[..., None].expand(-1, -1, 4))
        for level, (_, index) in zip(proposals, top, strict=True)
    ]
    logits = [values for values, _ in top]
    if training:
        for level, (b, s) in enumerate(zip(boxes, logits, strict=True)):
            if not (b.isfinite().all() and s.isfinite().all()):
                raise FloatingPointError(
                    f"predicted boxes or scores of level {level} are infinite or NaN: training has "
                    "diverged; try a lower SOLVER.BASE_LR, a longer warm-up or gradient clipping"
                )
    return keep_best(boxes, logits, image_sizes, nms_thresh, post_nms_topk, min_box_size)


def keep_best(
    boxes: Sequence[Tensor],
    logits: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    score_thresh: float = 0.0,
    rank_probabilities: bool = False,
) -> list[Instances]:
    """Clip, drop and suppress the candidates of all images, see :func:`find_top_rpn_proposals`.

    A candidate that is not finite is dropped without an error: at training the losses, which see
    the same predictions, carry the NaN to where the training loop names it.

    Args:
        boxes: per level (N, k_l, 4).
        logits: per level (N, k_l).
        score_thresh: objectness, 0..1; candidates below it are dropped; 0: none.
        rank_probabilities: NMS sees probabilities instead of logits.
    """
    longest = [level.shape[1] for level in boxes]
    all_boxes, all_logits = torch.cat(list(boxes), 1), torch.cat(list(logits), 1)  # (N, K, 4)
    levels = torch.arange(len(longest)).repeat_interleave(torch.tensor(longest))
    levels = levels.to(all_boxes.device, non_blocking=True)  # (K,)
    valid = all_boxes.isfinite().all(dim=2) & all_logits.isfinite()
    if score_thresh > 0:
        valid &= all_logits.sigmoid() >= score_thresh
    all_boxes = all_boxes.where(valid[..., None], 0.0)
    clipped = clip_padded(all_boxes, image_sizes)
    valid &= (clipped[..., 2:] - clipped[..., :2] > min_box_size).all(dim=2)
    # boxes of different levels never suppress each other
    ranked = all_logits.sigmoid() if rank_probabilities else all_logits
    keep, count = nms_padded(
        clipped, ranked, levels, valid, nms_thresh, post_nms_topk, longest=max(longest)
    )
    found = {
        "proposal_boxes": take_rows(clipped, keep),
        "objectness_logits": all_logits.gather(1, keep),
    }
    batch = PaddedInstances(image_sizes, found, count)

    def decoded(image: int) -> dict[str, Any]:
        return {"boxes": Boxes(all_boxes[image]), "logits": all_logits[image], "levels": levels}

    def candidates(image: int) -> dict[str, Any]:
        rows = valid[image]
        own = {"boxes": clipped[image, rows], "scores": all_logits[image, rows]}
        return {**own, "levels": levels[rows]}

    def kept(image: int) -> dict[str, Any]:
        own = slice(batch.lengths[image])
        rank = valid[image].cumsum(0) - 1  # of each candidate among the valid ones
        shown = {"boxes": found["proposal_boxes"], "logits": found["objectness_logits"]}
        shown = {name: values[image, own] for name, values in shown.items()}
        return {**shown, "keep": rank[keep[image, own]]}

    probe_images("rpn.decode", len(keep), decoded)
    probe_images("rpn.candidates", len(keep), candidates)
    probe_images("rpn.proposals", len(keep), kept)
    return batch.split()


def add_ground_truth_to_proposals(
    gt: Sequence[Instances] | Sequence[Boxes], proposals: Sequence[Instances]
) -> list[Instances]:
    """Append each image's ground-truth boxes to its proposals; see the single-image form below.

    Raises:
        ValueError: not one entry of `gt` for each entry of `proposals`.
    """
    if len(gt) != len(proposals):
        raise ValueError(f"{len(proposals)} images have proposals, but {len(gt)} have objects")
    batch = PaddedInstances.untouched(proposals)
    if batch is None or set(batch.fields) != {"proposal_boxes", "objectness_logits"}:
        return [
            add_ground_truth_to_proposals_single_image(gt[i], p) for i, p in enumerate(proposals)
        ]
    added = PaddedBoxes.from_boxes([own if isinstance(own, Boxes) else own.gt_boxes for own in gt])
    # behind each image's proposals, over places that hold nothing
    places = batch.count[:, None] + torch.arange(added.tensor.shape[1], device=batch.count.device)
    boxes, logits = batch.fields["proposal_boxes"], batch.fields["objectness_logits"]
    boxes = torch.cat([boxes, torch.zeros_like(added.tensor)], dim=1)
    logits = F.pad(logits, (0, added.tensor.shape[1]), value=GROUND_TRUTH_LOGIT)
    joined = {
        "proposal_boxes": boxes.scatter(1, places[..., None].expand(-1, -1, 4), added.tensor),
        "objectness_logits": logits.scatter(1, places, GROUND_TRUTH_LOGIT),
    }
    return PaddedInstances(batch.image_sizes, joined, batch.count + added.valid.sum(dim=1)).split()


def add_ground_truth_to_proposals_single_image(
    gt: Instances | Boxes, proposals: Instances
) -> Instances:
    """Return `proposals` followed by the objects, as proposals with a probability of almost 1.

    Early in training the RPN finds no object; this way the ROI heads see some from the start.

    Args:
        gt: the objects' Boxes, or Instances with `gt_boxes` and every further field that
            `proposals` has.
        proposals: Instances with `proposal_boxes` and `objectness_logits`.

    Raises:
        ValueError: `proposals` has a field that `gt` lacks.
    """
    if isinstance(gt, Boxes):
        gt = Instances(proposals.image_size, gt_boxes=gt)
    logits = proposals.objectness_logits
    known: dict[str, Any] = {
        **gt.get_fields(),
        "proposal_boxes": gt.gt_boxes,
        "objectness_logits": logits.new_full((len(gt),), GROUND_TRUTH_LOGIT),
    }
    missing = sorted(set(proposals.get_fields()) - set(known))
    if missing:
        raise ValueError(
            f"the proposals have the fields {missing}, which the ground truth lacks; add them to "
            "the ground truth, or leave them out with PROPOSAL_APPEND_GT False"
        )
    objects = Instances(
        proposals.image_size, **{name: known[name] for name in proposals.get_fields()}
    )
    return Instances.cat([proposals, objects])
