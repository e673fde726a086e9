"""Pascal VOC folders as labelImg, CVAT, Roboflow and others write them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from lucidet.data import DatasetMapper
from lucidet.data.datasets import load_voc_instances

BOX = (5, 5, 30, 30)


@pytest.fixture
def voc(tmp_path):
    """Write a folder with one image of 60 x 40 and one object; return its root."""

    def write(
        stem="a", suffix=".jpg", line=None, box=BOX, size="<width>60</width><height>40</height>",
        filename=None, head="", encoding="utf-8", difficult="0",
    ):  # fmt: skip
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(
            tmp_path / "JPEGImages" / f"{stem}{suffix}", format="PNG"
        )
        corners = "".join(
            f"<{side}>{v}</{side}>"
            for side, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        text = (
            f"{head}<annotation><filename>{filename or stem + suffix}</filename><size>{size}</size>"
            f"<object><name> cat </name><difficult>{difficult}</difficult><bndbox>{corners}"
            "</bndbox></object></annotation>"
        )
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(text, encoding=encoding)
        listed = tmp_path / "ImageSets" / "Main" / "train.txt"
        listed.write_text(f"{line or stem}\n", encoding=encoding)
        return tmp_path

    return write


def boxes(root):
    (record,) = load_voc_instances(root, "train", ["cat"])
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    return mapper(record)["instances"].gt_boxes.tensor.tolist()


@pytest.mark.parametrize(
    "values",
    [
        {"suffix": ".png"},
        {"suffix": ".JPEG"},
        {"suffix": ".Png"},
        {"suffix": ".webp"},
        {"suffix": ".tif", "filename": "C:\\photos\\a.tif"},
        {"stem": "photo 1.2 (3)"},
        {"stem": "photo 1"},
        {"stem": "photo.v2", "suffix": ".png"},
        {"stem": "photo.v2", "line": "photo.v2.JPG"},
        {"line": "a  1"},
        {"line": "a -1"},
        {"line": "JPEGImages/a.png"},
        {"line": "a.xml"},
        {"stem": "Fotografía 猫"},
        {"size": "<width>0</width><height>0</height>"},
        {"size": "<width></width><height>-1</height>"},
        {"size": ""},
        {"size": "<width>60.0</width><height>40</height>"},
        {"head": "\ufeff"},
        {"encoding": "utf-16"},
        {"encoding": "utf-8-sig"},
        {"head": '<?xml version="1.0" encoding="UTF-8"?>\n', "encoding": "utf-16"},
        {"difficult": ""},
        {"difficult": "true"},
    ],
    ids=str,
)
def test_the_same_box_however_it_is_written(voc, values):
    assert boxes(voc(**values)) == [[4, 4, 30, 30]]


def test_an_image_that_only_filename_names(voc):
    root = voc()
    (root / "JPEGImages" / "a.jpg").rename(root / "JPEGImages" / "IMG_17.png")
    text = (root / "Annotations" / "a.xml").read_text()
    (root / "Annotations" / "a.xml").write_text(text.replace("a.jpg", "IMG_17.png"))
    assert boxes(root) == [[4, 4, 30, 30]]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((30, 30, 5, 5), "without area (corners swapped"),
        ((30, 5, 5, 30), "without area (corners swapped"),
        ((70, 5, 90, 30), "outside the image"),
        ((5, 41, 30, 50), "outside the image"),
        (("nan", 5, 30, 30), "not finite numbers"),
    ],
)
def test_boxes_that_cannot_be_used_are_counted(voc, caplog, box, reason):
    with caplog.at_level(logging.WARNING):
        assert boxes(voc(box=box)) == []
    assert f"1 boxes {reason}" in caplog.text
    assert "annotation 0 (cat) of image a: xmin" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"box": ("", 5, 30, 30)}, "<bndbox/xmin> must be a number, got"),
        ({"difficult": "rather"}, "object 'cat': <difficult> must be 0 or 1, got 'rather'"),
        ({"size": "<width>60.5</width>"}, "<size/width> must be a whole number of pixels"),
        ({"head": '<!DOCTYPE a [<!ENTITY x SYSTEM "y">]>'}, "defines XML entities"),
    ],
)
def test_fields_without_meaning_are_named(voc, values, message):
    with pytest.raises(ValueError, match=rf"a\.xml.*{message}"):
        boxes(voc(**values))
