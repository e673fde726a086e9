"""From a path to a layout: look for each kind, and say what was found when it is not one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lucidet.data.specification import (
    coco_layout,
    csv_layout,
    cvat_layout,
    voc_layout,
    yolo_layout,
)
from lucidet.data.specification.layout import Layout
from lucidet.data.specification.parse import FORMS, Item
from lucidet.data.specification.reading import SpecificationError
from lucidet.data.text_files import is_image
from lucidet.data.xml_files import root_tag

_FOLDERS: dict[str, Callable[[Path, Path | None], Layout | None]] = {
    "yolo": yolo_layout.recognize,
    "coco": coco_layout.recognize,
    "voc": voc_layout.recognize,
    "cvat": cvat_layout.recognize,
    "csv": csv_layout.recognize,
}
_LOOKED_FOR = {
    "yolo": "data.yaml with `names:`, or classes.txt beside images/ and labels/",
    "coco": "*.json with images, annotations and categories, here, in annotations/ or in "
    "train/, valid/ and test/",
    "voc": "*.xml with <annotation> in Annotations/, here, or in train/, valid/ and test/",
    "cvat": "*.xml with <annotations> (CVAT for images 1.1) beside images/",
    "csv": "*.csv with columns for image, class and box, here or in train/, valid/ and test/",
}
_SUFFIXES = {
    ".json": "coco",
    ".yaml": "yolo",
    ".yml": "yolo",
    ".csv": "csv",
    ".tsv": "csv",
    ".xml": "xml",
}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def layout_of(item: Item) -> Layout:
    """Return the layout of a source.

    Raises:
        SpecificationError: it is of no known layout, or of several.
    """
    assert item.path is not None
    if item.path.is_dir():
        return _of_folder(item.path, item.kind, item.images)
    return _of_file(item.path, item.kind, item.images)


def _of_folder(folder: Path, kind: str, images: Path | None) -> Layout:
    kinds = [kind] if kind else list(_FOLDERS)
    found = [layout for k in kinds if (layout := _FOLDERS[k](folder, images)) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        forms = "; ".join(f"{layout.kind}:{folder} ({layout.described})" for layout in found)
        raise SpecificationError(f"{folder} is of more than one layout; name one of: {forms}")
    below = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if len(below) == 1 and below[0] != images:  # as unpacking an archive leaves it
        try:
            return _of_folder(below[0], kind, images)
        except SpecificationError:
            pass  # what is in the named folder says more
    looked = "\n".join(f"  {k}: {_LOOKED_FOR[k]}" for k in kinds)
    raise SpecificationError(
        f"{folder} is not recognized as a dataset. Looked for:\n{looked}\n"
        f"Found: {contents(folder)}\nA specification is {FORMS}"
    )


def _of_file(path: Path, kind: str, images: Path | None) -> Layout:
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        raise SpecificationError(f"{path} is an archive; unpack it and name the folder")
    kind = kind or _SUFFIXES.get(suffix, "")
    if kind == "coco":
        return coco_layout.from_file(path, images)
    if kind == "yolo":
        return yolo_layout.from_file(path)
    if kind == "csv":
        return csv_layout.from_file(path, images)
    if suffix == ".xml" and root_tag(path) == "annotation":
        raise SpecificationError(
            f"{path} is one image's VOC file; name the folder instead: voc:{path.parent}"
        )
    if kind in ("cvat", "xml"):
        return cvat_layout.from_file(path, images)
    raise SpecificationError(
        f"{path} is not recognized as a dataset: expected .json (COCO), .yaml (YOLO), .xml (CVAT) "
        f"or .csv. A specification is {FORMS}"
    )


def contents(folder: Path, limit: int = 12) -> str:
    """Return what a folder holds, in words: sub-folders, and files counted by suffix."""
    names = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    folders = [f"{p.name}/" for p in names if p.is_dir()]
    counts = Counter("images" if is_image(p) else f"*{p.suffix}" for p in names if p.is_file())
    files = [f"{n} {suffix if suffix != '*' else 'files'}" for suffix, n in counts.most_common()]
    shown = [*folders[:limit], *(["..."] if folders[limit:] else []), *files[:limit]]
    return ", ".join(shown) or "nothing: the folder is empty"
