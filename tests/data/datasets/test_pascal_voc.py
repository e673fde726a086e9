from __future__ import annotations

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from lucidet.data.datasets import load_voc_instances, register_pascal_voc
from lucidet.structures import BoxMode
from tests.data.conftest import save_image

XML = """<annotation><size><width>{width}</width><height>20</height></size>
<object><name>{name}</name><difficult>1</difficult><bndbox><ymin>3</ymin><xmin>1</xmin>
<xmax>{xmax}</xmax><ymax>10</ymax></bndbox></object></annotation>"""


@pytest.fixture
def voc(tmp_path):
    """A folder with one image of one object, made by a function of the XML's values."""

    def write(text: str | None = None, **values):
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        values = {"width": 30, "name": "cat", "xmax": 30, **values}
        (tmp_path / "Annotations" / "one.xml").write_text(text or XML.format(**values))
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("one  1\n\n")
        save_image(tmp_path / "JPEGImages" / "one.jpg", 20, 30)
        return tmp_path

    return write


def test_pixels_count_from_one(voc):
    (record,) = load_voc_instances(voc(), "train", ["dog", "cat"])
    assert record == {
        "file_name": str(voc() / "JPEGImages" / "one.jpg"),
        "image_id": "one",
        "height": 20,
        "width": 30,
        "annotations": [
            # pixels 1..30 and 3..10, both ends included
            {"category_id": 1, "bbox": [0, 2, 30, 10], "bbox_mode": BoxMode.XYXY_ABS}
        ],
    }


def test_no_objects(voc):
    text = "<annotation><size><width>30</width><height>20</height></size></annotation>"
    (record,) = load_voc_instances(voc(text), "train", ["cat"])
    assert record["annotations"] == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "cow"}, r"one.xml: unknown class 'cow'; class_names are \['cat'\]"),
        ({"xmax": "x"}, "one.xml: <bndbox/xmax> must be a number, got 'x'"),
        ({"width": "wide"}, "one.xml: <size/width> must be a whole number of pixels, got 'wide'"),
        ({"text": "<annotation>"}, "one.xml is not valid XML"),
    ],
)
def test_broken_files_are_named(voc, values, message):
    with pytest.raises(ValueError, match=message):
        load_voc_instances(voc(**values), "train", ["cat"])


def test_missing_files_are_named(voc):
    root = voc()
    with pytest.raises(
        FileNotFoundError, match=r"val.txt does not exist; splits there: \['train'\]"
    ):
        load_voc_instances(root, "val", ["cat"])
    (root / "Annotations" / "one.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"one.xml of image one does not exist"):
        load_voc_instances(root, "train", ["cat"])


def test_register(voc, name):
    register_pascal_voc(name, str(voc()), "train", 2007, ["cat"])
    meta = MetadataCatalog.get(name)
    assert (meta.year, meta.split, meta.thing_classes) == (2007, "train", ["cat"])
    assert meta.get("evaluator_type") is None  # detectron2 leaves it to the caller
    meta.evaluator_type = "my_own"
    assert len(DatasetCatalog.get(name)) == 1


def test_real_blood_cells(datasets_dir, name):
    classes = ["RBC", "WBC", "Platelets"]
    register_pascal_voc(name, datasets_dir / "bccd", "trainval", 2012, classes)
    records = get_detection_dataset_dicts(name)
    assert len(records) == 292
    boxes = [(r, a["bbox"]) for r in records for a in r["annotations"]]
    assert all(0 <= b[0] < b[2] <= r["width"] and 0 <= b[1] < b[3] <= r["height"] for r, b in boxes)
