"""Register what specifications name, under readable names, and find it again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.specification.datasets import (
    Dataset,
    Part,
    base_name,
    check_classes,
    part_of,
    roles_of,
    union,
)
from lucidet.data.specification.layout import ALL, SPLIT_WORDS, TEST, TRAIN, VAL, split_word
from lucidet.data.specification.parse import Item, parse
from lucidet.data.specification.reading import SpecificationError

logger = logging.getLogger(__name__)

Spec: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"

#: registered name -> the dataset
_DATASETS: dict[str, Dataset] = {}
#: (what was asked for, role) -> registered name
_ALIASES: dict[tuple[str, str], str] = {}


def resolve(
    spec: Spec, *, splits: Sequence[str] = (TRAIN, VAL), classes: Sequence[str] | None = None
) -> dict[str, str]:
    """Register the splits of a specification and return their names.

    Args:
        spec: one text or path, or a list of them; several are joined into one dataset. A source
            that names a split, or whose file name does, stands for that one only, if others among
            them stand for another: ``["train.json", "val.json"]``. Data that are not divided are
            divided where both ``train`` and ``val`` are asked for.
        splits: roles to register: ``train``, ``val``, ``test``.
        classes: the class list to follow, as of a trained model; default: the training split's.

    Returns:
        role -> name in DatasetCatalog and MetadataCatalog (``thing_classes``, ``specification``).

    Raises:
        SpecificationError: (a ValueError) not recognized, no such split, or a class in a split
            that the class list lacks; names both lists.

    Annotations are read now, and kept.
    """
    items = parse(spec, DatasetCatalog.list())
    names: dict[str, str] = {}
    for role in (TRAIN, VAL, TEST):
        if role in splits:
            listed = classes
            if classes is None and role != TRAIN:
                listed = _training_classes(items)
            own = _items_for(items, role)
            names[role] = _register(own, role, listed, divide={TRAIN, VAL} <= set(splits))
    _note_shared_images(names)
    return names


def _note_shared_images(names: dict[str, str]) -> None:
    """Say that images are in training and validation both."""
    if not {TRAIN, VAL} <= names.keys():
        return
    train, val = (_DATASETS[names[role]] for role in (TRAIN, VAL))
    shared = sorted(train.files & val.files)
    if shared:
        text = (
            f"{len(shared)} of {len(val.files)} validation images are trained on too, so results "
            f"on them say little; for example {shared[0]}"
        )
        if text not in val.report.notes:
            logger.warning("%s: %s", val.name, text)
        val.report.note(text)


def every_split(spec: Spec, classes: Sequence[str] | None = None) -> list[str]:
    """Register every split of a specification, or those that it names; return their names.

    Args:
        spec: as in `resolve`.
        classes: the class list to follow; default: the training split's.
    """
    items = parse(spec, DatasetCatalog.list())
    if all(item.split or item.path is None for item in items):
        roles = list(dict.fromkeys(_role_of(item) or TRAIN for item in items))
        if len(roles) == 1:
            if classes is None and roles != [TRAIN]:
                classes = _training_classes(items)
            return [_register(items, roles[0], classes, divide=True)]
        return list(resolve(spec, splits=roles, classes=classes).values())
    own = [roles_of(item.source) for item in items if item.path is not None]
    roles = [r for r in (TRAIN, VAL, TEST) if all(r in given for given in own)]
    return list(resolve(spec, splits=roles, classes=classes).values())


def dataset_names(spec: Spec, split: str = VAL, classes: Sequence[str] | None = None) -> list[str]:
    """Return registered names for what stands in ``DATASETS.TRAIN`` or ``DATASETS.TEST``.

    Registered names are returned as they are. Each specification is registered; one that names a
    split means exactly that split, and data that are not divided are taken whole; see `connect`.

    Args:
        spec: one name or specification, or a list of them; each gives one name.
        split: what a specification without a split means here: ``train``, ``val`` or ``test``.
        classes: the class list to follow; default: the training split's of each.
    """
    texts = [spec] if isinstance(spec, (str, os.PathLike)) else list(spec)
    return [_name_of(os.fspath(text), split, classes) for text in texts]


def explicit(name: str) -> str:
    """Return the specification of a registered dataset, which any process understands.

    A name that no specification made is returned as it is.
    """
    return _DATASETS[name].text if name in _DATASETS else name


def is_specification(text: str) -> bool:
    """Whether a text that is no registered name leads to files."""
    if text in DatasetCatalog.list():
        return False
    try:
        return bool(parse(text, DatasetCatalog.list()))
    except SpecificationError:
        return False


def connect(train: Sequence[str], test: Sequence[str]) -> None:
    """Make the specifications of a config's datasets share one class list, the training data's.

    Data that are not divided are divided if they stand in both, and taken whole otherwise.

    Args:
        train: ``DATASETS.TRAIN``.
        test: ``DATASETS.TEST``.

    Raises:
        SpecificationError: a class of a test dataset that training lacks.
    """
    registered = DatasetCatalog.list()
    if all(text in registered for text in (*train, *test)):
        return
    items = {text: parse(text, registered) for text in (*train, *test) if text not in registered}
    sources = [{i.source for text in texts for i in items.get(text, ())} for texts in (train, test)]
    shared = sources[0] & sources[1]

    def divide(text: str) -> bool:
        return any(item.source in shared for item in items[text])

    lists = []
    for text in train:
        if text in items:
            parts = _parts(items[text], TRAIN, divide(text))
            lists.append(union([part.reading.classes for part in parts]))
        else:
            lists.append(MetadataCatalog.get(text).get("thing_classes") or [])
    classes = union(lists) or None
    for texts, role in ((train, TRAIN), (test, VAL)):
        for text in texts:
            if text in items:
                listed = classes
                if classes is None:
                    listed = _training_classes(items[text])
                _ALIASES[(text, role)] = _register(items[text], role, listed, divide(text))


def find(text: str) -> str | None:
    """Return the registered name of a specification outside ``DATASETS.TRAIN``; None if it is none.

    Raises:
        SpecificationError: files are there, but they are not understood.
    """
    if _ALIASES.get((text, VAL)) in DatasetCatalog.list():
        return _ALIASES[(text, VAL)]
    return _name_of(text, VAL, None) if is_specification(text) else None


def _name_of(text: str, role: str, classes: Sequence[str] | None) -> str:
    if text in DatasetCatalog.list():
        return text
    alias = _ALIASES.get((text, role))
    if alias is not None and alias in DatasetCatalog.list():
        known = MetadataCatalog.get(alias).thing_classes
        if classes is None or list(classes) == known:
            return alias
    items = parse(text, DatasetCatalog.list())
    listed = classes
    if classes is None and role != TRAIN:
        listed = _training_classes(items)
    name = _register(items, role, listed, divide=False)
    if classes is None:
        _ALIASES[(text, role)] = name
    return name


def _parts(items: Sequence[Item], role: str, divide: bool) -> list[Part]:
    return [part_of(item, role, divide) for item in items]


def _items_for(items: Sequence[Item], role: str) -> list[Item]:
    """Return the sources that stand for a role, where they are divided among roles.

    A single source's split, asked for another role, is the source's own split of that role.
    """
    roles = [_role_of(item) for item in items]
    if role in roles and len(set(roles)) > 1:
        return [
            item if item.split else replace(item, split=ALL)
            for item, own in zip(items, roles, strict=True)
            if own == role
        ]
    return [
        item if own in (role, "") else item.source for item, own in zip(items, roles, strict=True)
    ]


def _role_of(item: Item) -> str:
    if item.split:
        return TRAIN if item.split == "trainval" else SPLIT_WORDS.get(item.split.lower(), "")
    if item.path is not None and item.path.is_file():
        return split_word(item.path.stem) or ""
    return ""


def _training_classes(items: Sequence[Item]) -> list[str] | None:
    """Return the class list of the sources' training splits; None where there is none."""
    try:
        parts = _parts(_items_for(items, TRAIN), TRAIN, divide=False)
    except SpecificationError:  # data for testing only
        return None
    return union([part.reading.classes for part in parts])


def _register(items: Sequence[Item], role: str, classes: Sequence[str] | None, divide: bool) -> str:
    parts = _parts(items, role, divide)
    split = parts[0].item.split if len({p.item.split for p in parts}) == 1 else role
    name = base_name(items) + (f"_{split}" if split not in ("", ALL) else "")
    if classes is None:
        classes = union([part.reading.classes for part in parts])
    check_classes(name, parts, classes, "the training data's list")
    dataset = Dataset(name, split, list(classes), parts)
    for part in parts:
        dataset.report.add(part.reading.report)
    dataset.name = name = _free_name(dataset)
    if name in _DATASETS and name in DatasetCatalog.list():
        return name
    _DATASETS[name] = dataset
    DatasetCatalog.register(name, dataset.records)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(**dataset.metadata())
    dataset.report.log(name)
    return name


def _free_name(dataset: Dataset) -> str:
    """Return the dataset's name; with a digest if another dataset has it."""
    known = _DATASETS.get(dataset.name)
    same = known is not None and (known.text, known.classes) == (dataset.text, dataset.classes)
    if same or dataset.name not in DatasetCatalog.list():
        return dataset.name
    content = "\n".join([dataset.text, *dataset.classes])
    return f"{dataset.name}_{hashlib.sha256(content.encode()).hexdigest()[:6]}"


def described(name: str) -> Dataset:
    """Return the dataset behind a registered name that a specification made."""
    return _DATASETS[name]


# names that neither catalog holds may be specifications
DatasetCatalog.find = MetadataCatalog.find = find
