"""Look for what would go wrong later, before training starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from inspect import getattr_static
from typing import Any

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog, MetadataCatalog, dataset_names
from lucidet.data.check_masks import check_test_annotations
from lucidet.data.class_lists import match_test_classes, names_of_classes
from lucidet.data.specification import connect, is_specification
from lucidet.engine.config_report import value_at

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


def connect_datasets(cfg: Any, match: bool = False) -> None:
    """Read the specifications in DATASETS.TRAIN and DATASETS.TEST, with one class list for all.

    With `match`, classes of registered test datasets are matched with the training data's by name;
    training does so once its data are loaded.

    Training data that are not on this machine are skipped: they may not be needed.

    Raises:
        ValueError: a specification is not understood, or a test dataset has a class that the
            training data lack.
    """
    train = []
    for name in cfg.DATASETS.TRAIN:
        if name not in DatasetCatalog.list():
            train += [name] if is_specification(name) else []
            continue
        # a base config may name data of other classes than the model's
        names, key = MetadataCatalog.get(name).get("thing_classes", None), num_classes_key(cfg)
        if names and key and len(names) == _num_classes(cfg, key):
            train.append(name)
    connect([] if cfg.MODEL.CLASS_MAP else train, cfg.DATASETS.TEST)
    if match:
        _match_classes(cfg)


def check_classes_of_training_data(cfg: Any) -> None:
    """Compare the model's classes with those of each training data set.

    Data sets whose metadata names no classes, and architectures of others, are passed over.

    Raises:
        ValueError: MODEL.CLASS_MAP, or without it their number, doesn't fit.
    """
    _match_classes(cfg, training=True)
    key = num_classes_key(cfg)
    if key is None:
        return
    for name in dataset_names(cfg.DATASETS.TRAIN, "train"):
        # known once the annotations have been read
        names = MetadataCatalog.get(name).get("thing_classes", None)
        if names is None:
            continue
        mapped = sorted(k for k in cfg.MODEL.CLASS_MAP if k >= 0)
        if cfg.MODEL.CLASS_MAP and mapped != list(range(len(names))):
            raise ValueError(
                f"MODEL.CLASS_MAP names {len(set(mapped))} classes of the data set, but {name!r} "
                f"has {_shown(names)}, and to be trained each must stand in the map once; set "
                f"MODEL.CLASS_MAP [] and {key} {len(names)}"
            )
        if not cfg.MODEL.CLASS_MAP and len(names) != _num_classes(cfg, key):
            raise ValueError(
                f"{key} is {_num_classes(cfg, key)}, but data set {name!r} has {_shown(names)}; "
                f"set {key} {len(names)} (background is not counted)"
            )


def _match_classes(cfg: Any, training: bool = False) -> None:
    """Match the classes of each test dataset with the training data's by name.

    With MODEL.CLASS_MAP they are matched by that. Where nothing is trained, the config's training
    data count only if they have as many classes as the model: a base config may name others.
    """
    key, train = num_classes_key(cfg), []
    for name in () if cfg.MODEL.CLASS_MAP else cfg.DATASETS.TRAIN:
        if not is_specification(name) and name not in DatasetCatalog:
            continue
        registered = dataset_names([name], "train")[0]
        count = len(names_of_classes(registered) or ())
        if training or (key is not None and count == _num_classes(cfg, key)):
            train.append(registered)
    match_test_classes(train, dataset_names(cfg.DATASETS.TEST))


def check_classes_of_test_data(cfg: Any, name: str) -> None:
    """Compare the model's classes with those of a test data set, before it is evaluated.

    Without names of classes in the metadata, and for architectures of others, nothing is compared.
    A model with fewer classes than the data set is only told of: its AP of the others is 0.

    Raises:
        ValueError: MODEL.CLASS_MAP, or without it the model, has a class that the data set lacks.
    """
    names, key = MetadataCatalog.get(name).get("thing_classes", None), num_classes_key(cfg)
    if names is None or key is None:
        return
    last = max(cfg.MODEL.CLASS_MAP, default=-1)
    if last >= len(names):
        raise ValueError(
            f"MODEL.CLASS_MAP[{list(cfg.MODEL.CLASS_MAP).index(last)}] is {last}, but data set "
            f"{name!r} has {_shown(names)}: must be in 0..{len(names) - 1}, or -1 for a class that "
            "the data set does not have"
        )
    count = _num_classes(cfg, key)
    if cfg.MODEL.CLASS_MAP or count == len(names):
        return
    problem = f"{key} is {count}, but data set {name!r} has {_shown(names)}"
    repair = (
        "evaluate on data with the model's classes, or say with MODEL.CLASS_MAP what each of the "
        f"{count} is in this data set (-1: nothing)"
    )
    if count > len(names):
        raise ValueError(f"{problem}; {repair}")
    logger.warning("%s, and the others won't be found; %s", problem, repair)


def check_before_model(cfg: Any, trainer: type, base: type) -> None:
    """Look at schedule and datasets, before the model takes its time and memory.

    Args:
        trainer: class that trains; where its evaluation is not that of `base`, test data are not
            looked at.

    Raises:
        ValueError: see `check_schedule`, `connect_datasets` and `check_test_datasets`.
    """
    check_schedule(cfg)
    connect_datasets(cfg)
    names = ("test", "build_test_loader", "build_evaluator")
    if all(getattr_static(trainer, name) is getattr_static(base, name) for name in names):
        check_test_datasets(cfg)


def check_test_datasets(cfg: Any) -> None:
    """Look at DATASETS.TEST before a training, which would only fail at its end.

    Raises:
        ValueError: a name is unknown, its annotation file is not there, its classes don't fit, or
            masks or keypoints are to be evaluated and an annotation has none.
    """
    for name in dataset_names(cfg.DATASETS.TEST):
        if name not in DatasetCatalog.list():
            try:
                DatasetCatalog.get(name)
            except KeyError as error:  # its message names the nearest
                raise ValueError(f"DATASETS.TEST: {error.args[0]}") from error
        file = MetadataCatalog.get(name).get("json_file", None)
        if file and "://" not in str(file) and not os.path.exists(file):
            raise ValueError(
                f"DATASETS.TEST: the annotations of dataset {name!r} are not at {file}; put them "
                "there (LUCIDET_DATASETS names the folder of datasets), or train without "
                'evaluation: DATASETS.TEST "()"'
            )
        check_classes_of_test_data(cfg, name)
        _check_masks_of_test_data(cfg, name)


def _check_masks_of_test_data(cfg: Any, name: str) -> None:
    """Read the annotations where masks or keypoints are to be evaluated by COCO's protocol."""
    masks, keypoints = cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON
    if (masks or keypoints) and MetadataCatalog.get(name).get("evaluator_type") == "coco":
        records = DatasetCatalog.get(name)
        if isinstance(records, list):
            check_test_annotations(records, name, masks, keypoints)


def check_schedule(cfg: Any) -> None:
    """Compare the lengths of warm-up, steps and run.

    A warm-up as long as the run is reported: the learning rate never reaches BASE_LR.

    Raises:
        ValueError: MAX_ITER is not positive.
    """
    solver = cfg.SOLVER
    if solver.MAX_ITER <= 0:
        raise ValueError(f"SOLVER.MAX_ITER must be positive, got {solver.MAX_ITER}")
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        logger.warning(
            "SOLVER.WARMUP_ITERS is %d, but the run has only %d iterations (SOLVER.MAX_ITER): the "
            "learning rate never reaches BASE_LR; set SOLVER.WARMUP_ITERS %d",
            solver.WARMUP_ITERS,
            solver.MAX_ITER,
            solver.MAX_ITER // 10,
        )


def warn_of_frozen_random_weights(cfg: Any) -> None:
    """Report layers that are frozen although they start from random weights."""
    model = cfg.MODEL
    is_resnet = "resnet" in model.BACKBONE.NAME
    if model.WEIGHTS or not is_resnet:
        return
    found = []
    if model.BACKBONE.FREEZE_AT > 0:
        found.append(("MODEL.BACKBONE.FREEZE_AT", model.BACKBONE.FREEZE_AT, "0"))
    if model.RESNETS.NORM == "FrozenBN":
        found.append(("MODEL.RESNETS.NORM", "FrozenBN", "BN (or GN for small batches)"))
    for key, value, repair in found:
        logger.warning(
            "%s is %s, but MODEL.WEIGHTS is empty: layers with random weights would never be "
            "trained; set %s %s",
            key,
            value,
            key,
            repair,
        )


def num_classes_key(cfg: Any) -> str | None:
    """Return the config key of the model's number of classes, None for other architectures."""
    section = _NUM_CLASSES_SECTION.get(cfg.MODEL.META_ARCHITECTURE)
    return None if section is None else f"MODEL.{section}.NUM_CLASSES"


def _num_classes(cfg: Any, key: str) -> int:
    return cfg.MODEL[key.split(".")[1]].NUM_CLASSES


def _shown(names: Sequence[str]) -> str:
    """Return ``3 classes (red, white, platelets)``."""
    shown = ", ".join([*names[:SHOWN_CLASSES], *(["..."] if names[SHOWN_CLASSES:] else [])])
    return f"{len(names)} classes ({shown})"


def report_unread_keys(cfg: Any) -> None:
    """Log the keys that somebody set and nothing read while the training was built.

    Keys for testing are read later and not reported.
    """
    default = get_cfg()
    # a saved config sets every key; those that it leaves at their default are no wish
    unread = [
        key
        for key in cfg.unread_keys()
        if "TEST" not in key
        and key not in _READ_ELSEWHERE
        and value_at(cfg, key) != value_at(default, key)
    ]
    if unread:
        listed = "\n".join(f"  {key}  (set by: {cfg.origin(key)})" for key in unread)
        logger.warning("Config keys that are set and that nothing uses here:\n%s", listed)
