"""A CSV of boxes, one a line, under the column names in use; also without a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lucidet.data.specification.image_folder import ImageFolder
from lucidet.data.specification.layout import SPLIT_WORDS, WHOLE, Layout, split_word
from lucidet.data.specification.reading import (
    Reading,
    Report,
    SpecificationError,
    add_box,
    finished,
    new_record,
)
from lucidet.data.text_files import is_image, read_text

# a column's meaning -> its names, compared in lower case without blanks, dots and underscores
_NAMES: dict[str, tuple[str, ...]] = {
    "image": ("filename", "imagepath", "filepath", "imagename", "imagefile", "imgpath", "imageid",
              "file", "image", "img", "path", "name", "id"),
    "label": ("class", "classname", "label", "labelname", "category", "categoryname", "name",
              "object", "classid", "categoryid", "species"),
    "x1": ("xmin", "x1", "left", "xtl", "bboxxmin", "bboxx1", "minx"),
    "y1": ("ymin", "y1", "top", "ytl", "bboxymin", "bboxy1", "miny"),
    "x2": ("xmax", "x2", "right", "xbr", "bboxxmax", "bboxx2", "maxx"),
    "y2": ("ymax", "y2", "bottom", "ybr", "bboxymax", "bboxy2", "maxy"),
    "x": ("x", "bboxx", "xleft", "boxx"),
    "y": ("y", "bboxy", "ytop", "boxy"),
    "w": ("w", "bboxwidth", "bboxw", "boxwidth", "width"),
    "h": ("h", "bboxheight", "bboxh", "boxheight", "height"),
    "bbox": ("bbox", "box", "boundingbox"),
    "width": ("imagewidth", "imgwidth", "width"),
    "height": ("imageheight", "imgheight", "height"),
    "split": ("split", "subset", "set", "imageset"),
    "crowd": ("isgroupof", "iscrowd"),
}  # fmt: skip
_CLASS_FILES = ("classes.csv", "class_mapping.csv", "labels.csv")
NO_CLASS = "object"
_WITHOUT_HEADER = {"image": 0, "x1": 1, "y1": 2, "x2": 3, "y2": 4, "label": 5}  # keras-retinanet
_IMAGES = ("images", "Images", "imgs", "img", "JPEGImages", "photos")


@dataclass
class _Table:
    """The rows of a file and the column of each meaning."""

    path: Path
    columns: Mapping[str, int]
    rows: list[tuple[int, list[str]]]
    described: str


def looks_like_boxes(path: Path) -> bool:
    """Whether the first line of a CSV file names, or is, a box in an image."""
    try:
        return bool(_table(path, first_only=True).columns)
    except ValueError:
        return False


def recognize(folder: Path, images: Path | None = None) -> Layout | None:
    """Return the layout of a folder with CSV files of boxes; None if it has none.

    Raises:
        SpecificationError: several files, and nothing says which is for what.
    """
    parts_of = {
        SPLIT_WORDS[d.name.lower()]: d
        for d in sorted(folder.iterdir())
        if d.is_dir() and d.name.lower() in SPLIT_WORDS
    }
    below = {split: own[0] for split, d in parts_of.items() if len(own := _candidates(d)) == 1}
    if below:
        splits = {s: partial(read, f, f.parent) for s, f in below.items()}
        return Layout("csv", folder, "folders with a CSV of boxes", splits)
    files = _candidates(folder)
    for name in ("annotations", "labels", "csv"):
        if not files and (folder / name).is_dir():
            files = _candidates(folder / name)
    if not files:
        return None
    if len(files) == 1:
        layout = from_file(files[0], images or image_root(files[0], folder))
        layout.path, layout.images = folder, images
        return layout
    by_split = {split_word(f.stem) or f.stem: f for f in files}
    if len(by_split) < len(files) or not set(by_split) <= set(SPLIT_WORDS.values()):
        names = ", ".join(f.name for f in files[:8])
        raise SpecificationError(
            f"{folder}: {len(files)} CSV files of boxes ({names}), and their names do not say "
            f"which is for training and which for validation. Name one: csv:{files[0]}@IMAGES"
        )
    splits = {s: partial(read, f, images or image_root(f, folder)) for s, f in by_split.items()}
    return Layout("csv", folder, "CSV of boxes, one file for each split", splits, images)


def _candidates(folder: Path) -> list[Path]:
    files = [f for f in sorted(folder.glob("*.csv")) if f.name.lower() not in _CLASS_FILES]
    return [f for f in files if looks_like_boxes(f)]


def from_file(path: Path, images: Path | None = None) -> Layout:
    """Return the layout of one CSV file; a column ``split`` divides it.

    Raises:
        SpecificationError: the columns are not understood; names them.
    """
    table = _table(path)
    root = images or image_root(path)
    splits: dict[str, Callable[[], Reading]] = {}
    column = table.columns.get("split")
    if column is not None:
        values = {row[column].strip().lower() for _, row in table.rows if len(row) > column}
        if values and values <= set(SPLIT_WORDS):
            splits = {SPLIT_WORDS[v]: partial(read, path, root, v) for v in sorted(values)}
    splits = splits or {WHOLE: partial(read, path, root, whole=True)}
    return Layout("csv", path, table.described, splits, images)


def image_root(path: Path, top: Path | None = None) -> Path:
    """Return the folder of a CSV file's images: beside it if they are there, else ``images/``."""
    bases = [path.parent] if top in (None, path.parent) else [path.parent, path.parent.parent]
    table = _table(path)
    column = table.columns["image"]
    names = [row[column] for _, row in table.rows[:50] if len(row) > column]
    for base in bases:
        if any((base / name.replace("\\", "/")).is_file() for name in names if name.strip()):
            return base
    for base in bases:
        for name in (*_IMAGES, *([split_word(path.stem) or ""])):
            if name and (base / name).is_dir():
                return base / name
    return bases[-1]


def _table(path: Path, first_only: bool = False) -> _Table:
    """Return the rows of a CSV file, with the meaning of its columns."""
    text = read_text(path)
    if first_only:
        text = "\n".join(text.splitlines()[:2])
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    rows = [
        (number, row)
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter), 1)
        if any(cell.strip() for cell in row)
    ]
    if not rows:
        raise SpecificationError(f"{path} is empty")
    header = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in rows[0][1]]
    columns = _columns(header)
    if columns:
        return _Table(path, columns, rows[1:], f"CSV with columns {', '.join(rows[0][1])}")
    if _is_headerless(rows[0][1]):
        described = "CSV without header: path, x1, y1, x2, y2, class (keras-retinanet)"
        return _Table(path, _WITHOUT_HEADER, rows, described)
    raise SpecificationError(
        f"{path}: columns {rows[0][1]} are not understood; expected one for the image (filename, "
        "image, path ...), one for the class (class, label ...), and xmin, ymin, xmax, ymax or x, "
        "y, width, height; or, without a header: path,x1,y1,x2,y2,class"
    )


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Return the column of each meaning; {} if an image or a box is missing.

    >>> _columns(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])["label"]
    3
    >>> _columns(["image", "label", "x", "y", "width", "height"])["w"]
    4
    """
    for box in (("x1", "y1", "x2", "y2"), ("bbox",), ("x", "y", "w", "h")):
        found = _matched(header, box, {})
        if len(found) == len(box):
            break
    else:
        return {}
    found = _matched(header, ("image", "label", "width", "height", "split", "crowd"), found)
    return found if "image" in found else {}


def _matched(
    header: Sequence[str], meanings: Sequence[str], found: dict[str, int]
) -> dict[str, int]:
    """Return `found` and the columns of further meanings; no column has two meanings."""
    found = dict(found)
    for meaning in meanings:
        free = {t: p for p, t in reversed(list(enumerate(header))) if p not in found.values()}
        position = next((free[name] for name in _NAMES[meaning] if name in free), None)
        if position is not None:
            found[meaning] = position
    return found


def _is_headerless(row: Sequence[str]) -> bool:
    if len(row) < 6 or not is_image(row[0].strip()):
        return False
    numbers = [cell.strip() for cell in row[1:5]]
    return all(re.fullmatch(r"-?\d+(\.\d+)?", n) for n in numbers) or not any(numbers)


def read(path: Path, root: Path, split: str | None = None, whole: bool = False) -> Reading:
    """Read a CSV of boxes.

    Args:
        path: the file.
        root: folder of its images.
        split: only rows whose ``split`` is this.
        whole: the file is all there is: images that it does not name are counted.

    A row whose box is blank names an image without objects. Boxes in 0..1 are shares of the image.
    Images that no row names are left out: they may not have been annotated.
    """
    table = _table(path)
    report = Report(str(path))
    images = ImageFolder(root)
    records: dict[Path, dict[str, Any]] = {}
    shares = _are_shares(table)
    if shares:
        report.note("all numbers lie in 0..1: they are read as shares of the image's size")
    missing: dict[str, Path | None] = {}
    for number, row in table.rows:
        cells = {key: row[c].strip() for key, c in table.columns.items() if c < len(row)}
        if split is not None and cells.get("split", "").lower() != split:
            continue
        name, where = cells.get("image", ""), f"{path.name}, line {number}"
        if name not in missing:
            missing[name] = images.find(name) if name else None
        file = missing[name]
        if file is None:
            report.drop(images.reason_missing(name), f"{where}: {name or '(no name)'}")
            continue
        if file not in records:
            size = images.size(file, report)
            if size is None:
                missing[name] = None
                continue
            records[file] = new_record(file, images.label(file), size)
        _read_box(cells, records[file], shares, report, where)
    for relative in images.files if whole else ():
        if images.root / relative not in records:
            report.drop(f"images are not in {path.name} and are left out", relative)
    if "label" not in table.columns:
        report.note(f"there is no column for the class: every box is {NO_CLASS!r}")
    return finished(list(records.values()), _declared_classes(path), report)


def _read_box(
    cells: Mapping[str, str], record: dict[str, Any], shares: bool, report: Report, where: str
) -> None:
    texts = _corner_texts(cells)
    if not any(texts):
        return  # an image without objects
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except ValueError:
        report.drop("rows without four numbers are left out", f"{where}: {texts}")
        return
    if "x1" not in cells:
        x2, y2 = x1 + x2, y1 + y2
    if shares:
        width, height = record["width"], record["height"]
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    label = cells.get("label", NO_CLASS)
    if not label:
        report.drop("rows without a class are left out", where)
        return
    crowd = int(cells.get("crowd", "0").lower() in ("1", "1.0", "true"))
    add_box(record, label, (x1, y1, x2, y2), report, where, iscrowd=crowd)


def _corner_texts(cells: Mapping[str, str]) -> list[str]:
    """Return the four numbers of a row as text: x1, y1, x2, y2, or x, y, width, height."""
    if "x1" in cells:
        return [cells.get(key, "") for key in ("x1", "y1", "x2", "y2")]
    if "x" in cells:
        return [cells.get(key, "") for key in ("x", "y", "w", "h")]
    text = cells.get("bbox", "").strip("[]() ")
    return re.split(r"[\s,;]+", text) if text else []


def _are_shares(table: _Table) -> bool:
    """Whether no number of any box is above 1: shares of the image, as in Open Images."""
    largest = 0.0
    for _, row in table.rows:
        cells = {key: row[c].strip() for key, c in table.columns.items() if c < len(row)}
        for text in _corner_texts(cells):
            try:
                largest = max(largest, float(text))
            except ValueError:
                continue
    return 0 < largest <= 1


def _declared_classes(path: Path) -> list[str]:
    """Return the names of keras-retinanet's ``classes.csv`` (name,number) beside a file."""
    for name in _CLASS_FILES:
        file = path.parent / name
        if file.is_file() and file != path:
            rows = [row for row in csv.reader(read_text(file).splitlines()) if len(row) >= 2]
            try:
                numbered = {int(number): label.strip() for label, number, *_ in rows}
            except ValueError:
                continue
            return [numbered[k] for k in sorted(numbered)]
    return []
