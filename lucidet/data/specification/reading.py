"""What a reader of annotations returns: records, class names, and what was dropped and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lucidet.data.datasets.coco_json import EXAMPLES
from lucidet.structures import BoxMode

logger = logging.getLogger(__name__)

# K classes


class SpecificationError(ValueError):
    """A dataset specification that is not understood, or data that contradict themselves."""


@dataclass
class Report:
    """Counts what a reader could not use and what it changed, with examples.

    Attributes:
        dropped: reason -> where each case is; these annotations or images are not in the records.
        mended: change -> where each case is; these are in the records, changed.
        notes: sentences about the whole dataset.
    """

    dropped: dict[str, list[str]] = field(default_factory=dict)
    mended: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, where: str) -> None:
        """Count one annotation or image that is not used."""
        self.dropped.setdefault(reason, []).append(where)

    def mend(self, change: str, where: str) -> None:
        """Count one annotation or image that was changed."""
        self.mended.setdefault(change, []).append(where)

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
        records: as every dataset of lucidet has them, boxes in pixels of the upright image.
        declared: the file lists its classes, so that one without a box counts too.
        id_map: the file's category id -> index, where the format has such ids.
        json_file: a COCO file that holds exactly these records, if there is one.
        report: what was dropped, changed and noticed.
    """

    classes: list[str]
    records: list[dict[str, Any]]
    declared: bool
    report: Report
    id_map: dict[Any, int] | None = None
    json_file: Path | None = None


def annotation(class_name: str, xyxy: Sequence[float], **more: Any) -> dict[str, Any]:
    """Return an annotation whose class is still a name; see :func:`number_classes`.

    Args:
        class_name: stripped by the caller.
        xyxy: continuous pixels of the upright image.
        more: further keys, such as ``difficult``.
    """
    return {
        "category": class_name,
        "bbox": [float(v) for v in xyxy],
        "bbox_mode": BoxMode.XYXY_ABS,
        "iscrowd": 0,
        **more,
    }


def number_classes(records: list[dict[str, Any]], classes: Sequence[str]) -> None:
    """Replace each annotation's ``category`` (a name) by ``category_id``, in place."""
    index = {name: k for k, name in enumerate(classes)}
    for record in records:
        for entry in record["annotations"]:
            entry["category_id"] = index[entry.pop("category")]


def names_in(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the class names of annotations that are still named, in alphabetical order."""
    return sorted({entry["category"] for record in records for entry in record["annotations"]})
