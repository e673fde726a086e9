"""Pascal VOC: XML files with or without lists, in VOCdevkit, flat, or beside the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lucidet.data.datasets.voc_xml import names_of_split, read_voc_xml
from lucidet.data.specification.image_folder import ImageFolder
from lucidet.data.specification.layout import SPLIT_WORDS, WHOLE, Layout
from lucidet.data.specification.reading import (
    Reading,
    Report,
    SpecificationError,
    add_box,
    finished,
    new_record,
)
from lucidet.data.text_files import read_lines
from lucidet.data.xml_files import root_tag

_ANNOTATIONS = ("annotations", "annotation", "xml", "xmls", "labels")
_IMAGES = ("jpegimages", "images", "image", "imgs", "img", "photos", "pictures")
_CLASS_LISTS = ("labels.txt", "classes.txt", "predefined_classes.txt", "labelmap.txt")


def recognize(folder: Path, images: Path | None = None) -> Layout | None:
    """Return the layout of a folder with VOC's XML files; None if it has none.

    Raises:
        SpecificationError: several VOC folders in one (VOC2007 and VOC2012).
    """
    years = [d for d in _folders(folder) if _child(d, _ANNOTATIONS) and (d / "JPEGImages").is_dir()]
    devkit = folder / "VOCdevkit"
    if devkit.is_dir():
        return recognize(devkit, images)
    xml_folder = _child(folder, _ANNOTATIONS)
    if xml_folder is not None and _has_voc(xml_folder):
        return _with_folder(folder, xml_folder, images or _image_folder(folder))
    if years:
        if len(years) > 1:
            parts = ", ".join(f"voc:{year}" for year in years)
            raise SpecificationError(
                f"{folder} holds {len(years)} VOC datasets; name one, or join them: {parts}"
            )
        found = recognize(years[0], images)
        if found is not None:
            return found
    files = sorted(folder.glob("*.xml"))
    if files and root_tag(files[0]) == "annotation":
        splits = {WHOLE: partial(read, folder, images or folder, files)}
        return Layout("voc", folder, "VOC XML beside the images", splits, images)
    parts_of = {
        SPLIT_WORDS[child.name.lower()]: child
        for child in _folders(folder)
        if child.name.lower() in SPLIT_WORDS
    }
    readers = {}
    for split, child in parts_of.items():
        below = recognize(child)
        if below is not None and WHOLE in below.splits:
            readers[split] = below.splits[WHOLE]
    if readers:
        return Layout("voc", folder, "folders with VOC XML, one for each split", readers)
    files = [f for f in sorted(folder.rglob("*.xml")) if root_tag(f) == "annotation"]
    if files:
        splits = {WHOLE: partial(read, folder, images or folder, files)}
        return Layout("voc", folder, "VOC XML in folders below", splits, images)
    return None


def _with_folder(folder: Path, xml_folder: Path, images: Path) -> Layout:
    """Return the layout of ``Annotations`` beside ``JPEGImages``, with lists if there are any."""
    lists = {file.stem: file for place in _list_folders(folder) for file in place.glob("*.txt")}
    if lists:
        readers: dict[str, Callable[[], Reading]] = {
            name: partial(read_list, folder, xml_folder, images, file)
            for name, file in sorted(lists.items())
        }
        main = {SPLIT_WORDS[n]: r for n, r in readers.items() if n in SPLIT_WORDS}
        if "train" not in main and "trainval" in readers:
            main["train"] = readers["trainval"]
        hidden = {n: r for n, r in readers.items() if n not in SPLIT_WORDS}
        if main:
            return Layout("voc", folder, "Pascal VOC with ImageSets", main, None, hidden)
        if len(readers) == 1:
            whole = {WHOLE: next(iter(readers.values()))}
            return Layout("voc", folder, "Pascal VOC with one list", whole, None, hidden)
    below = {
        SPLIT_WORDS[child.name.lower()]: child
        for child in _folders(xml_folder)
        if child.name.lower() in SPLIT_WORDS and _has_voc(child)
    }
    if below:
        splits = {
            s: partial(read, folder, images, sorted(child.glob("*.xml")))
            for s, child in below.items()
        }
        return Layout("voc", folder, "VOC XML in a folder for each split", splits)
    files = sorted(xml_folder.rglob("*.xml"))
    whole = {WHOLE: partial(read, folder, images, files)}
    return Layout("voc", folder, f"VOC XML in {xml_folder.name}/, without lists", whole)


def _folders(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    by_name = {p.name.lower(): p for p in _folders(folder)}
    return next((by_name[name] for name in names if name in by_name), None)


def _image_folder(folder: Path) -> Path:
    return _child(folder, _IMAGES) or folder


def _list_folders(folder: Path) -> list[Path]:
    sets = _child(folder, ("imagesets",))
    if sets is None:
        return []
    main = _child(sets, ("main",))
    return [main] if main is not None else [sets]


def _has_voc(folder: Path) -> bool:
    """Whether the first XML file in or below a folder is one of VOC's."""
    first = next(iter(sorted(folder.glob("*.xml"))), None)
    if first is None:
        first = next((f for d in _folders(folder) for f in sorted(d.glob("*.xml"))), None)
    return first is not None and root_tag(first) == "annotation"


def read_list(folder: Path, xml_folder: Path, images: Path, list_file: Path) -> Reading:
    """Read the images of a list; those without an XML file are counted, not taken as empty."""
    report = Report(str(list_file))
    files = []
    for name in names_of_split(list_file, xml_folder):
        path = xml_folder / f"{name}.xml"
        if ".." not in path.parts and path.is_file():
            files.append(path)
        else:
            report.drop(f"images of {list_file.name} have no XML file and are left out", name)
    return read(folder, images, files, report, count_unlabeled=False)


def read(
    folder: Path,
    images: Path,
    files: Sequence[Path],
    report: Report | None = None,
    count_unlabeled: bool = True,
) -> Reading:
    """Read VOC XML files.

    Args:
        folder: of the dataset; a list of class names in it fixes their order.
        images: folder of the images.
        files: the XML files.
        report: to go on with.
        count_unlabeled: report images that no file belongs to.

    VOC counts pixels from 1 and includes both ends: xmin 1, xmax 30 is the box from 0 to 30.
    """
    report = report or Report(str(folder))
    index = ImageFolder(images)
    records: list[dict[str, Any]] = []
    for path in files:
        record = _read_file(path, index, report)
        if record is not None:
            records.append(record)
    if count_unlabeled:
        used = {record["file_name"] for record in records}
        for file in index.files:
            if str(index.root / file) not in used:
                report.drop("images without an XML file are left out", file)
    return finished(records, _declared_classes(folder), report)


def _read_file(path: Path, images: ImageFolder, report: Report) -> dict[str, Any] | None:
    if root_tag(path) not in ("annotation", ""):
        report.drop("XML files that are not VOC's are left out", path.name)
        return None
    content = read_voc_xml(path)
    image = _find_image(path, content.file_name, images)
    if image is None:
        name = content.file_name or path.stem
        report.drop(images.reason_missing(name), f"{path.name}: {name}")
        return None
    if content.width is None or content.height is None:
        size = images.size(image, report)
        if size is None:
            return None
        report.mend("XML files without an image size got the image's", path.name)
    else:
        size = content.width, content.height
    record = new_record(image, images.label(image), size)
    for number, found in enumerate(content.objects):
        where = f"{path.name}, object {number}"
        if not found.name:
            report.drop("objects without a name are left out", where)
        elif found.difficult:
            add_box(record, found.name, found.corners, report, where, difficult=1)
        else:
            add_box(record, found.name, found.corners, report, where)
        if min(found.corners[:2]) < 0:
            report.mend("boxes begin at pixel 0, though VOC counts from 1", where)
    return record


def _find_image(path: Path, file_name: str, images: ImageFolder) -> Path | None:
    """Return the image of an XML file: of its own name, else of its <filename>."""
    suffix = os.path.splitext(file_name)[1]
    for name in (path.stem + suffix, path.stem, file_name):
        found = images.find(name) if name else None
        if found is not None:
            return found
    return None


def _declared_classes(folder: Path) -> list[str]:
    """Return the class names of a list file in the folder; [] without one.

    CVAT's ``labelmap.txt`` has ``name:color:parts:actions`` lines, and a background first.
    """
    for name in _CLASS_LISTS:
        path = folder / name
        if path.is_file():
            lines = [line for line in read_lines(path) if not line.startswith("#")]
            if name == "labelmap.txt":
                lines = [line.split(":")[0] for line in lines]
                lines = [line for line in lines if line != "background"]
            return list(dict.fromkeys(lines))
    return []
