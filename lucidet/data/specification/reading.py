"""What a reader of annotations returns: records, class names, and what was dropped and why."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lucidet.data.box_report import EXAMPLES, BoxReport
from lucidet.data.shared_list import SharedList
from lucidet.structures import BoxMode

logger = logging.getLogger(__name__)

# K classes


class SpecificationError(ValueError):
    """A dataset specification that is not understood, or data that contradict themselves."""


@dataclass
class Report:
    """Counts what a reader could not use and what it changed, with examples.

    Args:
        source: the file or folder, for messages.

    Attributes:
        dropped: reason -> where each case is; these annotations or images are not in the records.
        mended: change -> where each case is; these are in the records, changed.
        notes: sentences about the whole dataset.
        boxes: judges single boxes; `finish` takes over what it counted.
    """

    source: str = "the dataset"
    dropped: dict[str, list[str]] = field(default_factory=dict)
    mended: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.boxes = BoxReport(self.source, form="x1, y1, x2, y2", level=logging.DEBUG)

    def drop(self, reason: str, where: str) -> None:
        """Count one annotation or image that is not used."""
        self.dropped.setdefault(reason, []).append(where)

    def mend(self, change: str, where: str) -> None:
        """Count one annotation or image that was changed."""
        self.mended.setdefault(change, []).append(where)

    def finish(self) -> None:
        """Take over what `boxes` counted, once all have been read.

        Raises:
            ValueError: all boxes lie within 0..1: they are no pixels.
        """
        self.boxes.log()
        for reason, examples in self.boxes.dropped.items():
            self.dropped.setdefault(f"boxes {reason} are left out", []).extend(examples)
        if self.boxes.cut:
            change = "boxes reach more than a pixel over their image and are clipped when loaded"
            self.mended.setdefault(change, []).extend(self.boxes.cut)

    def note(self, text: str) -> None:
        """Add a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)

    def add(self, other: Report) -> None:
        """Take over what another report counted."""
        for mine, theirs in ((self.dropped, other.dropped), (self.mended, other.mended)):
            for reason, examples in theirs.items():
                mine.setdefault(reason, []).extend(examples)
        for text in other.notes:
            self.note(text)

    def lines(self) -> list[str]:
        """Return one sentence for each reason, with examples."""
        sentences = [f"{_counted(ex)} {why}; for example {_some(ex)}" for why, ex in self._cases()]
        return [*sentences, *self.notes]

    def _cases(self) -> list[tuple[str, list[str]]]:
        return [*self.dropped.items(), *self.mended.items()]

    def log(self, name: str) -> None:
        """Log the sentences: what was dropped or changed as a warning, notes as information."""
        for why, cases in self._cases():
            logger.warning("%s: %s %s; for example %s", name, _counted(cases), why, _some(cases))
        for text in self.notes:
            logger.info("%s: %s", name, text)


def _counted(examples: Sequence[str]) -> str:
    return f"{len(examples)} x"


def _some(examples: Sequence[str]) -> str:
    return "; ".join(examples[:EXAMPLES])


@dataclass
class Reading:
    """One split of one source, read.

    Attributes:
        classes: K names; ``category_id`` of the records is an index into them.
        records: as every dataset of lucidet has them, boxes in pixels of the upright image; fresh
            at each access, and in one buffer, as they are kept while the program runs.
        declared: the file lists its classes, so that one without a box counts too.
        id_map: the file's category id -> index, where the format has such ids.
        json_file: a COCO file that holds exactly these records, if there is one.
        files: paths of the images.
        report: what was dropped, changed and noticed.
    """

    classes: list[str]
    records: Sequence[dict[str, Any]]
    declared: bool
    report: Report
    id_map: dict[Any, int] | None = None
    json_file: Path | None = None

    def __post_init__(self) -> None:
        self.files = frozenset(record["file_name"] for record in self.records)
        if not isinstance(self.records, SharedList):
            self.records = SharedList(self.records)


def new_record(file: Path, image_id: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the record of an image, without boxes.

    Args:
        size: (width, height) of the upright image.
    """
    return {
        "file_name": str(file),
        "image_id": image_id,
        "height": size[1],
        "width": size[0],
        "annotations": [],
    }


def add_box(
    record: dict[str, Any],
    class_name: str,
    corners: Sequence[float],
    report: Report,
    where: str,
    **more: Any,
) -> None:
    """Add a box to a record if it has an area inside the image; else count it.

    Args:
        record: of `new_record`; the class stays a name until `finished`.
        class_name: stripped by the caller.
        corners: x1, y1, x2, y2 in continuous pixels of the upright image.
        report: counts boxes that are not used.
        where: file and place in it, for the report.
        more: further keys, such as ``difficult``.
    """
    shown = ", ".join(f"{v:g}" for v in corners)
    if report.boxes.usable_corners(corners, record, f"{where} ({class_name})", shown):
        record["annotations"].append(
            {
                "category": class_name,
                "bbox": [float(v) for v in corners],
                "bbox_mode": BoxMode.XYXY_ABS,
                "iscrowd": 0,
                **more,
            }
        )


def finished(records: list[dict[str, Any]], declared: Sequence[str], report: Report) -> Reading:
    """Return a reading whose classes are numbered.

    Args:
        records: with named boxes; changed in place.
        declared: class names that the data list, in order; those that are only found in boxes
            follow in alphabetical order.
        report: of the reading.
    """
    report.finish()
    make_ids_unique(records)
    found = names_in(records)
    unknown = [name for name in found if name not in declared]
    if declared and unknown:
        report.note(f"classes {unknown} are not in the list of classes and were added")
    classes = [*declared, *unknown]
    index = {name: k for k, name in enumerate(classes)}
    for record in records:
        for entry in record["annotations"]:
            entry["category_id"] = index[entry.pop("category")]
    return Reading(classes, records, bool(declared), report)


def make_ids_unique(records: Sequence[dict[str, Any]]) -> None:
    """Replace image ids by paths, in place, if ids repeat: ``a/1.jpg`` and ``b/1.jpg``.

    >>> records = [{"image_id": "1", "file_name": f"/data/{d}/1.jpg"} for d in "ab"]
    >>> make_ids_unique(records)
    >>> [record["image_id"] for record in records]
    ['a/1', 'b/1']
    """
    if len({str(record["image_id"]) for record in records}) == len(records):
        return
    names = [record["file_name"] for record in records]
    base = os.path.commonpath([os.path.dirname(name) for name in names])
    paths = [os.path.relpath(name, base).replace(os.sep, "/") for name in names]
    stems = [os.path.splitext(path)[0] for path in paths]
    for record, new in zip(records, stems if len(set(stems)) == len(stems) else paths, strict=True):
        record["image_id"] = new


def names_in(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the class names of annotations that are still named, in alphabetical order."""
    return sorted({entry["category"] for record in records for entry in record["annotations"]})
