from __future__ import annotations

import json

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets import (
    get_lvis_instances_meta,
    load_cityscapes_instances,
    load_lvis_json,
    register_lvis_instances,
)
from lucidet.data.datasets.builtin_meta import _get_builtin_metadata
from lucidet.data.segmentation import segmentation_to_bitmask
from tests.data.conftest import save_image

POLYGON = [[1, 1, 9, 1, 9, 9, 1, 9]]


def test_names_that_detectron2_registers():
    names = {
        "keypoints_coco_2014_minival",
        "keypoints_coco_2017_train",
        "keypoints_coco_2017_val_100",
        "lvis_v1_train",
        "lvis_v1_test_challenge",
        "lvis_v0.5_val_rand_100",
        "lvis_v0.5_train_cocofied",
        "cityscapes_fine_instance_seg_val",
    }
    assert names <= set(DatasetCatalog.list())
    person = MetadataCatalog.get("keypoints_coco_2017_val")
    assert person.thing_classes == ["person"]
    assert len(person.keypoint_names) == 17
    assert ("left_eye", "right_eye") in person.keypoint_flip_map
    pairs = {frozenset(rule[:2]) for rule in person.keypoint_connection_rules}
    assert frozenset(("left_knee", "left_ankle")) in pairs
    assert {name for pair in pairs for name in pair} == set(person.keypoint_names)
    assert len(_get_builtin_metadata("cityscapes")["thing_classes"]) == 8
    with pytest.raises(KeyError, match=r"known: 'coco', 'coco_person', .*'cityscapes'"):
        _get_builtin_metadata("coco_stuff")


def lvis(folder):
    image = {"id": 5, "height": 20, "width": 30, "neg_category_ids": [3]}
    image["coco_url"] = "http://images.cocodataset.org/val2017/000000000005.jpg"
    image["not_exhaustive_category_ids"] = []
    content = {
        "images": [image],
        "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "aerosol_can"}],
        "annotations": [
            {
                "id": 9,
                "image_id": 5,
                "category_id": 3,
                "bbox": [1, 1, 8, 8],
                "segmentation": POLYGON,
            }
        ],
    }
    path = folder / "lvis_v1_val.json"
    path.write_text(json.dumps(content))
    return path


def test_lvis(tmp_path, name):
    path = lvis(tmp_path)
    (record,) = load_lvis_json(path, tmp_path / "coco")
    assert record["file_name"] == str(tmp_path / "coco" / "val2017" / "000000000005.jpg")
    assert record["neg_category_ids"] == [3]
    assert record["annotations"][0]["segmentation"] == POLYGON
    assert record["annotations"][0]["category_id"] == 3
    register_lvis_instances(name, {}, path, tmp_path / "coco")
    assert DatasetCatalog.get(name)[0]["annotations"][0]["category_id"] == 1
    assert MetadataCatalog.get(name).evaluator_type == "lvis"
    assert get_lvis_instances_meta(name) == {"thing_classes": ["aerosol_can", "cup"]}
    assert len(get_lvis_instances_meta("lvis_v0.5_val_cocofied")["thing_classes"]) == 80
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"other.json is not in COCO's layout"):
        load_lvis_json(tmp_path / "other.json", tmp_path)


def test_cityscapes(tmp_path, monkeypatch):
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    images = tmp_path / "cityscapes" / "leftImg8bit" / "train" / "aachen"
    truth = tmp_path / "cityscapes" / "gtFine" / "train" / "aachen"
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    save_image(images / "aachen_0_leftImg8bit.png", 20, 30)
    objects = [
        ("road", [[0, 0], [30, 0], [30, 20], [0, 20]]),
        ("car", [[0, 0], [10, 0], [10, 10], [0, 10]]),
        ("person", [[3, -5], [6, -5], [6, 20], [3, 20]]),  # cuts the car in two
        ("ridergroup", [[20, 5], [25, 5], [25, 9], [20, 9]]),
        ("truck", [[20, 12], [25, 12], [25, 16], [20, 16]]),
        ("pole", [[18, 11], [28, 11], [28, 17], [18, 17]]),  # covers the truck
        ("out of roi", [[0, 0], [30, 0], [30, 20], [0, 20]]),  # covers nothing
    ]
    content = {
        "imgHeight": 20,
        "imgWidth": 30,
        "objects": [{"label": label, "polygon": polygon} for label, polygon in objects],
    }
    file = truth / "aachen_0_gtFine_polygons.json"
    file.write_text(json.dumps(content))
    (record,) = DatasetCatalog.get("cityscapes_fine_instance_seg_train")
    names = MetadataCatalog.get("cityscapes_fine_instance_seg_train").thing_classes
    found = [(names[a["category_id"]], a["iscrowd"]) for a in record["annotations"]]
    assert found == [("car", 0), ("person", 0), ("rider", 1)]
    car, person, _ = (
        segmentation_to_bitmask(a["segmentation"], 20, 30) for a in record["annotations"]
    )
    assert len(record["annotations"][0]["segmentation"]) == 2
    assert car.sum() == 70
    assert person.sum() == 60
    assert record["annotations"][0]["bbox"] == [0, 0, 10, 10]
    file.write_text('{"objects": [{}]}')
    with pytest.raises(ValueError, match=r"polygons.json is not in Cityscapes' layout"):
        DatasetCatalog.get("cityscapes_fine_instance_seg_train")
    with pytest.raises(FileNotFoundError, match="LUCIDET_DATASETS"):
        load_cityscapes_instances(tmp_path / "nowhere", tmp_path)
