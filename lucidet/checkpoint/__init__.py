"""Weights and training state on disk."""

from lucidet.checkpoint.checkpointer import Checkpointer, PeriodicCheckpointer
from lucidet.checkpoint.detection_checkpoint import DetectionCheckpointer
from lucidet.checkpoint.reading import load_weights_file

__all__ = [
    "Checkpointer",
    "DetectionCheckpointer",
    "PeriodicCheckpointer",
    "load_weights_file",
]
