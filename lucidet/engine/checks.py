"""Look for what would go wrong later, before training starts."""

from __future__ import annotations

import logging
from typing import Any

from lucidet.data import MetadataCatalog

logger = logging.getLogger(__name__)

# where each built-in architecture has its number of classes
_NUM_CLASSES_SECTION = {
    "GeneralizedRCNN": "ROI_HEADS",
    "RetinaNet": "RETINANET",
    "ATSS": "ATSS",
    "FCOS": "FCOS",
}
SHOWN_CLASSES = 5
# read after the trainer is built, or by the config itself
_READ_ELSEWHERE = ("MODEL.WEIGHTS", "VERSION", "SEED", "CUDNN_BENCHMARK")


def check_classes_of_training_data(cfg: Any) -> None:
    """Compare the model's number of classes with that of each training data set.

    Data sets whose metadata names no classes, and architectures of others, are passed over.

    Raises:
        ValueError: they differ.
    """
    section = _NUM_CLASSES_SECTION.get(cfg.MODEL.META_ARCHITECTURE)
    if section is None:
        return
    expected = cfg.MODEL[section].NUM_CLASSES
    for name in cfg.DATASETS.TRAIN:
        # known once the annotations have been read
        classes = MetadataCatalog.get(name).get("thing_classes", None)
        if classes is None or len(classes) == expected:
            continue
        shown = ", ".join([*classes[:SHOWN_CLASSES], *(["..."] if classes[SHOWN_CLASSES:] else [])])
        raise ValueError(
            f"MODEL.{section}.NUM_CLASSES is {expected}, but data set {name!r} has "
            f"{len(classes)} classes ({shown}); set MODEL.{section}.NUM_CLASSES {len(classes)} "
            f"(background is not counted)"
        )


def report_unread_keys(cfg: Any) -> None:
    """Log the keys that somebody set and nothing read while the training was built.

    Keys for testing are read later and not reported.
    """
    unread = [k for k in cfg.unread_keys() if "TEST" not in k and k not in _READ_ELSEWHERE]
    if unread:
        listed = "\n".join(f"  {key}  (set by: {cfg.origin(key)})" for key in unread)
        logger.warning("Config keys that are set and that nothing uses here:\n%s", listed)
