"""Assigners: which object each anchor has to find."""

from lucidet.modeling.assigners.assignment import Assigner, Assignment
from lucidet.modeling.assigners.max_iou import MaxIoUAssigner, assign

__all__ = ["Assigner", "Assignment", "MaxIoUAssigner", "assign"]
