"""Dividing data into training and validation: by class, the same again, stable as data grow."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.specification import datasets, register, resolve
from lucidet.data.specification.splits import split_images

from .exports import pictures, voc

pytestmark = pytest.mark.usefixtures("forget_specifications")


@pytest.mark.parametrize(
    ("classes_of", "expected"),
    [
        ({}, {}),
        ({"a": [0]}, {"a": "train"}),
        ({"a": [0], "b": [1]}, {"a": "train", "b": "train"}),  # a single image of each class
    ],
)
def test_few_images(classes_of, expected):
    assert split_images(classes_of) == expected


def test_every_class_is_divided_as_the_images_are():
    classes_of = {f"{i:03d}": [i % 3] * (1 + i % 2) for i in range(150)}
    classes_of |= {f"rare{i}": [3] for i in range(10)}
    classes_of |= {f"empty{i}": [] for i in range(40)}
    parts = split_images(classes_of, val_share=0.2)
    assert parts == split_images(dict(reversed(classes_of.items())), val_share=0.2)
    counts = Counter((k, parts[i]) for i, own in classes_of.items() for k in set(own) or {None})
    assert [counts[k, "val"] for k in (0, 1, 2, 3, None)] == [10, 10, 10, 2, 8]


def test_many_rare_classes_leave_images_to_validate_on():
    # an image for each of 25 rare pairs of classes, and everywhere class 0
    classes_of = {f"{i:02d}": [0, 1 + i // 2, 50 + (i + 1) % 30 // 2] for i in range(30)}
    parts = split_images(classes_of)
    assert Counter(parts.values())["val"] >= 3
    trained = {k for i, part in parts.items() if part == "train" for k in classes_of[i]}
    assert trained == {k for own in classes_of.values() for k in own}
    grown = split_images({**classes_of, "new": [0]}, fixed=parts)
    assert {i: grown[i] for i in parts} == parts


def of_val(root) -> set[str]:
    datasets.forget()
    register._DATASETS.clear()
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in ("pets_train", "pets_val"):
            if name in catalog.list():
                catalog.remove(name)
    names = resolve(root)
    return {record["image_id"] for record in DatasetCatalog.get(names["val"])}


def test_a_division_is_written_down_and_stays_as_images_come_and_go(tmp_path):
    root = tmp_path / "pets"
    pictures(root / "images", range(20))
    voc(root / "annotations", range(20))
    before = of_val(root)
    (file,) = (tmp_path / "cache" / "splits").glob("pets-*.json")
    content = json.loads(file.read_text())
    assert {f"images/{name}.jpg" for name in before} == set(content["val"])
    assert len(before) == 4
    # fewer images for a while: nobody changes sides
    gone = root / "annotations" / f"{min(before)}.xml"
    text = gone.read_text()
    gone.unlink()
    assert of_val(root) == before - {min(before)}
    gone.write_text(text)
    assert of_val(root) == before
    # more images: only they are assigned
    pictures(root / "images", range(20, 40))
    voc(root / "annotations", range(20, 40))
    after = of_val(root)
    assert before < after
    assert len(after) == 8
    # another cache: the same images give one division
    file.unlink()
    first = of_val(root)
    file.unlink()
    assert of_val(root) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, caplog):
    root = tmp_path / "pets"
    pictures(root / "images", range(5))
    voc(root / "annotations", range(5))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "file" / "below"))
    assert len(of_val(root)) == 1
    assert "can't be written" in caplog.text
    assert sorted(p.name for p in root.iterdir()) == ["annotations", "images"]
