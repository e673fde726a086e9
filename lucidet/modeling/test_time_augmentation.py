"""Test-time augmentation: one image seen at several sizes and mirrored, the detections joined.

Names as `detectron2.modeling.test_time_augmentation`; here it serves every detector.
"""

# V views of an image, D detections in all of them

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from lucidet.config import CfgNode, configurable
from lucidet.layers import batched_nms
from lucidet.modeling.meta_arch.detector import Record
from lucidet.modeling.meta_arch.inputs import check_inputs
from lucidet.modeling.optimize import OptimizedModel
from lucidet.structures import Boxes, Instances, pairwise_iou
from lucidet.utils.probe import probe

__all__ = ["DatasetMapperTTA", "DetectorWithTTA", "GeneralizedRCNNWithTTA", "ResizeFlip", "vote"]

FUSIONS = ("nms", "vote")
Detect = Callable[[list[Record]], list[Record]]


class ResizeFlip:
    """Resizes, then possibly mirrors; called as the transforms of `lucidet.data` are.

    >>> view = ResizeFlip((100, 200), (50, 100), flip=True)
    >>> view.apply_box(np.array([[0.0, 0, 20, 10]])).tolist()
    [[90.0, 0.0, 100.0, 5.0]]
    >>> view.inverse().apply_box(np.array([[90.0, 0, 100, 5]])).tolist()
    [[0.0, 0.0, 20.0, 10.0]]
    """

    def __init__(self, size: tuple[int, int], new_size: tuple[int, int], flip: bool) -> None:
        """
        Args:
            size: height and width before.
            new_size: height and width after.
            flip: mirror left and right.
        """
        self.size, self.new_size, self.flip = size, new_size, flip

    def apply_image(self, image: Tensor) -> Tensor:
        """Return the image (C, H, W) in its new form; shrinking averages over all pixels."""
        if tuple(image.shape[-2:]) != self.new_size:
            image = TF.resize(image, list(self.new_size), antialias=True)
        return image.flip(-1) if self.flip else image

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Return boxes (N, 4) XYXY in the frame after."""
        (height, width), (new_height, new_width) = self.size, self.new_size
        x, y = new_width / width, new_height / height
        moved = np.asarray(box, dtype=np.float64).reshape(-1, 4) * [x, y, x, y]
        if self.flip:
            moved[:, [0, 2]] = new_width - moved[:, [2, 0]]
        return moved

    def inverse(self) -> ResizeFlip:
        """Return what leads back."""
        return ResizeFlip(self.new_size, self.size, self.flip)


class DatasetMapperTTA:
    """Makes the views of an image: each size, and mirrored."""

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        """
        Args:
            min_sizes: lengths of the shorter side, pixels.
            max_size: the longer side is at most so long.
            flip: mirror each size too.

        Raises:
            ValueError: no size, or one that is not positive.
        """
        if not min_sizes or min(*min_sizes, max_size) <= 0:
            raise ValueError(
                "TEST.AUG.MIN_SIZES needs at least one length, and all of them and "
                f"TEST.AUG.MAX_SIZE must be positive; got {tuple(min_sizes)} and {max_size}"
            )
        self.min_sizes = tuple(min_sizes)
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        aug = cfg.TEST.AUG
        return {"min_sizes": aug.MIN_SIZES, "max_size": aug.MAX_SIZE, "flip": aug.FLIP}

    def __call__(self, dataset_dict: Record) -> list[Record]:
        """Return the views of one image.

        Args:
            dataset_dict: with `image` (C, H, W), and the image's own `height` and `width`, which
                may differ.

        Returns:
            Copies of the record with a new `image`, and with `transforms`, from the frame of
            `height` and `width` to that of the view; views of one size follow each other.
        """
        image: Tensor = dataset_dict["image"]
        height, width = image.shape[-2:]
        full = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        views = []
        for shorter in self.min_sizes:
            size = self._size(height, width, shorter)
            for flip in (False, True)[: 1 + self.flip]:
                seen = ResizeFlip((height, width), size, flip).apply_image(image)
                views.append(
                    {**dataset_dict, "image": seen, "transforms": ResizeFlip(full, size, flip)}
                )
        return views

    def _size(self, height: int, width: int, shorter: int) -> tuple[int, int]:
        scale = min(shorter / min(height, width), self.max_size / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


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
            ValueError: the model finds no classes, or TEST.AUG.FUSION is unknown.
        """
        super().__init__()
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        if cfg.TEST.AUG.FUSION not in FUSIONS:
            raise ValueError(
                f"TEST.AUG.FUSION {cfg.TEST.AUG.FUSION!r} is none of {', '.join(FUSIONS)}"
            )
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = tta_mapper or DatasetMapperTTA(cfg)  # type: ignore[call-arg]
        self.batch_size = batch_size
        self.num_channels = len(model.pixel_mean)  # type: ignore[arg-type]
        self.nms_thresh = _nms_thresh(model)
        self._optimized = OptimizedModel(model) if cfg.TEST.OPTIMIZE else None

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Record]) -> list[Record]:
        """Return per image ``{"instances": Instances}``; inputs as of the detector."""
        check_inputs(batched_inputs, num_channels=self.num_channels, training=False)
        detect = self._optimized or self.model
        return [
            self._inference_one_image(record, index, detect)
            for index, record in enumerate(batched_inputs)
        ]

    def _inference_one_image(self, record: Record, index: int, detect: Detect) -> Record:
        height, width = record["image"].shape[-2:]
        size = (int(record.get("height", height)), int(record.get("width", width)))
        found = [
            self._in_the_frame_of_the_image(view, output["instances"])
            for views in self._batches(self.tta_mapper(record))
            for view, output in zip(views, detect([_plain(v) for v in views]), strict=True)
        ]
        boxes = torch.cat([seen for seen, _ in found])  # (D, 4)
        instances = Instances.cat([instances for _, instances in found])
        return {"instances": self._join(boxes, instances, size, index)}

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

    def _in_the_frame_of_the_image(
        self, view: Record, instances: Instances
    ) -> tuple[Tensor, Instances]:
        """Return a view's boxes (D_v, 4) as half-open boxes of the image; scores and classes."""
        boxes = instances.pred_boxes.tensor
        back = view["transforms"].inverse().apply_box(self._half_open(boxes).cpu().numpy())
        rest = Instances((0, 0), scores=instances.scores, pred_classes=instances.pred_classes)
        return torch.as_tensor(back, dtype=boxes.dtype, device=boxes.device), rest

    def _half_open(self, boxes: Tensor, sign: int = 1) -> Tensor:
        """Return boxes whose width is x2 - x1; with sign -1 the way back."""
        last = sign if getattr(self.model, "legacy_plus_one", False) else 0
        return boxes + boxes.new_tensor([0, 0, last, last])

    def _join(
        self, boxes: Tensor, instances: Instances, size: tuple[int, int], index: int
    ) -> Instances:
        """Return the image's detections of the views' boxes (D, 4), highest score first."""
        scores, classes = instances.scores, instances.pred_classes
        keep = batched_nms(boxes, scores, classes, self.nms_thresh)
        keep = keep[: self.cfg.TEST.DETECTIONS_PER_IMAGE]
        joined = boxes[keep]
        if self.cfg.TEST.AUG.FUSION == "vote":
            joined = vote(joined, classes[keep], boxes, scores, classes, self.nms_thresh)
        inside = Boxes(joined)  # rounding on the way back can lead over the edge
        inside.clip(size)
        result = Instances(
            size,
            pred_boxes=Boxes(self._half_open(inside.tensor, -1)),
            scores=scores[keep],
            pred_classes=classes[keep],
        )
        probe(
            "detections.final",
            image=index,
            boxes=result.pred_boxes.tensor,
            scores=result.scores,
            classes=result.pred_classes,
        )
        return result


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
