"""Weights and training state on disk."""

from lucidet.checkpoint.checkpointer import Checkpointer, PeriodicCheckpointer
from lucidet.checkpoint.detection_checkpoint import DetectionCheckpointer, load_weights
from lucidet.checkpoint.reading import load_weights_file

__all__ = [
    "Checkpointer",
    "DetectionCheckpointer",
    "PeriodicCheckpointer",
    "load_weights",
    "load_weights_file",
]
