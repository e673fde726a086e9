"""Fast R-CNN's outputs (Girshick 2015, arXiv 1504.08083): class scores, box deltas, their losses,
and detections from them.

Classes are 0..K-1; K is background. Boxes are XYXY, pixels of the resized image.
"""

# N images, R_i proposals of image i, R proposals in all, K classes,
# k = K box predictions a proposal, or 1 when they are shared by all classes

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet._absent import absent
from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec, nms_padded
from lucidet.modeling.box_regression import Box2BoxTransform, masked_box_loss_sum
from lucidet.modeling.losses import weighted
from lucidet.structures import (
    Instances,
    PaddedInstances,
    RowsOfImages,
    clip_padded,
    pad_rows,
    take_rows,
    tensor_on,
)
from lucidet.utils.probe import probe, probe_images

__all__ = ["FastRCNNOutputLayers", "fast_rcnn_inference"]


def fast_rcnn_inference(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    *,
    min_box_size: float = 0.0,
) -> tuple[list[Instances], Sequence[Tensor]]:
    """Return each image's detections: score threshold, NMS within each class, the best of all.

    Args:
        boxes: per image (R_i, K * 4), or (R_i, 4) for boxes shared by all classes.
        scores: per image (R_i, K + 1), background last, in 0..1.
        image_shapes: (height, width) of each image without padding.
        score_thresh: detections have a higher score.
        nms_thresh: IoU above which the lower of two boxes of a class goes.
        topk_per_image: detections an image at most; negative: all.
        min_box_size: detections narrower or lower than this after clipping go before NMS.

    Returns:
        Per image, Instances with `pred_boxes`, `scores`, `pred_classes`, highest score first; and
        per image the index into its proposals (0..R_i-1) that each detection comes from. A
        proposal with a box or score that is NaN or infinite gives no detection. On a GPU the CPU
        waits when the first of them is looked at, not before.
    """
    if len(boxes) == 0:
        return [], []
    lengths = tensor_on([len(own) for own in scores], scores[0].device)
    all_scores, all_boxes = pad_rows(scores), pad_rows(boxes).unflatten(2, (-1, 4))  # (N, R, k, 4)
    num_rows, num_classes = all_scores.shape[1], all_scores.shape[2] - 1
    good = all_boxes.flatten(2).isfinite().all(dim=2) & all_scores.isfinite().all(dim=2)
    good &= torch.arange(num_rows, device=good.device) < lengths[:, None]  # (N, R)
    foreground = all_scores[..., :num_classes]
    # a proposal may give detections of several classes; pair = row * K + class
    passing = ((foreground > score_thresh) & good[..., None]).flatten(1)  # (N, RK)
    pairs, valid = _candidates(passing)  # (N, C)
    rows, classes = pairs // max(num_classes, 1), pairs % max(num_classes, 1)
    shared = all_boxes.shape[2]
    candidates = take_rows(all_boxes.flatten(1, 2), rows * shared + classes.clamp(max=shared - 1))
    candidates = clip_padded(candidates.where(valid[..., None], 0.0), image_shapes)
    if min_box_size > 0:
        sides = candidates[..., 2:] - candidates[..., :2]
        valid = valid & (sides >= min_box_size).all(dim=2)
    candidate_scores = foreground.flatten(1).gather(1, pairs)
    limit = topk_per_image if topk_per_image >= 0 else pairs.shape[1]
    keep, count = nms_padded(
        candidates, candidate_scores, classes, valid, nms_thresh, limit, longest=num_rows
    )
    found = {
        "pred_boxes": take_rows(candidates, keep),
        "scores": candidate_scores.gather(1, keep),
        "pred_classes": classes.gather(1, keep),
    }
    batch = PaddedInstances(image_shapes, found, count)

    def before_and_after(image: int) -> dict[str, Any]:
        own, all_rows = valid[image], slice(int(lengths[image]))
        shown = {"boxes": candidates, "scores": candidate_scores, "classes": classes, "rows": rows}
        rank = own.cumsum(0) - 1  # of each candidate among the valid ones
        return {
            **{name: values[image, own] for name, values in shown.items()},
            "keep": rank[keep[image, : batch.lengths[image]]],
            "all_boxes": all_boxes[image, all_rows].flatten(1),
            "all_scores": all_scores[image, all_rows],
        }

    probe_images("detections.nms", len(boxes), before_and_after)
    return batch.split(), RowsOfImages(rows.gather(1, keep), batch)


def _candidates(passing: Tensor) -> tuple[Tensor, Tensor]:
    """Return where `passing` (N, RK) is True, (N, C) ascending, and which of the places are valid.

    On a GPU C is RK, so that the CPU need not know how many there are.
    """
    if passing.device.type != "cpu":
        return torch.arange(passing.shape[1], device=passing.device).expand_as(passing), passing
    found = [own.nonzero().squeeze(1) for own in passing]
    lengths = torch.tensor([len(own) for own in found])
    pairs = pad_rows(found)
    return pairs, torch.arange(pairs.shape[1]) < lengths[:, None]


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Do :func:`fast_rcnn_inference` for one image."""
    results, kept = fast_rcnn_inference(
        [boxes], [scores], [image_shape], score_thresh, nms_thresh, topk_per_image
    )
    return results[0], kept[0]


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers: K + 1 class scores, and 4 box deltas for each class (or for all).

    `metrics` holds the last training step's classification accuracies.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], Tensor] | None = None,
        fed_loss_num_classes: int = 50,
        test_min_box_size: float = 0.0,
    ) -> None:
        """
        Args:
            input_shape: of the box head's output (or its width).
            box2box_transform: between boxes and deltas.
            num_classes: K, without background.
            test_score_thresh: detections have a higher score.
            test_nms_thresh: IoU of the NMS within a class.
            test_topk_per_image: detections an image at most.
            cls_agnostic_bbox_reg: one box a proposal instead of one a class.
            smooth_l1_beta: where L1 begins; 0 is plain L1.
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            loss_weight: one factor for both losses, or one by name (absent: 1).
            use_fed_loss: the federated loss; not available, must be False.
            use_sigmoid_ce: a sigmoid for each class instead of one softmax.
            get_fed_loss_cls_weights: of the federated loss, unused.
            fed_loss_num_classes: of the federated loss, unused.
            test_min_box_size: detections are at least so wide and high, pixels.

        Raises:
            ValueError: `use_fed_loss` is True.
        """
        super().__init__()
        if use_fed_loss:
            raise ValueError(
                "the federated loss is not available: set MODEL.ROI_BOX_HEAD.USE_FED_LOSS False"
            )
        if isinstance(input_shape, int):
            input_shape = ShapeSpec(channels=input_shape)
        features = math.prod(
            n or 1 for n in (input_shape.channels, input_shape.height, input_shape.width)
        )
        num_boxes = 1 if cls_agnostic_bbox_reg else num_classes
        self.num_classes = num_classes
        self.cls_score = nn.Linear(features, num_classes + 1)
        self.bbox_pred = nn.Linear(features, num_boxes * len(box2box_transform.weights))
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.bbox_pred.bias)
        # with sigmoids the classes start at a probability of 1 %, so that the many negatives
        # don't drown the first steps (Lin et al. 2017, arXiv 1708.02002, section 4.1)
        nn.init.constant_(self.cls_score.bias, -math.log(99.0) if use_sigmoid_ce else 0.0)
        self.box2box_transform = box2box_transform
        self.smooth_l1_beta = smooth_l1_beta
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.test_min_box_size = test_min_box_size
        self.box_reg_loss_type = box_reg_loss_type
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight
        self.use_sigmoid_ce = use_sigmoid_ce
        self.metrics: dict[str, Tensor] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        head, roi_heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "num_classes": roi_heads.NUM_CLASSES,
            "test_score_thresh": roi_heads.SCORE_THRESH_TEST,
            "test_nms_thresh": roi_heads.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "cls_agnostic_bbox_reg": head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": head.USE_FED_LOSS,
            "use_sigmoid_ce": head.USE_SIGMOID_CE,
            "test_min_box_size": roi_heads.MIN_BOX_SIZE_TEST,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (R, K + 1), background last, and deltas (R, k * 4) for x (R, ...)."""
        x = x.flatten(1)
        scores, deltas = self.cls_score(x), self.bbox_pred(x)
        probe("roi.head", scores=scores, deltas=deltas)
        return scores, deltas

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_box_reg`, each weighted.

        Args:
            predictions: what ``forward`` returned for the proposals of all images in order.
            proposals: per image, with `proposal_boxes`, `gt_classes`, and `gt_boxes` unless the
                image has no object.
        """
        scores, deltas = predictions
        none, no_box = scores.new_empty(0).long(), deltas.new_empty((0, 4))
        gt_classes = torch.cat([p.gt_classes for p in proposals] or [none])
        self.metrics = classification_metrics(scores, gt_classes)
        proposal_boxes = torch.cat([p.proposal_boxes.tensor for p in proposals] or [no_box])
        # an image without ground truth has background only: any box will do, it is never used
        gt_boxes = torch.cat(
            [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
            or [no_box]
        )
        normalizer = max(len(gt_classes), 1)
        if self.use_sigmoid_ce:
            loss_cls = self.sigmoid_cross_entropy_loss(scores, gt_classes) * normalizer
        else:
            loss_cls = F.cross_entropy(scores, gt_classes, reduction="sum")
        loss_box = self.box_reg_loss(proposal_boxes, gt_boxes, deltas, gt_classes) * normalizer
        sums = {"loss_cls": loss_cls, "loss_box_reg": loss_box}
        return weighted(
            {
                name: (total, normalizer, self.loss_weight.get(name, 1.0))
                for name, total in sums.items()
            }
        )

    def sigmoid_cross_entropy_loss(self, pred_class_logits: Tensor, gt_classes: Tensor) -> Tensor:
        """Return the binary cross entropies, summed over classes, averaged over proposals.

        Background has no sigmoid: its proposals are negatives of every class.

        Args:
            pred_class_logits: (R, K + 1), the last column unused.
            gt_classes: (R,) in 0..K.
        """
        targets = F.one_hot(gt_classes, self.num_classes + 1)[:, :-1].to(pred_class_logits)
        total = F.binary_cross_entropy_with_logits(
            pred_class_logits[:, :-1], targets, reduction="sum"
        )
        return total / max(len(gt_classes), 1)

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """Return the regression loss of the foreground, divided by R, all proposals sampled.

        By R and not by the foreground (Girshick 2015, section 2.3, averages so, too): an object
        counts as much in an image with few foreground proposals as in one with many.

        Args:
            proposal_boxes: (R, 4).
            gt_boxes: (R, 4), used where the class is not background.
            pred_deltas: (R, k * 4).
            gt_classes: (R,) in 0..K.
        """
        foreground = (gt_classes >= 0) & (gt_classes < self.num_classes)  # (R,)
        total = masked_box_loss_sum(
            self.box2box_transform,
            self._of_class(pred_deltas, gt_classes),
            proposal_boxes,
            gt_boxes,
            foreground,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return total / max(len(gt_classes), 1)

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> tuple[list[Instances], Sequence[Tensor]]:
        """Return detections and their proposals, as :func:`fast_rcnn_inference` does.

        Args:
            predictions: what ``forward`` returned for the proposals of all images in order.
            proposals: per image, with `proposal_boxes`.
        """
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
            min_box_size=self.test_min_box_size,
        )

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> tuple[Tensor, ...]:
        """Return per image the boxes (R_i, 4) predicted for each proposal's `gt_classes`.

        A background proposal gets the box of the last class.
        """
        boxes = self.predict_boxes(predictions, proposals)
        return tuple(self._of_class(b, p.gt_classes) for b, p in zip(boxes, proposals, strict=True))

    def _of_class(self, values: Tensor, classes: Tensor) -> Tensor:
        """Return of (R, k * 4) boxes or deltas those of `classes` (R,): (R, 4).

        Background has none of its own; it gets the last class's.
        """
        values = values.unflatten(1, (-1, len(self.box2box_transform.weights)))  # (R, k, 4)
        index = classes.clamp(0, values.shape[1] - 1)[:, None, None]
        return values.gather(1, index.expand(-1, 1, values.shape[2])).squeeze(1)

    def predict_boxes(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> tuple[Tensor, ...]:
        """Return per image the decoded boxes (R_i, k * 4), not clipped."""
        if not proposals:
            return ()
        _, deltas = predictions
        boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])
        return self.box2box_transform.apply_deltas(deltas, boxes).split([len(p) for p in proposals])

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> tuple[Tensor, ...]:
        """Return per image the scores (R_i, K + 1) in 0..1: softmax, or a sigmoid each."""
        scores, _ = predictions
        probs = scores.sigmoid() if self.use_sigmoid_ce else F.softmax(scores, dim=-1)
        return probs.split([len(p) for p in proposals])


@torch.no_grad()
def classification_metrics(
    logits: Tensor, gt_classes: Tensor, prefix: str = "fast_rcnn"
) -> dict[str, Tensor]:
    """Return the accuracy over all proposals, over foreground, and the part of missed foreground.

    Args:
        logits: (R, K + 1), background last.
        gt_classes: (R,) in 0..K.

    Returns:
        Scalars under `prefix`/{cls_accuracy, fg_cls_accuracy, false_negative}; 0 where there is
        nothing to count. Tensors, so that nothing waits for a GPU.
    """
    background = logits.shape[1] - 1
    predicted = logits.argmax(dim=1) if logits.numel() else torch.zeros_like(gt_classes)
    correct, foreground = predicted == gt_classes, gt_classes != background
    num_foreground = foreground.sum().clamp(min=1)
    return {
        f"{prefix}/cls_accuracy": correct.sum() / max(len(gt_classes), 1),
        f"{prefix}/fg_cls_accuracy": (correct & foreground).sum() / num_foreground,
        f"{prefix}/false_negative": ((predicted == background) & foreground).sum() / num_foreground,
    }


FastRCNNOutputs = absent("FastRCNNOutputs")
#: detectron2's name, for `losses` written for it; returns the numbers instead of storing them
_log_classification_stats = classification_metrics
