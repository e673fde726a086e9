"""Class lists of training and test data: matched by name, or refused with both lists."""

from __future__ import annotations

import json
import logging

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.class_lists import match_test_classes, names_of_classes
from lucidet.data.datasets import register_coco_instances

NAMES = ("class_lists_train", "class_lists_val")


@pytest.fixture
def register(tmp_path):
    """Register a COCO JSON of one image with an object of each class."""

    def write(name: str, classes: list[str], used: list[str] | None = None, **metadata) -> None:
        ids = {c: k for k, c in enumerate(classes, 1)}
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
            "categories": [{"id": k, "name": c} for c, k in ids.items()],
            "annotations": [
                {"id": ids[c], "image_id": 1, "category_id": ids[c], "bbox": [5, 5, 30, 30]}
                for c in (classes if used is None else used)
            ],
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_instances(name, metadata, path, tmp_path)

    yield write
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in NAMES:
            if name in catalog:
                catalog.remove(name)


def classes_of(name: str) -> list[int]:
    return [a["category_id"] for a in DatasetCatalog.get(name)[0]["annotations"]]


@pytest.mark.parametrize(
    ("val", "used", "labels"),
    [
        (["dog", "cat", "bus"], None, [1, 0, 2]),
        (["bus", "dog"], None, [2, 1]),
        (["objects", "dog", "cat"], ["dog", "cat"], [1, 0]),  # Roboflow's category 0
        (["cat", "dog", "bus"], None, [0, 1, 2]),
        ([], None, []),
    ],
)
def test_a_json_is_matched_by_name(register, caplog, val, used, labels):
    register(NAMES[0], ["cat", "dog", "bus"])
    register(NAMES[1], val, used)
    DatasetCatalog.get(NAMES[0])
    with caplog.at_level(logging.WARNING):
        match_test_classes([NAMES[0]], [NAMES[1]])
    assert classes_of(NAMES[1]) == labels
    assert MetadataCatalog.get(NAMES[1]).thing_classes == ["cat", "dog", "bus"]
    assert ("matched by name" in caplog.text) == (val != ["cat", "dog", "bus"])
    match_test_classes([NAMES[0]], [NAMES[1]])  # once more changes nothing


def test_the_training_data_need_not_be_loaded(register):
    register(NAMES[0], ["dog", "cat"])
    register(NAMES[1], ["cat", "dog"])
    assert names_of_classes(NAMES[0]) == ["dog", "cat"]
    match_test_classes([NAMES[0]], [NAMES[1]])
    assert classes_of(NAMES[1]) == [1, 0]


@pytest.mark.parametrize("val", [["cat", "cow"], ["Cat", "Dog"], ["cat", "dog", "bird"]])
def test_other_names_are_refused_with_both_lists(register, val):
    register(NAMES[0], ["cat", "dog"])
    register(NAMES[1], val)
    with pytest.raises(ValueError, match=r"categories \[.*\].*classes \['cat', 'dog'\]"):
        match_test_classes([NAMES[0]], [NAMES[1]])


@pytest.mark.parametrize("loaded", [True, False])
def test_an_order_that_is_fixed_already_is_refused(register, loaded):
    register(NAMES[0], ["cat", "dog"])
    register(NAMES[1], ["dog", "cat"], **({} if loaded else {"thing_classes": ["dog", "cat"]}))
    if loaded:
        DatasetCatalog.get(NAMES[1])
    message = r"'class_lists_val' has the classes \['dog', 'cat'\].*\['cat', 'dog'\]: class 0 is"
    with pytest.raises(ValueError, match=message):
        match_test_classes([NAMES[0]], [NAMES[1]])


def test_a_longer_list_with_the_same_beginning_is_said(register, caplog):
    register(NAMES[0], ["cat", "dog"])
    register(NAMES[1], ["cat", "dog", "cow"], thing_classes=["cat", "dog", "cow"])
    match_test_classes([NAMES[0]], [NAMES[1]])
    assert "['cat', 'dog', 'cow'], training dataset" in caplog.text


def test_nothing_to_compare():
    match_test_classes([], [])
    match_test_classes(["nobody_registered_this"], [])
    with pytest.raises(KeyError, match="unknown data set 'nobody_registered_this'"):
        match_test_classes([], ["nobody_registered_this"])
