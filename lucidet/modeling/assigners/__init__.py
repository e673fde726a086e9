"""Assigners: which object each anchor has to find."""

from lucidet.modeling.assigners.assignment import Assigner, Assignment
from lucidet.modeling.assigners.atss import ATSSAssigner, CenteredMaxIoUAssigner, TopKAssigner
from lucidet.modeling.assigners.max_iou import MaxIoUAssigner, assign, assign_batch
from lucidet.modeling.assigners.scale_range import ScaleRangeAssigner

__all__ = [
    "ATSSAssigner",
    "Assigner",
    "Assignment",
    "CenteredMaxIoUAssigner",
    "MaxIoUAssigner",
    "ScaleRangeAssigner",
    "TopKAssigner",
    "assign",
    "assign_batch",
]
