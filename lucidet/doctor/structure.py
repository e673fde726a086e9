"""COCO files that the reader refuses: what is wrong with which entry, and a copy without it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lucidet.data.datasets.coco_json import read_json
from lucidet.data.fields import IdTable, as_area, as_box, as_flag, as_id, as_size, shown
from lucidet.doctor.findings import Case, Finding, finding

__all__ = ["repaired_content"]

Entry = dict[str, Any]


def repaired_content(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """Return the content of a COCO file without the entries that cannot be used, and why.

    Raises:
        ValueError, OSError: it is no JSON, or no COCO file.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "images" not in content:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"annotation file {path} is not in COCO's layout: expected an object with images, "
            f"annotations, categories, found {shown(found)}"
        )
    cases: dict[str, list[Case]] = defaultdict(list)

    def note(code: str, entry: Any, text: str, section: str = "annotations") -> None:
        is_box, known = section == "annotations", isinstance(entry, dict)
        cases[code].append(
            Case(
                file=str(path),
                image_id=entry.get("image_id" if is_box else "id") if known else None,
                annotation_id=entry.get("id") if known and is_box else None,
                text=text,
            )
        )

    sections = {s: content.get(s) or [] for s in ("images", "annotations", "categories")}
    for name, entries in sections.items():
        if not isinstance(entries, list):
            raise ValueError(f"annotation file {path}: {name!r} must be a list")
    images = list(_images(sections["images"], note))
    categories = list(_categories(sections["categories"], note))
    annotations = list(
        _annotations(
            sections["annotations"],
            IdTable(entry["id"] for entry in images),
            IdTable(entry["id"] for entry in categories),
            note,
        )
    )
    repaired = {**content, "images": images, "annotations": annotations, "categories": categories}
    messages = {
        "duplicate-image-id": "{n} images have an id that an earlier one has",
        "duplicate-annotation-id": "{n} annotations have an id that an earlier one has",
        "duplicate-category-id": "{n} categories have an id that an earlier one has",
        "unknown-image-id": "{n} annotations are of images that the file does not list",
        "unknown-category-id": "{n} annotations are of categories that the file does not list",
        "annotation-malformed": "{n} entries have a field that is absent or has no meaning",
    }
    return repaired, [
        finding(code, f"{path.name}: {messages[code]}", own) for code, own in cases.items()
    ]


def _images(entries: list[Any], note: Any) -> Iterator[Entry]:
    seen: set[Any] = set()
    for entry in entries:
        problem = _image_problem(entry)
        if problem:
            note("annotation-malformed", entry, f"image: {problem}", "images")
        elif entry["id"] in seen:
            note("duplicate-image-id", entry, f"again for {entry['file_name']}", "images")
        else:
            seen.add(entry["id"])
            yield entry


def _image_problem(entry: Any) -> str:
    try:
        if not isinstance(entry, dict):
            return f"must be an object, found {shown(entry)}"
        as_id(entry.get("id"))
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"].strip():
            return f"'file_name' must be text, got {shown(entry.get('file_name'))}"
        for key in ("width", "height"):
            if entry.get(key) != "":
                as_size(entry.get(key))
    except ValueError as error:
        return str(error)
    return ""


def _categories(entries: list[Any], note: Any) -> Iterator[Entry]:
    seen: dict[Any, str] = {}
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or "id" not in entry
            or not str(entry.get("name") or "").strip()
        ):
            note("annotation-malformed", entry, f"category {shown(entry)}", "categories")
        elif seen.setdefault(str(entry["id"]), str(entry["name"])) != str(entry["name"]):
            text = f"category {entry['id']} is {seen[str(entry['id'])]!r} and {entry['name']!r}"
            note("duplicate-category-id", entry, text, "categories")
        else:
            yield entry


def _annotations(
    entries: list[Any], images: IdTable, categories: IdTable, note: Any
) -> Iterator[Entry]:
    seen: set[Any] = set()
    for entry in entries:
        problem = _annotation_problem(entry)
        if problem:
            note("annotation-malformed", entry, problem)
        elif images.find(entry["image_id"]) is None:
            note("unknown-image-id", entry, f"image {shown(entry['image_id'])}")
        elif categories.find(entry["category_id"]) is None:
            note("unknown-category-id", entry, f"category {shown(entry['category_id'])}")
        elif "id" in entry and entry["id"] in seen:
            note("duplicate-annotation-id", entry, f"box {shown(entry.get('bbox'))}")
            yield {key: value for key, value in entry.items() if key != "id"}
        else:
            seen.add(entry.get("id"))
            yield entry


def _annotation_problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"must be an object, found {shown(entry)}"
    lacking = [key for key in ("image_id", "category_id", "bbox") if key not in entry]
    if lacking:
        return f"lacks {', '.join(map(repr, lacking))}"
    meanings = {"id": as_id, "iscrowd": as_flag, "area": as_area, "ignore": as_flag}
    key = ""
    try:
        for key, meaning in meanings.items():
            if key in entry and entry[key] not in ("", None):
                meaning(entry[key])
        for key in ("image_id", "category_id"):
            as_id(entry[key])
    except ValueError as error:
        return f"{key!r} {error}"
    if entry.get("ignore") and as_flag(entry["ignore"]):
        return "'ignore' is set, which COCO's format has no place for; use 'iscrowd': 1"
    if as_box(entry["bbox"]) is None:
        return f"'bbox' must be four numbers, got {shown(entry['bbox'])}"
    return ""
