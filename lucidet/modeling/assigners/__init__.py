"""Assigners: which ground-truth box each anchor is matched to."""

from lucidet.modeling.assigners.assignment import Assigner, Assignment, BatchAssigner
from lucidet.modeling.assigners.atss import ATSSAssigner, CenteredMaxIoUAssigner, TopKAssigner
from lucidet.modeling.assigners.max_iou import MaxIoUAssigner, assign, assign_batch
from lucidet.modeling.assigners.scale_range import ScaleRangeAssigner

__all__ = [
    "ATSSAssigner",
    "Assigner",
    "Assignment",
    "BatchAssigner",
    "CenteredMaxIoUAssigner",
    "MaxIoUAssigner",
    "ScaleRangeAssigner",
    "TopKAssigner",
    "assign",
    "assign_batch",
]
