"""What a training's checkpoints say of themselves, and the AP that the last one reaches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from lucidet.checkpoint.description import KEY, Description, describe_run, flat_results
from lucidet.checkpoint.reading import load_weights_file
from lucidet.checkpoint.writing import save_torch
from lucidet.data import dataset_names
from lucidet.data.records import counts_of

__all__ = ["add_results", "description_of_run"]


def description_of_run(trainer: Any) -> Description:
    """Return the description of a `DefaultTrainer`'s checkpoint, at this moment."""
    cfg = trainer.cfg
    data: dict[str, Any] = {"train": list(cfg.DATASETS.TRAIN), "test": list(cfg.DATASETS.TEST)}
    with contextlib.suppress(ValueError, OSError):  # a trainer may have a loader of its own
        data |= counts_of(dataset_names(cfg.DATASETS.TRAIN, "train"))
    return describe_run(cfg, data, trainer._last_eval_results)


def add_results(path: str, results: Mapping[str, Any]) -> None:
    """Write the results of the evaluation into a checkpoint that was saved before it.

    A checkpoint that is not there, or that describes nothing, stays as it is.
    """
    if not os.path.isfile(path):
        return
    content = load_weights_file(path)
    if KEY not in content:
        return
    content[KEY] = {**content[KEY], "results": flat_results(results)}
    save_torch(content, path)
