"""What the checks look at: splits, with their boxes in columns."""

# N images, M ground-truth boxes, K classes

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.config import CfgNode
from lucidet.data.datasets.coco_json import read_json
from lucidet.data.detection_utils import annotations_to_xyxy
from lucidet.data.fields import as_box, is_crowd
from lucidet.doctor.findings import Case

__all__ = ["BoxTable", "Material", "Split"]


@dataclass(frozen=True)
class BoxTable:
    """The boxes of a split; rows in the order of the records.

    Attributes:
        xyxy: (M, 4) pixels of the upright image.
        image: (M,) positions of their records.
        category: (M,) classes, 0..K-1.
        crowd: (M,) bool.
    """

    xyxy: np.ndarray
    image: np.ndarray
    category: np.ndarray
    crowd: np.ndarray


@dataclass
class Split:
    """One split of the data.

    Attributes:
        role: ``train``, ``val``, ``test`` ...; a registered dataset's name where there are several.
        name: of the dataset.
        classes: K names.
        records: as every dataset of lucidet has them.
        json_file: a COCO file that these records come from, if there is one.
        category_ids: name -> id in that file.
        repaired: the file was refused: these are the records of a repaired copy of it.
    """

    role: str
    name: str
    classes: list[str]
    records: Sequence[dict[str, Any]]
    json_file: Path | None = None
    category_ids: dict[str, Any] = field(default_factory=dict)
    repaired: bool = False

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) width and height as the annotations say; 0 where they don't."""
        return np.array(
            [(r.get("width") or 0, r.get("height") or 0) for r in self.records], np.float64
        ).reshape(-1, 2)

    @cached_property
    def boxes(self) -> BoxTable:
        """All boxes with a position in their record's image."""
        xyxy, image, category, crowd = [], [], [], []
        for position, record in enumerate(self.records):
            entries = record.get("annotations", ())
            if not entries:
                continue
            xyxy.append(annotations_to_xyxy(entries))
            image += [position] * len(entries)
            category += [entry["category_id"] for entry in entries]
            crowd += [is_crowd(entry) for entry in entries]
        return BoxTable(
            np.concatenate(xyxy) if xyxy else np.zeros((0, 4)),
            np.array(image, np.int64),
            np.array(category, np.int64),
            np.array(crowd, bool),
        )

    @cached_property
    def annotation_ids(self) -> list[Any]:
        """M ids of the annotations, in the order of `boxes`; without one its number in the image.

        Records do not keep them, so that a COCO file is read again, once there is one to name.
        """
        if self.json_file is None:
            return [
                entry.get("id", number)
                for record in self.records
                for number, entry in enumerate(record.get("annotations", ()))
            ]
        listed: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in read_json(self.json_file).get("annotations") or ():
            if isinstance(entry, dict):
                listed[str(entry.get("image_id"))].append(entry)
        ids = []
        for record in self.records:
            rest = iter(listed.get(str(record.get("image_id")), ()))
            for number, own in enumerate(record["annotations"]):
                # those between were left out
                same = (e for e in rest if as_box(e.get("bbox")) == list(own["bbox"]))
                ids.append(next(same, {}).get("id", number))
        return ids

    @cached_property
    def per_class(self) -> np.ndarray:
        """(K,) boxes of each class, without crowd regions."""
        table = self.boxes
        return np.bincount(table.category[~table.crowd], minlength=len(self.classes))

    def case(
        self, position: int, text: str = "", rows: Sequence[int] = (), other: str = ""
    ) -> Case:
        """Return a case of the image at a position.

        Args:
            position: of the record.
            text: what is special about it.
            rows: of `boxes`; the first one's annotation is named.
            other: a second image.
        """
        record = self.records[position]
        return Case(
            file=str(record["file_name"]),
            split=self.role,
            image_id=record.get("image_id"),
            annotation_id=self.annotation_ids[rows[0]] if rows else None,
            boxes=tuple(tuple(self.boxes.xyxy[row].tolist()) for row in rows),
            other=other,
            text=text,
        )


@dataclass
class Material:
    """Data and, if they are known, config and weights.

    Attributes:
        splits: the training split first.
        cfg: None where only data are looked at.
    """

    splits: list[Split]
    cfg: CfgNode | None = None

    @property
    def train(self) -> Split | None:
        """The split that is trained on."""
        return next((s for s in self.splits if s.role.startswith("train")), None)

    @property
    def held_out(self) -> list[Split]:
        """The splits that are not trained on."""
        return [s for s in self.splits if not s.role.startswith("train")]
