"""One image's XML file in Pascal VOC's form, as labelImg, CVAT, Roboflow and others write it."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from lucidet.data.box_report import BoxReport
from lucidet.data.fields import as_flag, as_number, as_size
from lucidet.data.image_io import image_size
from lucidet.data.text_files import IMAGE_SUFFIXES, name_forms, read_lines
from lucidet.data.xml_files import read_xml

__all__ = [
    "VocImage",
    "VocObject",
    "find_voc_image",
    "image_stem",
    "names_of_split",
    "read_voc_xml",
    "size_of",
    "usable_objects",
]

#: in the lists of single classes: absent, difficult, present
_CLASS_MARKS = ("-1", "0", "1")


@dataclass(frozen=True)
class VocObject:
    """One object: `corners` are x1, y1, x2, y2 in continuous pixels, `written` as in the file."""

    name: str
    corners: tuple[float, float, float, float]
    written: str
    difficult: bool


@dataclass(frozen=True)
class VocImage:
    """What an XML file says: ``<filename>``, the size where it is one that can be, the objects."""

    file_name: str
    width: int | None
    height: int | None
    objects: list[VocObject]


def read_voc_xml(path: Path) -> VocImage:
    """Return an XML file's content.

    VOC counts pixels from 1 and includes both ends, so a box (xmin, ymin, xmax, ymax) covers the
    continuous (xmin - 1, ymin - 1, xmax, ymax). Boxes are not judged: see :func:`usable_objects`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: broken XML, or a field without meaning; names file and field.
    """
    root = read_xml(path)
    sizes = {}
    for key in ("width", "height"):
        try:
            sizes[key] = as_size(root.findtext(f"size/{key}"))
        except ValueError as error:
            raise ValueError(f"annotation file {path}: <size/{key}> {error}") from None
    name = (root.findtext("filename") or "").strip()
    objects = [_read_object(node, path) for node in root.iter("object")]
    return VocImage(name, sizes["width"], sizes["height"], objects)


def _read_object(node: ElementTree.Element, path: Path) -> VocObject:
    name = (node.findtext("name") or "").strip()
    sides = ("xmin", "ymin", "xmax", "ymax")
    texts = [node.findtext(f"bndbox/{side}") for side in sides]
    if None in texts:
        raise ValueError(
            f"annotation file {path}: object {name!r} lacks a corner in its bndbox, got {texts}"
        )
    numbers = []
    for side, text in zip(sides, texts, strict=True):
        number = as_number(text)
        if number is None:
            raise ValueError(
                f"annotation file {path}: <bndbox/{side}> must be a number, got {text!r}"
            )
        numbers.append(float(number))
    try:
        difficult = bool(as_flag(node.findtext("difficult")))
    except ValueError as error:
        raise ValueError(f"annotation file {path}: object {name!r}: <difficult> {error}") from None
    x1, y1, x2, y2 = numbers
    written = ", ".join(f"{side} {n:g}" for side, n in zip(sides, numbers, strict=True))
    # corners in the wrong order have no pixels, whichever end is included
    corners = (x1 - 1.0 if x2 >= x1 else x1, y1 - 1.0 if y2 >= y1 else y1, x2, y2)
    return VocObject(name, corners, written, difficult)


def usable_objects(
    image: VocImage, size: tuple[int, int] | None, image_id: str, report: BoxReport
) -> list[VocObject]:
    """Return the objects whose box has an area inside the image; notes the others.

    Args:
        image: of :func:`read_voc_xml`.
        size: (width, height) of the image, where it is known.
        image_id: for the report.
        report: its form is ``"VOC"``.
    """
    record: dict[str, object] = {"image_id": image_id}
    if size is not None:
        record.update(width=size[0], height=size[1])
    return [
        found
        for number, found in enumerate(image.objects)
        if report.usable_corners(found.corners, record, f"{number} ({found.name})", found.written)
    ]


def size_of(image: VocImage, image_file: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return (width, height): of the XML file, else of the image file, else None."""
    if image.width is not None and image.height is not None:
        return image.width, image.height
    return image_size(image_file)


def names_of_split(list_file: Path, annotations: Path) -> list[str]:
    """Return the images' names in ``ImageSets/Main/<split>.txt``, without suffix.

    A line may be a name with blanks or dots, a name with an image's suffix, or, in the lists of
    single classes, a name and a number: what has an XML file in `annotations` is meant.
    """
    return [_stem(line, annotations) for line in read_lines(list_file)]


def _stem(line: str, annotations: Path) -> str:
    marked = line.rsplit(None, 1)
    lines = [line, marked[0]] if len(marked) == 2 and marked[1] in _CLASS_MARKS else [line]
    forms = [form for entry in lines for form in _forms(entry)]
    for form in forms:
        if (annotations / f"{form}.xml").is_file():
            return form
    return forms[-1]


def _forms(line: str) -> list[str]:
    whole = [line, image_stem(line)]
    # `JPEGImages/a.jpg`, written relative to the dataset
    return list(
        dict.fromkeys([*whole, *(form.replace("\\", "/").split("/")[-1] for form in whole)])
    )


def image_stem(name: str) -> str:
    """Return a name without the suffix of an image; other dots belong to it.

    >>> image_stem("photo.v2.JPG"), image_stem("photo.v2")
    ('photo.v2', 'photo.v2')
    """
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else name


def find_voc_image(folder: Path, stem: str, file_name: str) -> Path:
    """Return the image file of an XML file: named as it, with any suffix, else its ``<filename>``.

    Where there is none, ``<stem>.jpg``: reading it fails, and names it.
    """
    usual = folder / f"{stem}.jpg"
    if usual.is_file():
        return usual
    named = [folder / Path(form).name for form in name_forms(file_name)] if file_name else []
    # <filename> first: `a.png` beside `a.tif`
    for path in named:
        if path.stem == stem and path.is_file():
            return path
    for suffix in IMAGE_SUFFIXES:
        for path in (folder / f"{stem}{suffix}", folder / f"{stem}{suffix.upper()}"):
            if path.is_file():
                return path
    return next((path for path in named if path.is_file()), usual)
