"""Annotation files that are broken or made to hurt: file, id, what was expected; no crash."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lucidet.data.datasets.coco import load_coco_json
from lucidet.data.datasets.pascal_voc import load_voc_instances

CONTENT: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
    "categories": [{"id": 1, "name": "cat"}],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in (folder / "a.png", tmp_path / "secret.png"):
        Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(path)
    return folder


def _load(root: Path, content: Any) -> list[dict[str, Any]]:
    path = root.parent / "ann.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_coco_json(path, root)


def _changed(section: str, **fields: Any) -> dict[str, Any]:
    content = copy.deepcopy(CONTENT)
    content[section][0].update(fields)
    return content


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# ------------------------------------------------------------------------------------- file names


def test_names_that_leave_the_image_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = ["../secret.png", str(root.parent / "secret.png"), "x/../../secret.png"]
    outside += [f"file://{root.parent / 'secret.png'}", "..\\secret.png", "%2e%2e/secret.png", ".."]
    for name in outside:
        with pytest.raises(ValueError, match=r"ann\.json: image 1: file_name .*--allow-outside"):
            _load(root, _changed("images", file_name=name))
    (root / "x").mkdir()
    for name in ("a.png", "./a.png", "x/../a.png", str(root / "a.png")):
        assert Path(_load(root, _changed("images", file_name=name))[0]["file_name"]).samefile(
            root / "a.png"
        )
    monkeypatch.setenv("LUCIDET_ALLOW_OUTSIDE", "1")
    assert len(_load(root, _changed("images", file_name="../secret.png"))) == 1


def test_names_that_leave_the_folder_of_a_voc_dataset(tmp_path: Path) -> None:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    (tmp_path / "a.xml").write_text("<annotation/>")
    (tmp_path / "voc/ImageSets/Main/train.txt").write_text("../../a\n")
    with pytest.raises(ValueError, match=r"'../../a', which is outside of Annotations: refused"):
        load_voc_instances(tmp_path / "voc", "train", ["cat"])


# ------------------------------------------------------------------------------------------- COCO

ODD = (None, True, "x", "", 1.5, [], [1], {}, {"a": 1}, 10**400, -1, _deep(900), float("nan"),
       float("inf"), 1e300, "9" * 5000, "\ud800", "\0", "a" * 100_000)  # fmt: skip
FIELDS = [
    ("images", key) for key in ("id", "file_name", "width", "height")
] + [
    ("annotations", key) for key in ("id", "image_id", "category_id", "bbox", "iscrowd", "area")
] + [("categories", "id"), ("categories", "name")]  # fmt: skip


def _outcome(function: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    """Return what a reader returns, or the message with which it refuses; others are failures."""
    try:
        return function(*args), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_a_field_of_any_type(section: str, key: str, root: Path) -> None:
    """It is understood, or refused with the file's name in a message of a few lines."""
    for value in ODD:
        records, message = _outcome(_load, root, _changed(section, **{key: value}))
        assert len(records or ()) == 1 or "ann.json" in message
        assert len(message) < 2000


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_a_section_of_any_type(section: str, root: Path) -> None:
    for value in [*ODD, [[]], [[[]]], [None], [[1]], ["x"]]:
        records, message = _outcome(_load, root, {**CONTENT, section: value})
        assert records is not None or "ann.json" in message


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"images": ' * 100_000, "nested too deeply"),
        ('{"images": [' + "9" * 5000 + "]}", "a number that can't be read"),
        ("", "line 1"),
        ("\0" * 100, "holds zero bytes and no text"),
        ("[]", "not in COCO's layout"),
        ("null", "not in COCO's layout"),
    ],
)
def test_text_that_no_reader_survives(text: str, match: str, root: Path) -> None:
    with pytest.raises(ValueError, match=rf"ann\.json.*{match}"):
        _load(root, text)


def test_ids_of_mixed_types(root: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"] += [{"id": "b", "file_name": "a.png"}, {"id": 3, "file_name": "a.png"}]
    content["categories"] += [{"id": "x", "name": "dog"}, {"id": 0, "name": "cow"}]
    content["annotations"] += [{"image_id": "b", "category_id": "x", "bbox": [1, 1, 5, 5]}]
    assert [record["image_id"] for record in _load(root, content)] == [1, 3, "b"]


def test_pipes_and_folders_are_no_annotation_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path, match in ((tmp_path / "pipe.json", "is a pipe"), (tmp_path, "is a folder")):
        with pytest.raises(ValueError, match=match):
            load_coco_json(path, tmp_path)


# -------------------------------------------------------------------------------------------- VOC


def _load_voc(folder: Path, xml: str | bytes) -> list[dict[str, Any]]:
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    data = xml if isinstance(xml, bytes) else xml.encode("utf-8", "surrogatepass")
    (folder / "Annotations/a.xml").write_bytes(data)
    return load_voc_instances(folder, "train", ["cat"])


def _xml(width: str = "20", corner: str = "1", head: str = "", name: str = "cat") -> str:
    box = f"<xmin>{corner}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    return (
        f"{head}<annotation><size><width>{width}</width><height>10</height></size>"
        f"<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"
    )


NUMBERS = ("inf", "-inf", "nan", "1e400", "-5", "", " ", "x", "9" * 5000, "1e300", "0x1", "٣")


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_of_voc(text: str, tmp_path: Path) -> None:
    for xml in (_xml(width=text), _xml(corner=text)):
        records, message = _outcome(_load_voc, tmp_path, xml)
        assert records is not None or "a.xml" in message
        boxes = [a["bbox"] for record in records or () for a in record["annotations"]]
        assert np.isfinite(boxes).all()


@pytest.mark.parametrize(
    "encoding", ["zlib", "idna", "punycode", "rot13", "no-such", "unicode_escape", "latin1"]
)
def test_encodings_of_voc(encoding: str, tmp_path: Path) -> None:
    xml = _xml(head=f'<?xml version="1.0" encoding="{encoding}"?>')
    records, message = _outcome(_load_voc, tmp_path, xml)
    assert (records is not None) == (encoding == "latin1")
    assert records or ("a.xml" in message and "UTF-8" in message)


BROKEN = {
    "empty": "",
    "bracket": "<",
    "deep": "<a>" * 50_000,
    "open": "<annotation>",
    "utf16": b"\xff\xfe<",
    "zeros": b"\0" * 70,
    "entity": "<annotation>&x;</annotation>",
    "entities": "<!DOCTYPE a [<!ENTITY x 'y'>]><annotation>&x;</annotation>",
    "surrogate": _xml(name="\ud800"),
    "no box": "<annotation><object/></annotation>",
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_xml(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.xml"):
        _load_voc(tmp_path, BROKEN[name])
