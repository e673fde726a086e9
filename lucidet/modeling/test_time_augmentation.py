"""Test-time augmentation: one image seen at several sizes and mirrored, the detections joined.

Names as `detectron2.modeling.test_time_augmentation`; here it serves every detector.
"""

# V views of an image, D detections in all of them

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode
from lucidet.layers import batched_nms
from lucidet.modeling.augmented_views import DatasetMapperTTA, ResizeFlip
from lucidet.modeling.meta_arch.detector import Record, check_inputs
from lucidet.modeling.optimize import OptimizedModel
from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.structures import Boxes, Instances, pairwise_iou
from lucidet.utils.probe import probe

__all__ = ["DatasetMapperTTA", "DetectorWithTTA", "GeneralizedRCNNWithTTA", "ResizeFlip", "vote"]

FUSIONS = ("nms", "vote")
Detect = Callable[[list[Record]], list[Record]]


class DetectorWithTTA(nn.Module):
    """A detector whose detections are those of several views of each image, joined.

    The views' detections compete in class-wise NMS. With fusion "vote" each box that wins becomes
    the mean of those that it suppressed and itself, weighted by their scores (Gidaris and
    Komodakis 2015, arXiv 1505.01749, section 5).
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        tta_mapper: Callable[[Record], list[Record]] | None = None,
        batch_size: int = 3,
    ) -> None:
        """
        Args:
            cfg: TEST.AUG, TEST.DETECTIONS_PER_IMAGE and TEST.OPTIMIZE count.
            model: any detector that finds classes; DistributedDataParallel is taken off.
            tta_mapper: record -> its views; default: :class:`DatasetMapperTTA` of `cfg`.
            batch_size: views that go through the model together, where their sizes agree.

        Raises:
            ValueError: the model finds no classes, or keypoints; or TEST.AUG.FUSION is unknown.
        """
        super().__init__()
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        if cfg.TEST.AUG.FUSION not in FUSIONS:
            raise ValueError(
                f"TEST.AUG.FUSION {cfg.TEST.AUG.FUSION!r} is none of {', '.join(FUSIONS)}"
            )
        if getattr(getattr(model, "roi_heads", None), "keypoint_on", False):
            raise ValueError(
                "test-time augmentation joins boxes and masks, not keypoints (MODEL.KEYPOINT_ON "
                "True): set TEST.AUG.ENABLED False"
            )
        _nms_thresh(model)  # the model must find classes
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = tta_mapper or DatasetMapperTTA(cfg)  # type: ignore[call-arg]
        self.batch_size = batch_size

    @cached_property
    def _detect(self) -> Detect:
        return OptimizedModel(self.model) if self.cfg.TEST.OPTIMIZE else self.model

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Record]) -> list[Record]:
        """Return per image ``{"instances": Instances}``; inputs as of the detector."""
        channels = len(self.model.pixel_mean)  # type: ignore[arg-type]
        check_inputs(batched_inputs, num_channels=channels, training=False)
        outputs = []
        for index, record in enumerate(batched_inputs):
            output = self._inference_one_image(record)
            found = output["instances"]
            probe(
                "detections.final",
                image=index,
                boxes=found.pred_boxes.tensor,
                scores=found.scores,
                classes=found.pred_classes,
            )
            outputs.append(output)
        return outputs

    def _inference_one_image(self, record: Record) -> Record:
        """Return ``{"instances": Instances}`` of one image, in its own frame."""
        height, width = record["image"].shape[-2:]
        size = (int(record.get("height", height)), int(record.get("width", width)))
        views, transforms = self._get_augmented_inputs(record)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            found = self._get_augmented_boxes(views, transforms)
            merged = self._merge_detections(*found, size)
        if getattr(getattr(self.model, "roi_heads", None), "mask_on", False):
            merged = self._with_masks(merged, views, transforms, size)
        return {"instances": merged}

    def _get_augmented_inputs(self, record: Record) -> tuple[list[Record], list[Any]]:
        """Return the views of an image, and for each the transform from the image to it."""
        views = [dict(view) for view in self.tta_mapper(record)]
        return views, [view.pop("transforms") for view in views]

    def _get_augmented_boxes(
        self, augmented_inputs: list[Record], tfms: list[Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the detections of all views: boxes (D, 4) in the frame of the image, scores (D,)
        and classes (D,)."""
        outputs = self._batch_inference(augmented_inputs)
        boxes = [
            self._back(transform, output.pred_boxes.tensor)
            for output, transform in zip(outputs, tfms, strict=True)
        ]
        scores = torch.cat([output.scores for output in outputs])
        return torch.cat(boxes), scores, torch.cat([output.pred_classes for output in outputs])

    def _batch_inference(
        self, batched_inputs: list[Record], detected_instances: list[Instances] | None = None
    ) -> list[Instances]:
        """Run the model on views, `batch_size` of one size at once.

        Args:
            batched_inputs: views.
            detected_instances: for each view, in its frame: nothing is detected again, they are
                given to the heads for masks.

        Returns:
            For each view its Instances, in its frame.
        """
        found: list[Instances] = []
        for batch in self._batches(batched_inputs):
            plain = [_plain(view) for view in batch]
            if detected_instances is None:
                found += [output["instances"] for output in self._detect(plain)]
            else:
                given = detected_instances[len(found) : len(found) + len(batch)]
                found += self.model.inference(plain, given, do_postprocess=False)  # type: ignore[operator]
        return found

    def _batches(self, views: list[Record]) -> Iterator[list[Record]]:
        """Cut the views into runs of one size: no view is padded to the size of another."""
        batch: list[Record] = []
        for view in views:
            other = batch and batch[0]["image"].shape != view["image"].shape
            if other or len(batch) == self.batch_size:
                yield batch
                batch = []
            batch.append(view)
        if batch:
            yield batch

    def _back(self, transform: Any, boxes: Tensor) -> Tensor:
        """Return boxes (D, 4) of a view as half-open boxes in the frame of the image."""
        back = transform.inverse().apply_box(self._half_open(boxes).cpu().numpy())
        return torch.as_tensor(back, dtype=boxes.dtype, device=boxes.device)

    def _half_open(self, boxes: Tensor, sign: int = 1) -> Tensor:
        """Return boxes whose width is x2 - x1; with sign -1 the way back."""
        last = sign if getattr(self.model, "legacy_plus_one", False) else 0
        return boxes + boxes.new_tensor([0, 0, last, last])

    def _merge_detections(
        self,
        all_boxes: Tensor,
        all_scores: Tensor | Sequence[Tensor],
        all_classes: Tensor | Sequence[Tensor],
        shape_hw: tuple[int, int],
    ) -> Instances:
        """Return the image's detections of the views' boxes (D, 4), highest score first."""
        scores, classes = (_stacked(value, all_boxes) for value in (all_scores, all_classes))
        classes = classes.to(torch.int64)
        threshold = _nms_thresh(self.model)
        keep = batched_nms(all_boxes, scores, classes, threshold)
        keep = keep[: self.cfg.TEST.DETECTIONS_PER_IMAGE]
        joined = all_boxes[keep]
        if self.cfg.TEST.AUG.FUSION == "vote":
            joined = vote(joined, classes[keep], all_boxes, scores, classes, threshold)
        inside = Boxes(joined)  # rounding on the way back can lead over the edge
        inside.clip(shape_hw)
        return Instances(
            shape_hw,
            pred_boxes=Boxes(self._half_open(inside.tensor, -1)),
            scores=scores[keep],
            pred_classes=classes[keep],
        )

    @contextmanager
    def _turn_off_roi_heads(self, attrs: Sequence[str]) -> Iterator[None]:
        """Switch flags of the model's ROI heads off inside the block, where it has them."""
        heads = getattr(self.model, "roi_heads", None)
        before = {name: getattr(heads, name) for name in attrs if hasattr(heads, name)}
        for name in before:
            setattr(heads, name, False)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(heads, name, value)

    def _with_masks(
        self, merged: Instances, views: list[Record], transforms: list[Any], size: tuple[int, int]
    ) -> Instances:
        """Return the detections with `pred_masks`: the mean of the views' probabilities, pasted."""
        given = self._rescale_detected_boxes(views, merged, transforms)
        outputs = self._batch_inference(views, given)
        result = Instances(size, **merged.get_fields())
        result.pred_masks = self._reduce_pred_masks(outputs, transforms)
        return detector_postprocess(result, *size, keep_empty=True)

    def _rescale_detected_boxes(
        self, augmented_inputs: list[Record], merged_instances: Instances, tfms: list[Any]
    ) -> list[Instances]:
        """Return the detections in the frame of each view, with the model's own classes."""
        boxes, classes = merged_instances.pred_boxes.tensor, merged_instances.pred_classes
        own = getattr(self.model, "own_classes", None)
        found = []
        for view, transform in zip(augmented_inputs, tfms, strict=True):
            moved = transform.apply_box(boxes.cpu().numpy())
            found.append(
                Instances(
                    tuple(view["image"].shape[-2:]),
                    pred_boxes=Boxes(torch.as_tensor(moved, dtype=boxes.dtype).to(boxes.device)),
                    pred_classes=classes if own is None else own[classes],
                    scores=merged_instances.scores,
                )
            )
        return found

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[Any]) -> Tensor:
        """Return the mean (D, 1, S, S) of the views' masks, those of mirrored views turned back."""
        masks = [
            output.pred_masks.flip(dims=[3]) if _is_mirrored(transform) else output.pred_masks
            for output, transform in zip(outputs, tfms, strict=True)
        ]
        return torch.stack(masks).mean(dim=0)


def _stacked(values: Tensor | Sequence[Any], like: Tensor) -> Tensor:
    """Return numbers as one tensor on the device of `like`: an override may give a list."""
    if isinstance(values, Tensor):
        return values
    return (
        torch.stack([torch.as_tensor(v) for v in values]).to(like.device)
        if len(values)
        else (like.new_zeros(0))
    )


def _is_mirrored(transform: Any) -> bool:
    """Return whether a view is mirrored: of `ResizeFlip`, or a list of transforms with a flip."""
    if hasattr(transform, "flip"):
        return bool(transform.flip)
    names = [type(part).__name__ for part in getattr(transform, "transforms", ())]
    return names.count("HFlipTransform") % 2 == 1


#: detectron2's name
GeneralizedRCNNWithTTA = DetectorWithTTA


def vote(
    winners: Tensor,
    winner_classes: Tensor,
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
) -> Tensor:
    """Return each winner as the mean, by score, of the boxes of its class that overlap it.

    Args:
        winners: (P, 4) XYXY, of `boxes`.
        winner_classes: (P,).
        boxes: (D, 4).
        scores: (D,) > 0.
        classes: (D,).
        threshold: IoU above which a box has a vote.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]])
    >>> classes = torch.tensor([0, 0, 0])
    >>> vote(boxes[:1], classes[:1], boxes, torch.tensor([0.75, 0.25, 0.5]), classes, 0.5).tolist()
    [[0.0, 0.0, 10.0, 9.5]]
    """
    votes = pairwise_iou(Boxes(winners), Boxes(boxes)) > threshold  # (P, D)
    votes &= winner_classes[:, None] == classes
    weights = votes * scores
    total = weights.sum(dim=1, keepdim=True)
    # a winner of score 0 that nobody overlaps has no vote but its own
    return torch.where(total > 0, weights @ boxes / total.clamp(min=1e-12), winners)


def _plain(view: Record) -> Record:
    """Return the record that asks the detector for boxes in the frame of the view itself."""
    height, width = view["image"].shape[-2:]
    return {"image": view["image"], "height": height, "width": width}


def _nms_thresh(model: nn.Module) -> float:
    """Return the IoU at which a detector's detections suppress each other.

    Raises:
        ValueError: it has none.
    """
    if hasattr(model, "test_nms_thresh"):
        return model.test_nms_thresh  # type: ignore[return-value]
    predictor: Any = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
    if isinstance(predictor, (list, nn.ModuleList)):  # a cascade's last stage detects
        predictor = predictor[-1]
    if not hasattr(predictor, "test_nms_thresh"):
        raise ValueError(
            f"test-time augmentation joins detections of classes, and {type(model).__name__} "
            "finds none; set TEST.AUG.ENABLED False"
        )
    return predictor.test_nms_thresh
