"""One-stage detectors: the spine from images to losses or detections.

A dense detector supplies its head, its assigner and ``losses()``; nothing else.
"""

# N images, L levels, A anchors a location, R_l = HWA anchors of level l, R anchors in all,
# K classes, M ground-truth boxes, C candidates

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode
from lucidet.layers import nms_padded
from lucidet.layers.fast.top_scores import best_candidates, top_scores
from lucidet.modeling.assigners import Assigner, assign_batch
from lucidet.modeling.backbone import Backbone
from lucidet.modeling.box_regression import BoxCoder
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.meta_arch.detector import Detector, Record
from lucidet.structures import (
    Boxes,
    ImageList,
    Instances,
    PaddedBoxes,
    PaddedInstances,
    clip_padded,
    pad_rows,
    take_rows,
    tensor_on,
)
from lucidet.utils.overrides import is_overridden
from lucidet.utils.probe import probe, probe_images

__all__ = ["DenseDetector", "permute_to_N_HWA_K"]

#: methods that take one image, and are called where a subclass replaces one of them
_DECODE = ("_decode_per_level_predictions", "_decode_multi_level_predictions")


def permute_to_N_HWA_K(tensor: Tensor, K: int) -> Tensor:
    """Reorder a head's map (N, A * K, H, W) into one row an anchor: (N, HWA, K)."""
    if tensor.dim() != 4 or tensor.shape[1] % K:
        raise ValueError(f"expected a map (N, A * {K}, H, W), got {tuple(tensor.shape)}")
    n, _, height, width = tensor.shape
    # (N, AK, H, W) -> (N, A, K, H, W) -> (N, H, W, A, K) -> (N, HWA, K)
    return tensor.view(n, -1, K, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, K)


class DenseDetector(Detector):
    """A head that predicts at every anchor of every level at once."""

    #: number of classes, K
    num_classes: int
    assigner: Assigner | Matcher
    anchor_generator: nn.Module
    box2box_transform: BoxCoder
    # for subclasses with a constructor of their own, which sets detectron2's attributes only
    legacy_plus_one = False
    clip_before_nms = False
    metrics: dict[str, Tensor] = {}
    #: names of the buffers that are moving averages over training iterations
    moving_averages: frozenset[str] = frozenset()

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str] | None = None,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        legacy_plus_one: bool = False,
        keep_empty_boxes: bool = False,
        clip_before_nms: bool = False,
    ) -> None:
        """
        Args:
            backbone: images (N, C, H, W) -> dict of features.
            head: list of features -> a list over levels for each kind of prediction: logits
                (N, A * K, H, W), box deltas (N, A * 4, H, W), possibly centerness (N, A, H, W).
            head_in_features: the levels that the head sees; default: all, in the backbone's order.
            pixel_mean: one entry a channel, in the units of the images (0..255).
            pixel_std: one entry a channel, as `pixel_mean`.
            input_format: "BGR" or "RGB", for drawings of the images.
            test_score_thresh: detections score more than this.
            test_topk_candidates: of a level, before NMS.
            test_nms_thresh: IoU, within a class.
            max_detections_per_image: after NMS.
            legacy_plus_one: clip and suppress boxes whose width is x2 - x1 + 1; the coder and the
                assigner must be of that convention too.
            keep_empty_boxes: detections that clipping leaves without area stay.
            clip_before_nms: boxes are clipped to the image before NMS, not only after it.
        """
        super().__init__(backbone, pixel_mean, pixel_std)
        self.head = head
        self.head_in_features = head_in_features or list(backbone.output_shape())
        self.input_format = input_format
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.legacy_plus_one = legacy_plus_one
        self.keep_empty_boxes = keep_empty_boxes
        self.clip_before_nms = clip_before_nms

    @staticmethod
    def _arguments_of(cfg: CfgNode, section: CfgNode) -> dict[str, Any]:
        """Return the arguments that every dense detector reads; `section` is its own of MODEL."""
        return {
            "head_in_features": section.IN_FEATURES,
            "num_classes": section.NUM_CLASSES,
            "focal_loss_alpha": section.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": section.FOCAL_LOSS_GAMMA,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "test_score_thresh": section.SCORE_THRESH_TEST,
            "test_topk_candidates": section.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": section.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def forward(self, batched_inputs: list[Record]) -> dict[str, Tensor] | list[Record]:
        """Return the losses at training, the detections at test.

        Args:
            batched_inputs: one dict an image:
                image: (C, H, W), 0..255, channels in the order of INPUT.FORMAT.
                instances: at training, with `gt_boxes` (XYXY, pixels of `image`), `gt_classes`.
                height, width: of the image that detections are wanted for; default: `image`'s.

        Returns:
            At training a dict of scalar losses. At test one dict an image, whose `instances` have
            `pred_boxes`, `scores`, `pred_classes`, highest score first.
        """
        images, objects = self.prepare(batched_inputs)
        features = self.backbone(images.tensor)
        probe("backbone.features", features=features)
        levels = [features[name] for name in self.head_in_features]
        predictions = self.head(levels)
        if self.training:
            assert objects is not None  # checked by `prepare`
            return self.forward_training(images, levels, predictions, objects)
        results = self.forward_inference(images, levels, predictions)
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Return the losses: anchors, what they are matched to, how well that is predicted."""
        logits, deltas, *centerness = self._rows(predictions)
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes, *centerness)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        *pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the scalar losses.

        Args:
            anchors: per level, R_l boxes, the same for all images.
            pred_logits: per level (N, R_l, K).
            gt_labels: per image (R,), the class of the box; K: background; -1: ignored.
            pred_anchor_deltas: per level (N, R_l, 4).
            gt_boxes: per image (R, 4), the ground-truth box; valid where the label is in 0..K-1.
            pred_centerness: for heads that have it, per level (N, R_l) logits.
        """
        raise NotImplementedError

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """Return per image the detections in the frame of the resized image.

        All images are handled at once, unless a subclass replaces a method that takes one.
        """
        logits, deltas, *centerness = self._rows(predictions)
        anchors, sizes = self.anchor_generator(features), images.image_sizes
        # a plain sigmoid keeps the order, so that only candidates need theirs
        plain = not is_overridden(self, DenseDetector, "scores")
        one_image = is_overridden(self, DenseDetector, "inference_single_image", *_DECODE)
        if not plain or one_image:
            logits = self.scores(logits, *centerness)
        if not one_image:
            return self._suppress(self._candidates(anchors, logits, deltas, plain), sizes)
        return [
            self.inference_single_image(
                anchors, [level[i] for level in logits], [level[i] for level in deltas], size
            )
            for i, size in enumerate(sizes)
        ]

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Return one image's detections from scores (R_l, K) and deltas (R_l, 4) per level."""
        found = self._decode_multi_level_predictions(
            anchors,
            box_cls,
            box_delta,
            self.test_score_thresh,
            self.test_topk_candidates,
            image_size,
        )
        boxes, scores, classes = found.pred_boxes.tensor, found.scores, found.pred_classes
        candidates = boxes[None], scores[None], classes[None], torch.ones_like(scores[None]) > 0
        return self._suppress(candidates, [image_size])[0]

    def scores(self, logits: list[Tensor], *centerness: list[Tensor]) -> list[Tensor]:
        """Return the scores per level in 0..1, from logits of the same shape (.., R_l, K)."""
        return [level.sigmoid() for level in logits]

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return per image each anchor's class (R,) and its ground-truth box (R, 4).

        Args:
            anchors: per level, R_l boxes, the same for all images.
            gt_instances: per image, with `gt_boxes` and `gt_classes`.

        Returns:
            labels: 0..K-1, K for background, -1 for ignored.
            boxes: XYXY; valid only where the label is in 0..K-1.
        """
        padded = PaddedBoxes.from_boxes([own.gt_boxes for own in gt_instances])
        classes = pad_rows([own.gt_classes for own in gt_instances])  # (N, M)
        # a subclass with a constructor of its own sets detectron2's `anchor_matcher` only
        assigner = getattr(self, "assigner", None) or self.anchor_matcher
        result = assign_batch(assigner, anchors, padded)
        probe_images(
            "dense.assign",
            len(gt_instances),
            lambda image: {
                **vars(result.image(image)),
                "gt_boxes": gt_instances[image].gt_boxes,
                "gt_classes": gt_instances[image].gt_classes,
                "anchors": anchors,
            },
        )
        labels = take_rows((classes + 1) * padded.valid, result.matched_idxs) - 1  # no box: -1
        labels.masked_fill_(result.labels == 0, self.num_classes)
        labels.masked_fill_(result.labels == -1, -1)
        boxes = take_rows(padded.tensor, result.matched_idxs)  # (N, R, 4)
        return list(labels.unbind()), list(boxes.unbind())

    def _rows(self, predictions: Sequence[list[Tensor]]) -> list[list[Tensor]]:
        """Return logits (N, R_l, K), deltas (N, R_l, 4) and possibly centerness (N, R_l)."""
        widths = [self.num_classes, 4, 1][: len(predictions)]
        rows = self._transpose_dense_predictions(predictions, widths)
        rows[2:] = [[level.squeeze(-1) for level in kind] for kind in rows[2:]]
        probe("dense.head", **dict(zip(("logits", "deltas", "centerness"), rows, strict=False)))
        return rows

    def _transpose_dense_predictions(
        self, predictions: Sequence[list[Tensor]], dims_per_anchor: list[int]
    ) -> list[list[Tensor]]:
        """Return each kind of prediction as one row an anchor, per level (N, R_l, dims)."""
        if len(predictions) != len(dims_per_anchor):
            raise ValueError(
                f"the head gave {len(predictions)} kinds of prediction, expected "
                f"{len(dims_per_anchor)}"
            )
        return [
            [permute_to_N_HWA_K(level, dims) for level in kind]
            for kind, dims in zip(predictions, dims_per_anchor, strict=True)
        ]

    @torch.no_grad()
    def _ema_update(
        self, name: str, value: Tensor | float, initial_value: float, momentum: float = 0.9
    ) -> Tensor:
        """Return (and keep as attribute `name`) a moving average over training iterations.

        It stays out of the state dict, as detectron2's weights don't have it, and on the device,
        so that no step waits for its value. Trainers save what `moving_averages` names.
        """
        if name not in self.moving_averages:
            self.set_moving_average(name, initial_value)
        average = getattr(self, name) * momentum + value * (1 - momentum)
        setattr(self, name, average)
        return average

    def set_moving_average(self, name: str, value: float) -> None:
        """Let the moving average `name` go on from `value`, of this process."""
        self.moving_averages = self.moving_averages | {name}
        device = self.pixel_mean.device
        self.register_buffer(name, torch.tensor(float(value), device=device), False)

    def _candidates(
        self, anchors: list[Boxes], scores: list[Tensor], deltas: list[Tensor], logits: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the best candidates of each level, level after level; boxes are not clipped.

        Args:
            anchors: per level, R_l boxes.
            scores: per level (N, R_l, K), logits if `logits`.
            deltas: per level (N, R_l, 4), decoded for the candidates only.
            logits: see `scores`.

        Returns:
            Boxes (N, C, 4), scores (N, C), classes (N, C), and which places are valid (N, C).
        """
        threshold, count = self.test_score_thresh, self.test_topk_candidates
        found = [top_scores(level, threshold, count, logits) for level in scores]
        row, classes, best, valid = zip(*found, strict=True)
        picked = [take_rows(level, index) for level, index in zip(deltas, row, strict=True)]
        sources = [level.tensor[index] for level, index in zip(anchors, row, strict=True)]
        chosen = torch.cat(picked, dim=1)  # (N, C, 4)
        boxes = self.box2box_transform.apply_deltas(
            chosen.flatten(0, 1), torch.cat(sources, dim=1).flatten(0, 1)
        )
        columns = (torch.cat(column, dim=1) for column in (best, classes, valid))
        return boxes.view(chosen.shape), *columns  # type: ignore[return-value]

    def _suppress(
        self,
        candidates: tuple[Tensor, Tensor, Tensor, Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return each image's best candidates of those that overlap, at most the allowed number.

        Args:
            candidates: boxes, scores, classes and valid places, as of :meth:`_candidates`.
            image_sizes: (height, width) of each image without padding.
        """
        boxes, scores, classes, valid = candidates
        last = 1 if self.legacy_plus_one else 0  # a legacy pixel column W would be outside
        if self.clip_before_nms:
            boxes = clip_padded(boxes, [(h - last, w - last) for h, w in image_sizes])
        wide = boxes + tensor_on([0, 0, last, last], boxes.device)
        keep, count = nms_padded(
            wide, scores, classes, valid, self.test_nms_thresh, self.max_detections_per_image
        )
        found = {"pred_boxes": boxes, "scores": scores, "pred_classes": classes}
        kept = {name: take_rows(values, keep) for name, values in found.items()}
        batch = PaddedInstances(image_sizes, kept, count)

        def before(image: int) -> dict[str, Any]:
            return {n.removeprefix("pred_"): v[image, valid[image]] for n, v in found.items()}

        def after(image: int) -> dict[str, Any]:
            rank = valid[image].cumsum(0) - 1  # of each place among the valid ones
            return {**before(image), "keep": rank[keep[image, : batch.lengths[image]]]}

        probe_images("dense.candidates", len(boxes), before)
        probe_images("detections.nms", len(boxes), after)
        return batch.split()

    def _decode_per_level_predictions(
        self,
        anchors: Boxes,
        pred_scores: Tensor,
        pred_deltas: Tensor,
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the best candidates of one level, highest score first; not clipped.

        Args:
            anchors: R_l boxes.
            pred_scores: (R_l, K); a row can become several candidates, one a class.
            pred_deltas: (R_l, 4), decoded for the candidates only.
            score_thresh: candidates score more than this.
            topk_candidates: at most this many.
            image_size: height, width.
        """
        row, classes, scores = best_candidates(pred_scores, score_thresh, topk_candidates)
        boxes = self.box2box_transform.apply_deltas(pred_deltas[row], anchors.tensor[row])
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)

    def _decode_multi_level_predictions(
        self,
        anchors: list[Boxes],
        pred_scores: list[Tensor],
        pred_deltas: list[Tensor],
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the best candidates of each level, level after level; see the method above."""
        per_level = [
            self._decode_per_level_predictions(
                level, scores, deltas, score_thresh, topk_candidates, image_size
            )
            for level, scores, deltas in zip(anchors, pred_scores, pred_deltas, strict=True)
        ]
        return Instances.cat(per_level)
