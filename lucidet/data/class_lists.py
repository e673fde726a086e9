"""Class lists of several datasets: matched by name, never by position."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.coco_json import read_coco
from lucidet.data.fields import id_order
from lucidet.data.match_classes import match_classes

__all__ = ["match_classes", "match_test_classes", "names_of_classes"]

logger = logging.getLogger(__name__)

# K classes


def names_of_classes(dataset: str) -> list[str] | None:
    """Return the K class names of a registered dataset; None where nothing says them.

    Without ``thing_classes`` in the metadata, the names are read from its COCO JSON.
    """
    meta = MetadataCatalog.get(dataset)
    known = meta.get("thing_classes")
    if known is not None:
        return list(known)
    categories = _categories(dataset)
    return None if categories is None else [name for name, _ in categories]


def _categories(dataset: str) -> list[tuple[str, bool]] | None:
    """Return each category of a COCO JSON and whether it has annotations, in the order of ids."""
    file = MetadataCatalog.get(dataset).get("json_file")
    if file is None or not Path(file).is_file():
        return None
    content = read_coco(file)
    used = {annotation["category_id"] for annotation in content["annotations"]}
    ordered = sorted(content["categories"], key=lambda category: id_order(category["id"]))
    return [(category["name"], category["id"] in used) for category in ordered]


def match_test_classes(train: Sequence[str], test: Sequence[str]) -> None:
    """Make class k of each test dataset the class that the training datasets call k.

    A COCO JSON that was not loaded yet is matched by name when it is. Others must agree already.

    Args:
        train: registered names of the training datasets; without class names, nothing is compared.
        test: registered names of the test datasets.

    Raises:
        UnknownNameError: a test dataset is not registered.
        ValueError: its classes can't be matched; names both lists.
    """
    for name in test:
        if name not in DatasetCatalog and name not in MetadataCatalog:
            DatasetCatalog.get(name)  # raises, with the names that there are
    if not train or not test:
        return
    classes = names_of_classes(train[0]) if train[0] in MetadataCatalog else None
    for name in test if classes else ():
        assert classes is not None
        if name in train or name not in MetadataCatalog:
            continue
        meta = MetadataCatalog.get(name)
        own = meta.get("thing_classes")
        if own is not None:
            _check_order(list(own), classes, name, train[0])
            continue
        categories = _categories(name)
        if categories is not None:
            names = [category for category, _ in categories]
            used = {category for category, is_used in categories if is_used}
            meta.thing_classes = match_classes(names, classes, name, train[0], used)


def _check_order(own: Sequence[str], classes: Sequence[str], name: str, train: str) -> None:
    different = [k for k, (a, b) in enumerate(zip(own, classes, strict=False)) if a != b]
    if different:
        k = different[0]
        raise ValueError(
            f"test dataset {name!r} has the classes {list(own)}, training dataset {train!r} has "
            f"{list(classes)}: class {k} is {own[k]!r} in one and {classes[k]!r} in the other. "
            "Register both with the same thing_classes in the same order, before either is loaded "
            "(categories of a COCO JSON are matched to them by name)"
        )
    if len(own) != len(classes):
        logger.warning(
            "test dataset %r has the classes %s, training dataset %r has %s",
            name,
            list(own),
            train,
            list(classes),
        )
