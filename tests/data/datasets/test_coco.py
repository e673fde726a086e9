from __future__ import annotations

import json
import logging
import os

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from lucidet.data.datasets import (
    convert_to_coco_dict,
    convert_to_coco_json,
    load_coco_json,
    register_coco_instances,
)
from lucidet.data.datasets.builtin_meta import COCO_CATEGORIES
from lucidet.structures import BoxMode


def test_records(write_coco, name, tmp_path):
    records = load_coco_json(write_coco(), tmp_path, name)
    assert [r["image_id"] for r in records] == [7, 9, 30]
    assert records[0]["file_name"] == str(tmp_path / "a.jpg")
    assert (records[0]["height"], records[0]["width"]) == (40, 60)
    assert records[0]["annotations"][0] == {
        "id": 1,
        "iscrowd": 0,
        "bbox": [10, 10, 20, 10],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
    }
    assert records[0]["annotations"][1]["iscrowd"] == 1
    assert records[1]["annotations"][0]["area"] == 7.5
    assert records[2]["annotations"] == []
    meta = MetadataCatalog.get(name)
    assert meta.thing_classes == ["car", "brush"]
    assert meta.thing_dataset_id_to_contiguous_id == {3: 0, 90: 1}


def test_without_a_name_ids_stay(write_coco, tmp_path):
    records = load_coco_json(write_coco(), tmp_path)
    assert [a["category_id"] for a in records[0]["annotations"]] == [90, 3]


def test_extra_keys(write_coco, tmp_path):
    path = write_coco(lambda c: c["annotations"][0].update(occluded=1))
    assert "occluded" not in load_coco_json(path, tmp_path)[0]["annotations"][0]
    annotation = load_coco_json(path, tmp_path, None, ["occluded"])[0]["annotations"][0]
    assert annotation["occluded"] == 1


def test_masks_and_keypoints_are_kept_as_they_are(write_coco, tmp_path, name):
    rle = {"size": [40, 60], "counts": [2390, 10]}

    def change(content):
        first, second, third = content["annotations"]
        first.update(segmentation=[[0, 0, 1, 1, 2, 2]], keypoints=[3, 4, 2, 0, 0, 0])
        second["segmentation"] = rle
        third.update(segmentation=None, keypoints=None)

    path = write_coco(change)
    records = load_coco_json(path, tmp_path, name)
    first, second = records[0]["annotations"]
    assert first["segmentation"] == [[0, 0, 1, 1, 2, 2]]
    assert first["keypoints"] == [3.5, 4.5, 2, 0.5, 0.5, 0]  # the middle of COCO's pixel
    assert second["segmentation"] == rle
    assert not {"segmentation", "keypoints"} & records[1]["annotations"][0].keys()
    register_coco_instances(name + "_2", {}, path, tmp_path)
    try:
        written = convert_to_coco_dict(name + "_2")["annotations"]
    finally:
        DatasetCatalog.remove(name + "_2")
        MetadataCatalog.remove(name + "_2")
    assert written[0]["segmentation"] == [[0, 0, 1, 1, 2, 2]]
    assert written[0]["keypoints"] == [3, 4, 2, 0, 0, 0]
    assert written[0]["num_keypoints"] == 1
    assert written[0]["area"] == 0  # of the mask: its corners lie on a line
    assert written[1]["area"] == 10
    assert "segmentation" not in written[2]


def test_no_annotations_and_no_images(write_coco, tmp_path):
    records = load_coco_json(write_coco(lambda c: c.pop("annotations")), tmp_path)
    assert [r["annotations"] for r in records] == [[], [], []]
    empty = write_coco(lambda c: c.update(images=[], annotations=[]))
    assert load_coco_json(empty, tmp_path) == []


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([10, 10, 0, 5], "without area"),
        ([10, 10, 5, -1], "without area"),
        ([60, 10, 5, 5], "outside the image"),
        ([-5, 10, 5, 5], "outside the image"),
        ([1, 2, 3], "not four numbers"),
        (None, "not four numbers"),
        ([1, 2, 3, float("nan")], "not finite"),
        ([1, 2, 3, "wide"], "not four numbers"),
    ],
)
def test_useless_boxes_are_counted_and_the_image_stays(write_coco, tmp_path, caplog, bbox, reason):
    path = write_coco(lambda c: c["annotations"][0].update(bbox=bbox))
    with caplog.at_level(logging.WARNING):
        records = load_coco_json(path, tmp_path)
    assert len(records) == 3
    assert len(records[0]["annotations"]) == 1
    assert f"annotations.json: 1 boxes {reason}" in caplog.text
    assert "annotation 1 of image 7" in caplog.text


def test_a_box_over_the_border_stays_and_is_reported(write_coco, tmp_path, caplog):
    path = write_coco(lambda c: c["annotations"][0].update(bbox=[50, 10, 20, 10]))
    assert len(load_coco_json(path, tmp_path)[0]["annotations"]) == 2
    assert "1 boxes reach more than a pixel over their image" in caplog.text
    caplog.clear()
    path = write_coco(lambda c: c["annotations"][0].update(bbox=[50, 10, 10.5, 10]))
    load_coco_json(path, tmp_path)
    assert caplog.text == ""


def drop(section, number, key):
    return lambda content: content[section][number].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][1].update(category_id=5),
            r"annotations.json: annotation 2 has category_id 5.*2 categories \[3, 90\]",
        ),
        (
            lambda c: c["annotations"][2].update(image_id=8),
            r"annotation 3 has image_id 8.*3 images \[7, 9, 30\].*remove",
        ),
        (lambda c: c["annotations"][2].update(id=1), r"1 ids of 'annotations' .*once.*\[1\]"),
        (lambda c: c["images"][2].update(id=7), r"1 ids of 'images' .*once.*\[7\]"),
        (lambda c: c["categories"][0].update(id=3), r"1 ids of 'categories' .*once.*\[3\]"),
        (lambda c: c["annotations"][0].update(ignore=1), "annotation 1 has 'ignore'.*iscrowd"),
        (drop("annotations", 1, "bbox"), r"annotations\[1\] \(id 2\) lacks 'bbox'"),
        (drop("annotations", 1, "category_id"), "lacks 'category_id'"),
        (drop("images", 0, "file_name"), r"images\[0\] \(id 30\) lacks 'file_name'"),
        (drop("categories", 0, "name"), "lacks 'name'"),
        (lambda c: c.pop("images"), "not in COCO's layout.*found.*annotations.*categories"),
        (lambda c: c.update(images={}), "'images' must be a list"),
    ],
)
def test_broken_content_is_named(write_coco, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_coco_json(write_coco(change), tmp_path)


def test_annotation_ids_may_be_absent(write_coco, tmp_path):
    def change(content):
        for annotation in content["annotations"]:
            del annotation["id"]

    assert len(load_coco_json(write_coco(change), tmp_path)[0]["annotations"]) == 2


@pytest.mark.parametrize("kept", [1.0, 0.9, 0.5, 0.1, 0.0])
def test_truncated_json_says_where(write_coco, tmp_path, kept):
    path = write_coco()
    text = path.read_text()
    path.write_text(text[: int(len(text) * kept)])
    if kept == 1.0:
        load_coco_json(path, tmp_path)
        return
    with pytest.raises(ValueError, match=r"annotations.json, line 1, column \d+ .*ends too early"):
        load_coco_json(path, tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"images": [1 2], "annotations": [], "categories": []}', "column 15.*a syntax error"),
        (b"\x1f\x8b\x08\xff", "not UTF-8 text.*compressed"),
        (b"[1]", "not in COCO's layout.*found list"),
    ],
)
def test_other_files_are_no_json(tmp_path, data, message):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_coco_json(path, tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.json does not exist.*LUCIDET_DATASETS"):
        load_coco_json(tmp_path / "nowhere.json", tmp_path)


def test_register_and_back_to_coco(write_coco, name, tmp_path):
    register_coco_instances(name, {"note": 1}, str(write_coco()), str(tmp_path))
    meta = MetadataCatalog.get(name)
    assert (meta.evaluator_type, meta.note) == ("coco", 1)
    DatasetCatalog.get(name)
    content = convert_to_coco_dict(name)
    assert content["categories"] == [{"id": 3, "name": "car"}, {"id": 90, "name": "brush"}]
    assert [a["category_id"] for a in content["annotations"]] == [90, 3, 3]
    assert [a["area"] for a in content["annotations"]] == [200, 27.5, 7.5]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]
    assert [a["iscrowd"] for a in content["annotations"]] == [0, 1, 0]
    assert content["images"][0] | {"file_name": ""} == {
        "id": 7,
        "height": 40,
        "width": 60,
        "file_name": "",
    }
    assert content["annotations"][0]["bbox"] == [10, 10, 20, 10]

    out = tmp_path / "new" / "converted.json"
    convert_to_coco_json(name, out)
    assert json.loads(out.read_text()) == content
    assert os.listdir(out.parent) == ["converted.json"]
    reread = load_coco_json(out, "")
    assert [len(r["annotations"]) for r in reread] == [2, 1, 0]
    written = out.stat().st_mtime_ns
    convert_to_coco_json(name, out)  # cached
    assert out.stat().st_mtime_ns == written
    for allow_cached in (True, False):
        out.write_text("old")
        convert_to_coco_json(name, out, allow_cached=allow_cached)
        assert json.loads(out.read_text()) == content


def test_conversion_of_other_boxes(name):
    records = [
        {
            "file_name": "x.jpg",
            "height": 9,
            "width": 9,
            "annotations": [
                {"bbox": [1, 2, 4, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0},
                {"bbox": [4, 4, 2, 3, 45], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0},
            ],
        }
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).thing_classes = ["thing"]
    content = convert_to_coco_dict(name)
    assert [a["bbox"] for a in content["annotations"]] == [[1, 2, 3, 4], [4, 4, 2, 3, 45]]
    assert [a["area"] for a in content["annotations"]] == [12, 6]
    assert content["images"][0]["id"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, {}, "a", "b"), "name must be text, got int"),
        (("x", {}, None, "b"), "json_file must be text"),
        (("x", {}, "a", 1), "image_root must be text"),
        (("x", "a", "b", "c"), "metadata must be a dict"),
    ],
)
def test_swapped_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        register_coco_instances(*arguments)


def test_builtin_root_is_read_at_use(monkeypatch, tmp_path):
    meta = MetadataCatalog.get("coco_2017_val")
    monkeypatch.delenv("LUCIDET_DATASETS", raising=False)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert meta.json_file == "datasets/coco/annotations/instances_val2017.json"
    monkeypatch.setenv("DETECTRON2_DATASETS", "/d2")
    assert meta.image_root == "/d2/coco/val2017"
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    assert meta.image_root == str(tmp_path / "coco" / "val2017")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        DatasetCatalog.get("coco_2017_val")


def test_builtin_names():
    names = DatasetCatalog.list()
    for year in ("2014", "2017"):
        for split in ("train", "val"):
            assert f"coco_{year}_{split}" in names
            assert f"coco_{year}_{split}_100" in names
    assert {"voc_2007_trainval", "voc_2007_test", "voc_2012_val", "shapes_train"} <= set(names)


def test_coco_categories():
    assert len(COCO_CATEGORIES) == 80
    assert COCO_CATEGORIES[0]["name"] == "person"
    assert COCO_CATEGORIES[79] | {"color": 0} == {
        "id": 90,
        "name": "toothbrush",
        "isthing": 1,
        "color": 0,
    }
    assert len({tuple(c["color"]) for c in COCO_CATEGORIES}) == 80


def test_the_first_100_of_a_split(monkeypatch, tmp_path):
    folder = tmp_path / "coco" / "annotations"
    folder.mkdir(parents=True)
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(150)]
    content = {"images": images, "categories": categories}
    (folder / "instances_val2017.json").write_text(json.dumps(content))
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    records = DatasetCatalog.get("coco_2017_val_100")
    assert [r["image_id"] for r in records] == list(range(100))
    # the full file would hold 50 more images against the detector: evaluation must convert
    assert not hasattr(MetadataCatalog.get("coco_2017_val_100"), "json_file")

    content["images"] = images[50:60]
    (folder / "instances_val2017_100.json").write_text(json.dumps(content))
    assert len(DatasetCatalog.get("coco_2017_val_100")) == 10
    assert MetadataCatalog.get("coco_2017_val_100").json_file.endswith("val2017_100.json")


@pytest.mark.parametrize(("split", "images"), [("val", 79), ("train", 80)])
def test_real_coco(monkeypatch, datasets_dir, split, images):
    monkeypatch.setenv("LUCIDET_DATASETS", str(datasets_dir))
    records = get_detection_dataset_dicts(f"coco_2017_{split}", filter_empty=False)
    assert len(records) == images
    assert MetadataCatalog.get(f"coco_2017_{split}").thing_classes[0] == "person"
    with open(MetadataCatalog.get(f"coco_2017_{split}").json_file) as file:
        expected = len(json.load(file)["annotations"])
    assert sum(len(r["annotations"]) for r in records) == expected
    assert all(os.path.isfile(r["file_name"]) for r in records)
