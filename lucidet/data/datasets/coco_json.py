"""Read and check a COCO annotation file. Plain ``json``: no other library takes part."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

EXAMPLES = 3
SECTIONS = ("images", "annotations", "categories")


def read_json(json_file: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON; names file, line and byte.
    """
    path = Path(json_file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"annotation file {path} does not exist; for the built-in data sets set "
            "LUCIDET_DATASETS to the folder that holds coco/, for your own check json_file"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"annotation file {path} is not UTF-8 text (byte {error.start}): is it compressed, or "
            "another file by mistake?"
        ) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # a file that ends early fails near its end, or at the start of a string left open
        ends = error.pos >= len(text.rstrip()) - 8 or "Unterminated" in error.msg
        cause = "the file ends too early, as after a broken download" if ends else "a syntax error"
        raise ValueError(
            f"annotation file {path}, line {error.lineno}, column {error.colno} "
            f"(character {error.pos} of {len(text)}): {error.msg}; {cause}. "
            "Fetch or write the file again"
        ) from error


def read_coco(json_file: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a COCO annotation file's content after checking that it fits together.

    Absent ``annotations`` (as in test sets) become an empty list; ``info`` and ``licenses`` are
    not needed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, not COCO's layout, an id twice, or one that nothing answers to.
    """
    content = read_json(json_file)
    if not isinstance(content, dict) or "images" not in content or "categories" not in content:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"annotation file {json_file} is not in COCO's layout: expected an object with "
            f"{', '.join(SECTIONS)}, found {found}"
        )
    content.setdefault("annotations", [])
    for section in SECTIONS:
        if not isinstance(content[section], list):
            raise ValueError(f"annotation file {json_file}: {section!r} must be a list")
    _check_ids(content, str(json_file))
    return content


def _check_ids(content: dict[str, Any], file: str) -> None:
    required = {
        "images": ("id", "file_name"),
        "annotations": ("image_id", "category_id", "bbox"),
        "categories": ("id", "name"),
    }
    for section, keys in required.items():
        for number, entry in enumerate(content[section]):
            if not isinstance(entry, dict):
                raise ValueError(
                    f"annotation file {file}: {section}[{number}] must be an object with "
                    f"{', '.join(keys)}, found {entry!r:.60}"
                )
            for key in keys:
                if key not in entry:
                    raise ValueError(
                        f"annotation file {file}: {section}[{number}] "
                        f"(id {entry.get('id', 'not given')}) lacks {key!r}"
                    )
    for section in SECTIONS:
        repeated = _repeated(entry["id"] for entry in content[section] if "id" in entry)
        if repeated:
            raise ValueError(
                f"annotation file {file}: {len(repeated)} ids of {section!r} occur more than once, "
                f"for example {repeated[:EXAMPLES]}. Ids must be unique: number them anew"
            )
    _check_references(content, file, "category_id", "categories")
    _check_references(content, file, "image_id", "images")


def _repeated(ids: Iterable[Any]) -> list[Any]:
    seen: set[Any] = set()
    twice = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    return list(dict.fromkeys(twice))


def _check_references(content: dict[str, Any], file: str, key: str, section: str) -> None:
    known = {entry["id"] for entry in content[section]}
    wrong = [a for a in content["annotations"] if a[key] not in known]
    if wrong:
        first = wrong[0]
        ids = sorted(known, key=lambda i: (type(i).__name__, i))
        listed = f"{ids[:10]}{' ...' if len(ids) > 10 else ''}"
        raise ValueError(
            f"annotation file {file}: annotation {first.get('id', '(no id)')} has {key} "
            f"{first[key]!r}, which is not among the file's {len(ids)} {section} {listed}; "
            f"{len(wrong)} annotations in all are so. Add it to {section!r} or remove them"
        )


class BoxReport:
    """Sorts out boxes that cannot be used, counts them and logs examples once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.dropped: dict[str, list[str]] = defaultdict(list)
        self.cut: list[str] = []

    def usable(self, bbox: Any, record: dict[str, Any], annotation_id: Any) -> bool:
        """Whether `bbox` (XYWH, pixels) has an area inside its image; notes it if not."""
        where = f"annotation {annotation_id} of image {record['image_id']}: {bbox}"
        reason = self._fault(bbox, record)
        if reason:
            self.dropped[reason].append(where)
            return False
        x, y, w, h = bbox
        width, height = record.get("width"), record.get("height")
        # less than a pixel over the border is rounding, common in COCO's own files
        over = width and height and (x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1)
        if over:
            self.cut.append(where)
        return True

    @staticmethod
    def _fault(bbox: Any, record: dict[str, Any]) -> str:
        if not isinstance(bbox, (list, tuple)) or len(bbox) != 4:
            return "not four numbers"
        if not all(isinstance(v, (int, float)) and abs(v) < float("inf") for v in bbox):
            return "not finite numbers"
        x, y, w, h = bbox
        if w <= 0 or h <= 0:
            return "without area"
        width, height = record.get("width"), record.get("height")
        if width and height and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
            return "outside the image"
        return ""

    def log(self) -> None:
        """Log what was found, if anything; images keep their other boxes."""
        for reason, examples in self.dropped.items():
            logger.warning(
                "%s: %d boxes %s are left out, for example %s (XYWH). Their images and other boxes "
                "stay; correct or remove these annotations",
                self.file,
                len(examples),
                reason,
                "; ".join(examples[:EXAMPLES]),
            )
        if self.cut:
            logger.warning(
                "%s: %d boxes reach more than a pixel over their image and are clipped when it is "
                "loaded, for example %s (XYWH)",
                self.file,
                len(self.cut),
                "; ".join(self.cut[:EXAMPLES]),
            )
