"""From a specification to registered datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from lucidet.data.detection_utils import annotations_to_xyxy
from lucidet.data.specification import (
    SpecificationError,
    connect,
    dataset_names,
    explicit,
    resolve,
)

from .exports import CAT, CLASSES, COUNT, DOG, coco, pictures, voc, yolo_labels

pytestmark = pytest.mark.usefixtures("forget_specifications")


def check(name: str, numbers: list[int], classes: list[str] = CLASSES) -> None:
    """Check that dataset `name` holds exactly images `numbers` as exports.py describes them."""
    assert list(MetadataCatalog.get(name).thing_classes) == classes
    records = {Path(r["file_name"]).stem: r for r in DatasetCatalog.get(name)}
    assert sorted(records) == [f"img_{n}" for n in sorted(numbers)]
    for n in numbers:
        record = records[f"img_{n}"]
        assert (record["width"], record["height"]) == ((60, 40) if n % 2 == 0 else (40, 60))
        expected = [] if n == 4 else [("cat", CAT), ("dog", DOG)] if n % 2 else [("cat", CAT)]
        found = [classes[a["category_id"]] for a in record["annotations"]]
        assert found == [c for c, _ in expected]
        boxes = annotations_to_xyxy(record["annotations"])
        np.testing.assert_allclose(
            boxes, np.array([b for _, b in expected]).reshape(-1, 4), atol=1e-3
        )


def test_coco_above_its_images(tmp_path):
    pictures(tmp_path / "train2017", [0, 1, 2])
    pictures(tmp_path / "val2017", [3, 4])
    coco(tmp_path / "annotations" / "instances_train2017.json", [0, 1, 2])
    coco(tmp_path / "annotations" / "instances_val2017.json", [3, 4])
    names = resolve(tmp_path)
    check(names["train"], [0, 1, 2])
    check(names["val"], [3, 4])
    assert MetadataCatalog.get(names["val"]).json_file.endswith("instances_val2017.json")


def test_voc_flat_folders_are_divided(tmp_path):
    pictures(tmp_path / "images")
    voc(tmp_path / "annotations")
    names = resolve(tmp_path)
    parts = {role: DatasetCatalog.get(name) for role, name in names.items()}
    stems = {role: [Path(r["file_name"]).stem for r in own] for role, own in parts.items()}
    assert sorted(stems["train"] + stems["val"]) == [f"img_{n}" for n in range(COUNT)]
    assert all(stems.values())
    check(names["train"], [int(s[-1]) for s in stems["train"]])


def test_yolo_with_folders(tmp_path):
    for split, numbers in (("train", [0, 1, 2]), ("val", [3, 4])):
        pictures(tmp_path / "images" / split, numbers)
        yolo_labels(tmp_path / "labels" / split, numbers)
    (tmp_path / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
    )
    for spec in (tmp_path, tmp_path / "data.yaml", f"yolo:{tmp_path}"):
        names = resolve(spec)
        check(names["train"], [0, 1, 2])
        check(names["val"], [3, 4])


def test_a_specification_works_where_a_name_does(tmp_path):
    pictures(tmp_path / "images")
    coco(tmp_path / "train.json")
    spec = f"coco:{tmp_path / 'train.json'}@images"
    assert len(get_detection_dataset_dicts([spec])) == COUNT - 1  # one without a box
    assert MetadataCatalog.get(spec).thing_classes == CLASSES
    (name,) = dataset_names(spec, "train")
    check(name, list(range(COUNT)))
    assert dataset_names(explicit(name)) == [name]


def test_unknown_text_is_answered_with_what_is_there(tmp_path):
    pictures(tmp_path / "photos")
    with pytest.raises(SpecificationError, match=r"holds photos.*voc:FOLDER:SPLIT"):
        resolve(tmp_path / "fotos")
    with pytest.raises(KeyError, match="did you mean 'coco_2017_val'"):
        DatasetCatalog.get("coco_2017_vall")


def test_classes_are_matched_by_name(tmp_path):
    pictures(tmp_path / "images")
    train = coco(tmp_path / "a.json", [0, 1], ["dog", "bird", "cat"])
    val = coco(tmp_path / "b.json", [2, 3], ["cat", "dog"])
    connect([f"{train}@images"], [f"{val}@images"])
    check(dataset_names(f"{val}@images")[0], [2, 3], ["dog", "bird", "cat"])


def test_a_class_that_training_lacks_is_refused_with_both_lists(tmp_path):
    pictures(tmp_path / "images")
    train = coco(tmp_path / "a.json", [0, 2], ["cat"])
    val = coco(tmp_path / "b.json", [1, 3])
    with pytest.raises(
        SpecificationError, match=r"\['dog'\](?s:.*)\['cat', 'dog'\](?s:.*)\['cat'\]"
    ):
        connect([f"{train}@images"], [f"{val}@images"])
