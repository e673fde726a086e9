"""Weights and training state on disk."""

from lucidet.checkpoint.addresses import register
from lucidet.checkpoint.checkpointer import Checkpointer
from lucidet.checkpoint.detection_checkpoint import DetectionCheckpointer, load_weights
from lucidet.checkpoint.periodic import PeriodicCheckpointer
from lucidet.checkpoint.reading import load_weights_file
from lucidet.checkpoint.seal import DamagedFileError

register()  # from here on PathManager knows detectron2://, catalog://, torchvision://, https://

__all__ = [
    "Checkpointer",
    "DamagedFileError",
    "DetectionCheckpointer",
    "PeriodicCheckpointer",
    "load_weights",
    "load_weights_file",
]
