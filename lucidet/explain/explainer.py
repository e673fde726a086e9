"""A detector with its weights, ready to explain images of a dataset."""

from __future__ import annotations

from typing import Any

from torch import nn

from lucidet.checkpoint import DetectionCheckpointer
from lucidet.checkpoint.description import KEY, Description
from lucidet.config import CfgNode
from lucidet.data import DatasetMapper
from lucidet.engine.setup import on_available_device
from lucidet.explain.annotations import truth_of_record
from lucidet.explain.explain import explain_image
from lucidet.explain.heat_map import heat_map
from lucidet.explain.record import Explanation
from lucidet.inspection.run import class_names
from lucidet.modeling import build_model

__all__ = ["Explainer"]


class Explainer:
    """Explains images with one model.

    Attributes:
        model: in eval mode.
        name: of its architecture.
        classes: names of the dataset's classes.
        match_iou: from which a detection counts for a ground-truth box.
    """

    def __init__(
        self,
        cfg: CfgNode,
        weights: str,
        *,
        model: nn.Module | None = None,
        dataset: str | None = None,
        match_iou: float = 0.5,
    ) -> None:
        """
        Args:
            cfg: not changed.
            weights: file; "": random weights.
            model: instead of building one from `cfg`.
            dataset: names the classes.
            match_iou: in 0 < match_iou <= 1.

        Raises:
            ValueError: `match_iou` is outside, or the weights don't fit.
        """
        if not 0.0 < match_iou <= 1.0:
            raise ValueError(f"the IoU of a match must be in 0 < IoU <= 1, got {match_iou}")
        cfg = on_available_device(cfg.clone())
        cfg.defrost()
        cfg.MODEL.WEIGHTS = weights
        described = None
        if model is None:
            model = build_model(cfg)
            if weights:
                complete = not cfg.TEST.ALLOW_PARTIAL_WEIGHTS
                content = DetectionCheckpointer(model, complete=complete).load(weights)
                described = Description.from_dict(content[KEY]) if KEY in content else None
        self.model = model.eval()
        self.name = str(cfg.MODEL.META_ARCHITECTURE)
        self.classes = class_names(cfg, dataset, described)
        self.match_iou = match_iou
        self._mapper = DatasetMapper(**DatasetMapper.from_config(cfg, is_train=False))

    def entry(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return what the model is given of a record: the resized image, and the file's size."""
        return self._mapper(record)

    def explain(self, record: dict[str, Any], details: bool = True) -> Explanation:
        """Return what became of a record's ground-truth boxes, and where detections come from."""
        return explain_image(
            self.model,
            self.entry(record),
            truth_of_record(record),
            classes=self.classes,
            match_iou=self.match_iou,
            details=details,
        )

    def heat_map(self, record: dict[str, Any], explanation: Explanation, detection: int) -> Any:
        """Return what a detection looked at; see :func:`lucidet.explain.heat_map.heat_map`."""
        return heat_map(self.model, self.entry(record), explanation, detection)
