"""``--data SPEC``: names of datasets for training and validation."""

from __future__ import annotations

import argparse
import os
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
    """Return what DATASETS.TRAIN and DATASETS.TEST are to hold: texts that any process understands.

    Args:
        data: specifications; several are joined.
        val: specifications to validate on; without them the validation part of `data`.

    Raises:
        ValueError: a specification that is not understood.
    """
    from lucidet.data.specification import explicit, resolve

    if not data:
        return (), tuple(explicit(resolve(located(s), splits=("val",))["val"]) for s in val)
    specs = [spec for text in data for spec in _pair(text)]
    if val:
        names = resolve(specs, splits=("train",))
        classes = _classes(names["train"])
        held_out = resolve([located(text) for text in val], splits=("val",), classes=classes)
        return (explicit(names["train"]),), (explicit(held_out["val"]),)
    names = resolve(specs)
    return (explicit(names["train"]),), (explicit(names["val"]),)


def evaluation_data(data: Sequence[str], weights: str | None = None) -> tuple[str, ...]:
    """Return what DATASETS.TEST is to hold for ``lucidet eval --data``.

    Args:
        data: specifications.
        weights: whose class list the data must follow, where they hold one.

    Raises:
        ValueError: a specification that is not understood, or a class that the weights don't know.
    """
    from lucidet.data import DatasetCatalog
    from lucidet.data.specification import explicit, resolve

    if all(text in DatasetCatalog.list() for text in data):
        return tuple(data)
    names = resolve([located(text) for text in data], splits=("val",), classes=_known(weights))
    return (explicit(names["val"]),)


def _known(weights: str | None) -> list[str] | None:
    """Return the class list of weights, None where they don't tell."""
    from lucidet.checkpoint.description import description_of_weights

    found = description_of_weights(weights) if weights else None
    return list(found.classes) or None if found else None


def located(spec: str) -> str:
    """Return a specification; a folder's name in LUCIDET_DATASETS becomes its path."""
    from lucidet.data import DatasetCatalog
    from lucidet.data.datasets.builtin import datasets_root
    from lucidet.data.specification import is_specification

    if spec in DatasetCatalog.list() or is_specification(spec):
        return spec
    inside = os.path.join(datasets_root(), spec)
    return inside if is_specification(inside) else spec


def _pair(spec: str) -> list[str]:
    """Return ``[NAME_train, NAME_val]`` for the NAME of registered datasets, else `spec`."""
    from lucidet.data import DatasetCatalog

    known = DatasetCatalog.list()
    pair = [f"{spec}_train", f"{spec}_val"]
    return pair if spec not in known and set(pair) <= set(known) else [located(spec)]


def _classes(name: str) -> list[str]:
    from lucidet.data import MetadataCatalog

    return list(MetadataCatalog.get(name).thing_classes)
