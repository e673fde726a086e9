"""``--data SPEC``: names of datasets for training and validation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["add_data_arguments", "names_of_data"]


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data`` and ``--val``."""
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SPEC",
        help="a folder or file with images and boxes, or a registered dataset; repeat to join "
        "several: docs/datasets.md",
    )
    parser.add_argument(
        "--val",
        action="append",
        default=[],
        metavar="SPEC",
        help="data to validate on; without it the validation part of --data",
    )


def names_of_data(
    data: Sequence[str], val: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names for DATASETS.TRAIN and DATASETS.TEST.

    Raises:
        ValueError: a specification that is not understood.
    """
    train: list[str] = []
    test: list[str] = []
    for spec in data:
        its_train, its_test = _splits(spec)
        train += its_train
        test += its_test
    if val:
        test = []
        for spec in val:
            its_train, its_test = _splits(spec)
            test += its_test or its_train
    return tuple(train), tuple(test)


def _splits(spec: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the training and validation part of one specification."""
    from lucidet.data import DatasetCatalog

    known = DatasetCatalog.list()
    if spec in known:
        return (spec,), ()
    if f"{spec}_train" in known:
        return (f"{spec}_train",), (f"{spec}_val",) if f"{spec}_val" in known else ()
    DatasetCatalog.get(spec)  # the error names the nearest
    return (), ()
