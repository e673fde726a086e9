"""Weights and training state on disk."""

from lucidet.checkpoint.addresses import register
from lucidet.checkpoint.checkpointer import Checkpointer, PeriodicCheckpointer
from lucidet.checkpoint.detection_checkpoint import DetectionCheckpointer, load_weights
from lucidet.checkpoint.reading import load_weights_file

register()  # from here on PathManager knows detectron2://, catalog://, torchvision://, https://

__all__ = [
    "Checkpointer",
    "DetectionCheckpointer",
    "PeriodicCheckpointer",
    "load_weights",
    "load_weights_file",
]
