"""The fields of a COCO file's images, annotations and categories, understood or refused by name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from lucidet.data.box_report import EXAMPLES
from lucidet.data.fields import IdTable, as_area, as_box, as_flag, as_id, as_size, id_order, shown

__all__ = ["clean_fields"]

logger = logging.getLogger(__name__)

_REQUIRED = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
#: optional field -> its meaning; None there is as if it were absent
_OPTIONAL: dict[str, dict[str, Callable[[Any], Any]]] = {
    "images": {"width": as_size, "height": as_size},
    "annotations": {"id": as_id, "iscrowd": as_flag, "area": as_area, "ignore": as_flag},
    "categories": {},
}


def clean_fields(content: dict[str, Any], file: str) -> dict[str, Any]:
    """Return a COCO file's content with every field that lucidet reads in one form.

    - ids are whole numbers or text, and references are the id that they refer to;
    - ``bbox`` is a list of numbers where it can be read as one, else as it was;
    - ``iscrowd`` and ``ignore`` are 0 or 1; ``area``, ``width`` and ``height`` positive, or absent;
    - categories that occur twice, or have the name of another, are one.

    Args:
        content: with lists under ``images``, ``annotations`` and ``categories``.
        file: named in messages.

    Raises:
        ValueError: a required field is absent or has no meaning, an id occurs twice or refers to
            nothing; names file, entry and field.
    """
    for section, keys in _REQUIRED.items():
        for number, entry in enumerate(content[section]):
            _check_entry(entry, keys, f"annotation file {file}: {section}[{number}]")
    cleaned = {
        section: [
            _clean_entry(entry, section, number, file)
            for number, entry in enumerate(content[section])
        ]
        for section in _REQUIRED
    }
    categories, same = _merged(cleaned["categories"], file)
    for section, entries in {**cleaned, "categories": categories}.items():
        _refuse_repeated((entry["id"] for entry in entries if "id" in entry), section, file)
    category_ids = IdTable([*same, *(entry["id"] for entry in categories)])
    _resolve(cleaned["annotations"], "category_id", category_ids, "categories", file)
    image_ids = IdTable(entry["id"] for entry in cleaned["images"])
    _resolve(cleaned["annotations"], "image_id", image_ids, "images", file)
    for annotation in cleaned["annotations"]:
        annotation["category_id"] = same.get(annotation["category_id"], annotation["category_id"])
    return {**content, **cleaned, "categories": categories}


def _check_entry(entry: Any, keys: Iterable[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be an object with {', '.join(keys)}, found {shown(entry)}")
    for key in keys:
        if key not in entry:
            raise ValueError(f"{where} (id {shown(entry.get('id', 'not given'))}) lacks {key!r}")


def _clean_entry(entry: dict[str, Any], section: str, number: int, file: str) -> dict[str, Any]:
    """Return `entry` with its own fields in one form, changed in place; references come later."""
    if section == "annotations" and _is_plain(entry):
        return entry
    key, found = "", entry
    try:
        for key, meaning in _OPTIONAL[section].items():
            if key in found:
                value = meaning(found[key]) if found[key] != "" else None
                if value is None:
                    del found[key]
                else:
                    found[key] = value
        if section == "annotations":
            box = as_box(found["bbox"])
            if box is not None:
                found["bbox"] = box
            return found
        key = "id"
        found["id"] = as_id(found["id"])
        key = "file_name" if section == "images" else "name"
        found[key] = _as_text(found[key], also_numbers=section == "categories")
        return found
    except ValueError as error:
        where = f"{section}[{number}] (id {shown(entry.get('id', 'not given'))})"
        raise ValueError(
            f"annotation file {file}: {where}: {key!r} {error}. Correct or remove it"
        ) from None


def _is_plain(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation is as COCO's own are, so that nothing has to be understood."""
    box, area = annotation["bbox"], annotation.get("area", 1.0)
    return (
        type(box) is list
        and len(box) == 4
        and all(type(v) is float or type(v) is int for v in box)
        and (type(area) is float or type(area) is int)
        and area > 0
        and type(annotation.get("iscrowd", 0)) is int
        and annotation.get("iscrowd", 0) in (0, 1)
        and "ignore" not in annotation
        and type(annotation.get("id", 0)) is int
    )


def _as_text(value: Any, also_numbers: bool) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip() if also_numbers else value
    if also_numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"must be text, got {shown(value)}")


def _merged(
    categories: list[dict[str, Any]], file: str
) -> tuple[list[dict[str, Any]], dict[int | str, int | str]]:
    """Return each category once, and which ids stand for which: categories are their names."""
    first: dict[str, dict[str, Any]] = {}
    same: dict[int | str, int | str] = {}
    repeated: Counter[str] = Counter()
    of_id: dict[Any, str] = {}
    for entry in categories:
        name, own = entry["name"], entry["id"]
        if of_id.setdefault(own, name) != name:
            continue  # one id, two names: refused as an id that occurs twice
        if name in first:
            repeated[name] += 1
            same[own] = first[name]["id"]
        else:
            first[name] = entry
    if repeated:
        ids = {name: [e["id"] for e in categories if e["name"] == name] for name in repeated}
        logger.warning(
            "%s: %d categories occur more than once and are one class by their name: %s",
            file,
            len(repeated),
            "; ".join(f"{n!r} has ids {list(dict.fromkeys(i))}" for n, i in [*ids.items()][:10]),
        )
    kept = [
        entry
        for entry in categories
        if entry is first.get(entry["name"]) or of_id[entry["id"]] != entry["name"]
    ]
    return kept, same


def _refuse_repeated(ids: Iterable[Any], section: str, file: str) -> None:
    twice = [i for i, times in Counter(ids).items() if times > 1]
    if twice:
        raise ValueError(
            f"annotation file {file}: {len(twice)} ids of {section!r} occur more than once, "
            f"for example {twice[:EXAMPLES]}. Ids must be unique: number them anew"
        )


def _resolve(
    annotations: list[dict[str, Any]], key: str, known: IdTable, section: str, file: str
) -> None:
    """Replace each reference by the id that it means, in place."""
    wrong, rewritten = [], 0
    ids = {i for i in known.ids if type(i) is int}
    for annotation in annotations:
        if type(annotation[key]) is int and annotation[key] in ids:
            continue
        meant = known.find(annotation[key])
        if meant is None:
            wrong.append(annotation)
        elif type(meant) is not type(annotation[key]):
            rewritten += 1
        annotation[key] = annotation[key] if meant is None else meant
    if wrong:
        first = wrong[0]
        every = sorted(known.ids, key=id_order)
        listed = f"[{', '.join(map(shown, every[:10]))}]{' ...' if len(every) > 10 else ''}"
        raise ValueError(
            f"annotation file {file}: annotation {shown(first.get('id', '(no id)'))} has {key} "
            f"{shown(first[key])}, which is not among the file's {len(every)} {section} {listed}; "
            f"{len(wrong)} annotations in all are so. Add it to {section!r} or remove them"
        )
    if rewritten:
        logger.info(
            "%s: %d annotations write %s in another type than %r: understood as equal",
            file,
            rewritten,
            key,
            section,
        )
