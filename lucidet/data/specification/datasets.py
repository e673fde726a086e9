"""Put the sources of a specification together: which split of each, one class list for all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.image_io import image_size
from lucidet.data.specification.layout import (
    ALL,
    SPLIT_WORDS,
    TEST,
    TRAIN,
    VAL,
    WHOLE,
    Layout,
    split_word,
)
from lucidet.data.specification.parse import Item
from lucidet.data.specification.reading import Reading, Report, SpecificationError, make_ids_unique
from lucidet.data.specification.recognize import layout_of
from lucidet.data.specification.splits import divided, split_file

# K classes

#: folders whose name says nothing about the data
_PLAIN_FOLDERS = ("annotations", "annotation", "images", "data", "dataset", "datasets", "labels")


@dataclass
class Part:
    """One split of one source, read.

    Attributes:
        item: with its split filled in, so that its text names exactly these images.
        layout: None for a registered dataset.
        split_file: where a division that lucidet made is written down.
    """

    item: Item
    reading: Reading
    layout: Layout | None = None
    split_file: Path | None = None


@dataclass
class Dataset:
    """One split of a specification, ready to be registered.

    Attributes:
        name: readable, for file names and metrics.
        split: ``train``, ``val``, ``test`` or what was asked for.
        classes: K names, the same list for every split.
        parts: of the sources, in order.
    """

    name: str
    split: str
    classes: list[str]
    parts: list[Part]
    report: Report = field(default_factory=Report)

    @property
    def text(self) -> str:
        """The explicit specification of exactly these images."""
        return ",".join(part.item.text for part in self.parts)

    @property
    def files(self) -> frozenset[str]:
        """Paths of the images."""
        return frozenset().union(*(part.reading.files for part in self.parts))

    def records(self) -> list[dict[str, Any]]:
        """Return fresh records with classes numbered by `classes`; ids are unique."""
        several = len(self.parts) > 1
        ids = [r["image_id"] for part in self.parts for r in part.reading.records]
        renamed = several and len(set(map(str, ids))) < len(ids)
        result = []
        for number, part in enumerate(self.parts):
            # a class that is not in the list has no boxes, see `check_classes`
            new = {name: k for k, name in enumerate(self.classes)}
            order = [new.get(name, -1) for name in part.reading.classes]
            for record in part.reading.records:  # a fresh copy each
                if renamed:
                    record["image_id"] = f"{number + 1}/{record['image_id']}"
                for entry in record["annotations"]:
                    entry["category_id"] = order[entry["category_id"]]
                result.append(record)
        return result

    def metadata(self) -> dict[str, Any]:
        """Return what the metadata of the dataset are set to."""
        values: dict[str, Any] = {
            "thing_classes": list(self.classes),
            "evaluator_type": "coco",
            "specification": self.text,
            "split": self.split,
        }
        if len(self.parts) == 1:
            part = self.parts[0]
            ids = part.reading.id_map
            if ids is not None and sorted(part.reading.classes) == sorted(self.classes):
                names = part.reading.classes
                values["thing_dataset_id_to_contiguous_id"] = {
                    i: self.classes.index(names[k]) for i, k in ids.items()
                }
                if part.reading.json_file is not None:
                    values["json_file"] = str(part.reading.json_file)
            if part.split_file is not None:
                values["split_file"] = str(part.split_file)
        return values


@lru_cache(maxsize=64)
def _layout(item: Item) -> Layout:
    return layout_of(item)


@lru_cache(maxsize=64)
def _read(item: Item, split: str) -> Reading:
    layout = _layout(item)
    reader = layout.splits.get(split) or layout.hidden[split]
    reading = reader()
    for note in layout.notes:
        reading.report.note(note)
    return reading


@lru_cache(maxsize=64)
def _divided(item: Item) -> tuple[dict[str, Reading], Path | None]:
    layout = _layout(item)
    whole = _read(item, next(iter(layout.splits)))
    _refuse_empty(whole, item.text)
    return divided(whole, layout.path, base_name([item]))


def forget() -> None:
    """Read files again at the next use: they may have changed."""
    for function in (_layout, _read, _divided):
        function.cache_clear()


def part_of(item: Item, role: str, divide: bool) -> Part:
    """Return the split of a source that `role` means, or that the item names.

    Args:
        role: ``train``, ``val`` or ``test``.
        divide: data without splits get a training and a validation part. Else they are taken
            whole; but where they were divided before, ``val`` means that part, as a model may have
            been trained on the other.

    Raises:
        SpecificationError: the source has no such split, or nothing is left in it.
    """
    if item.path is None:
        return Part(item, _registered(item.name))
    layout = _layout(item.source)
    if not item.split and _undivided(layout) and not divide:
        divide = role == VAL and split_file(layout.path, base_name([item])).is_file()
        if not divide:
            item = replace(item, split=ALL)
    wanted = item.split or role
    split = _choice(layout, wanted, exact=bool(item.split))
    file = None
    if split == ALL:
        readings = [_read(item.source, name) for name in layout.splits]
        reading = readings[0] if len(readings) == 1 else _joined(readings)
    elif split in layout.hidden or (
        split in layout.splits and not (split == TRAIN and _undivided(layout))
    ):
        reading = _read(item.source, split)
    else:
        parts, file = _divided(item.source)
        reading = parts[split]
    named = Item(layout.path, layout.kind, item.images, split)
    _refuse_empty(reading, named.text)
    return Part(named, reading, layout, file)


def roles_of(item: Item) -> list[str]:
    """Return for what a source has data: ``train``, ``val``, ``test``."""
    layout = _layout(item)
    if _undivided(layout):
        return [TRAIN, VAL]
    if VAL not in layout.splits and {TRAIN, TEST} <= layout.splits.keys():
        return [TRAIN, VAL]  # test is used for validation
    return [split for split in (TRAIN, VAL, TEST) if split in layout.splits]


def _refuse_empty(reading: Reading, text: str) -> None:
    if reading.records:
        return
    reasons = "; ".join(reading.report.lines()) or "it lists none"
    raise SpecificationError(f"{text} has no images: {reasons}")


def _undivided(layout: Layout) -> bool:
    return list(layout.splits) in ([WHOLE], [TRAIN])


def _choice(layout: Layout, wanted: str, exact: bool) -> str:
    """Return the name of the split to use; "train" and "val" of undivided data are made."""
    names = [name for name in layout.splits if name]
    meant = SPLIT_WORDS.get(wanted.lower(), wanted)
    if meant == ALL or wanted in layout.hidden:
        return wanted
    if meant in layout.splits:
        return meant
    if _undivided(layout) and meant in (TRAIN, VAL):
        return meant
    if not exact and meant == VAL and TEST in layout.splits:
        layout.notes.append("there is no validation split: test is used for validation")
        return TEST
    offered = [*(names or [TRAIN, VAL]), *layout.hidden, ALL]
    if VAL not in offered and _undivided(layout):
        offered.insert(1, VAL)
    raise SpecificationError(
        f"{layout.path} ({layout.described}) has no split {wanted!r}; it has "
        f"{', '.join(offered)}: {layout.kind}:{layout.path}:{offered[0]}"
    )


def _joined(readings: Sequence[Reading]) -> Reading:
    """Return all images of a source's splits."""
    classes = union([reading.classes for reading in readings])
    records, report = [], Report()
    seen: set[str] = set()
    for reading in readings:
        order = [classes.index(name) for name in reading.classes]
        report.add(reading.report)
        for record in reading.records:
            if record["file_name"] in seen:
                continue
            seen.add(record["file_name"])
            entries = [{**a, "category_id": order[a["category_id"]]} for a in record["annotations"]]
            records.append({**record, "annotations": entries})
    make_ids_unique(records)
    return Reading(classes, records, all(reading.declared for reading in readings), report)


def _registered(name: str) -> Reading:
    records = DatasetCatalog.get(name)
    classes = MetadataCatalog.get(name).get("thing_classes")
    if classes is None:
        raise SpecificationError(
            f"registered dataset {name!r} has no thing_classes, so it can't be joined with others"
        )
    complete = []
    for record in records:
        copied = {"annotations": [], **record}
        if not copied.get("width") or not copied.get("height"):
            copied["width"], copied["height"] = image_size(copied["file_name"]) or (0, 0)
        complete.append(copied)
    return Reading(list(classes), complete, True, Report())


def union(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all class names, in the order of their first appearance."""
    return list(dict.fromkeys(name for names in lists for name in names))


def check_classes(dataset: str, parts: Sequence[Part], classes: Sequence[str], source: str) -> None:
    """Refuse boxes of a class that the list of the training data lacks.

    Args:
        dataset: name of the checked data, for the message.
        parts: of the checked data.
        classes: of the training data.
        source: where `classes` come from.

    Raises:
        SpecificationError: names both lists.
    """
    for part in parts:
        names = part.reading.classes
        used = {names[a["category_id"]] for r in part.reading.records for a in r["annotations"]}
        lacking = [name for name in names if name in used and name not in classes]
        if lacking:
            raise SpecificationError(
                f"{dataset} ({part.item.text}) has boxes of {lacking}, which {source} lacks.\n"
                f"  {dataset}: {names}\n  {source}: {list(classes)}\n"
                "Classes are matched by name: correct the spelling, or add such images to training"
            )


def base_name(items: Sequence[Item]) -> str:
    """Return a readable name of sources, without their split: ``bccd``, ``coco+cells``."""
    return "+".join(dict.fromkeys(_one_name(item) for item in items))


def _one_name(item: Item) -> str:
    if item.path is None:
        return item.name
    path = item.path
    words = []
    if path.is_file() and path.stem.lower() not in ("data", "dataset", "annotations"):
        stem = path.stem.strip("_").removesuffix(".coco")
        words = [stem] if stem != "annotations" else []
    folder = path.parent if path.is_file() else path
    while folder.name.lower() in _PLAIN_FOLDERS or (words and split_word(folder.name)):
        if folder.parent == folder:
            break
        folder = folder.parent
    words.insert(0, folder.name)
    name = re.sub(r"[^\w.+-]+", "_", "_".join(w for w in words if w)).strip("_.")
    return name or "dataset"
