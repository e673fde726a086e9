"""What a detector's own attributes say: its settings, levels, and the parts that explain uses."""

from __future__ import annotations

from typing import Any

from torch import nn

from lucidet.explain.anchors import background_iou
from lucidet.explain.record import Settings
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.modeling.meta_arch.rcnn import GeneralizedRCNN
from lucidet.modeling.proposal_generator.rpn import RPN

__all__ = ["assigner_of", "level_names", "levels_of_pooler", "num_classes_of", "settings_of"]


def settings_of(model: nn.Module, match_iou: float = 0.5) -> Settings:
    """Return the settings with which a detector turns candidates into detections.

    Raises:
        ValueError: `model` is no detector that can be explained.
    """
    assigner = assigner_of(model)
    assign_iou = None if assigner is None else background_iou(assigner)
    if isinstance(model, DenseDetector):
        return Settings(
            score_thresh=float(model.test_score_thresh),
            nms_thresh=float(model.test_nms_thresh),
            topk=int(model.test_topk_candidates),
            detections=int(model.max_detections_per_image),
            match_iou=match_iou,
            assign_iou=assign_iou,
            class_thresh=getattr(model, "test_class_score_thresh", None),
            nms_offset=1.0 if model.legacy_plus_one else 0.0,
            keep_empty=bool(model.keep_empty_boxes),
        )
    predictor = _predictor(model)
    rpn = getattr(model, "proposal_generator", None)
    return Settings(
        score_thresh=float(predictor.test_score_thresh),
        nms_thresh=float(predictor.test_nms_thresh),
        topk=int(rpn.post_nms_topk[False]) if isinstance(rpn, RPN) else 1_000_000,
        detections=int(predictor.test_topk_per_image),
        match_iou=match_iou,
        assign_iou=assign_iou,
        # a cascade does not look at it
        min_box_size=0.0 if _is_cascade(model) else float(predictor.test_min_box_size),
    )


def _is_cascade(model: Any) -> bool:
    return isinstance(model.roi_heads.box_predictor, nn.ModuleList)


def _predictor(model: Any) -> Any:
    predictor = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
    if not isinstance(model, GeneralizedRCNN) or predictor is None:
        raise ValueError(
            f"{type(model).__name__} can't be explained: it finds no classes, or is a user-defined "
            "detector; explain knows GeneralizedRCNN and the dense detectors, and what derives "
            "from them"
        )
    return predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor


def assigner_of(model: Any) -> Any:
    """Return what assigns anchors or locations to ground-truth boxes, None without anchors."""
    if isinstance(model, DenseDetector):
        return model.assigner
    rpn = getattr(model, "proposal_generator", None)
    return rpn.anchor_matcher if isinstance(rpn, RPN) else None


def num_classes_of(model: Any) -> int:
    """Return K."""
    return int(
        model.num_classes if isinstance(model, DenseDetector) else model.roi_heads.num_classes
    )


def level_names(model: Any) -> list[str]:
    """Return the names of the feature maps with anchors, finest first."""
    if isinstance(model, DenseDetector):
        return list(model.head_in_features)
    rpn = getattr(model, "proposal_generator", None)
    return list(rpn.in_features) if isinstance(rpn, RPN) else []


def levels_of_pooler(model: Any) -> tuple[list[str], Any]:
    """Return the names of the maps that ROIs are pooled from, and the pooler."""
    heads = model.roi_heads
    pooler = getattr(heads, "box_pooler", None) or getattr(heads, "pooler", None)
    return list(heads.in_features), pooler
