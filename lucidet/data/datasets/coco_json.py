"""Read and check a COCO annotation file. Plain ``json``: no other library takes part."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from lucidet.data.box_report import EXAMPLES, BoxReport
from lucidet.data.datasets.coco_fields import clean_fields
from lucidet.data.image_io import image_size
from lucidet.data.text_files import find_inside, read_text

__all__ = [
    "EXAMPLES",
    "BoxReport",
    "check_coco",
    "drop_unusable",
    "fill_sizes",
    "image_path",
    "read_coco",
    "read_json",
]

logger = logging.getLogger(__name__)

SECTIONS = ("images", "annotations", "categories")


def read_json(json_file: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file: UTF-8 or UTF-16, with or without byte-order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON; names file, line and byte.
    """
    path = Path(json_file)
    try:
        text = read_text(path, "JSON")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"annotation file {path} does not exist; for the built-in datasets set "
            "LUCIDET_DATASETS to the folder that holds coco/; for your own name their folder with "
            "--data, or check json_file where you registered them"
        ) from None
    except IsADirectoryError:
        raise ValueError(f"annotation file {path} is a folder") from None
    except ValueError as error:
        raise ValueError(f"annotation file {error}") from error
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
    except RecursionError as error:
        raise ValueError(
            f"annotation file {path}: lists or objects are nested too deeply; COCO's have 5 levels"
        ) from error
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError(f"annotation file {path}: a number that can't be read ({error})") from None


def read_coco(json_file: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a COCO annotation file's content after checking that it fits together.

    Absent ``annotations`` (as in test sets) become an empty list; ``info`` and ``licenses`` are
    not needed. Fields are as :func:`clean_fields` leaves them: ids agree, numbers are numbers,
    ``iscrowd`` is 0 or 1, a size or an area that cannot be is absent. Boxes are not judged.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, not COCO's layout, an id twice, an id that nothing answers to, or a
            field without meaning.
    """
    return check_coco(read_json(json_file), str(json_file))


def check_coco(content: Any, json_file: str) -> dict[str, Any]:
    """Return the content of a COCO annotation file in one form; see :func:`read_coco`."""
    if not isinstance(content, dict) or "images" not in content or "categories" not in content:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"annotation file {json_file} is not in COCO's layout: expected an object with "
            f"{', '.join(SECTIONS)}, found {found}"
        )
    if content.get("annotations") is None:
        content["annotations"] = []
    for section in SECTIONS:
        if not isinstance(content[section], list):
            raise ValueError(f"annotation file {json_file}: {section!r} must be a list")
    return clean_fields(content, json_file)


def image_path(entry: dict[str, Any], image_root: str | os.PathLike[str], file: str) -> str:
    """Return the path of an image that a COCO file names.

    Raises:
        ValueError: it is outside of `image_root`; see `lucidet.data.text_files.find_inside`.
    """
    try:
        return find_inside(image_root, entry["file_name"])
    except ValueError as error:
        raise ValueError(
            f"annotation file {file}: image {entry['id']}: file_name {error}"
        ) from None


def fill_sizes(
    content: dict[str, Any], image_root: str | os.PathLike[str], file: str
) -> dict[str, Any]:
    """Add the sizes that a file's images lack, read from the image files; in place.

    An image that cannot be read stays without: reading it for training or evaluation names it.
    """
    lacking = [entry for entry in content["images"] if not {"width", "height"} <= entry.keys()]
    for entry in lacking:
        size = image_size(image_path(entry, image_root, file))
        if size is not None:
            entry["width"], entry["height"] = size
    if lacking:
        logger.info(
            "%s: %d images have no size that can be; it is read from the image files, for example "
            "of image %s",
            file,
            len(lacking),
            lacking[0]["id"],
        )
    return content


def drop_unusable(content: dict[str, Any], report: BoxReport) -> dict[str, Any]:
    """Return the content without the annotations whose box cannot be used.

    Args:
        content: of :func:`read_coco`, with sizes where they are known.
        report: notes what is left out; the caller logs it.
    """
    images = {entry["id"]: {"image_id": entry["id"], **entry} for entry in content["images"]}
    kept = [
        annotation
        for annotation in content["annotations"]
        if report.usable(
            annotation["bbox"], images[annotation["image_id"]], annotation.get("id", "(no id)")
        )
    ]
    return {**content, "annotations": kept}
