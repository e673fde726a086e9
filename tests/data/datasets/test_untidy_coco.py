"""COCO files as exporters write them: what each field means, and what is refused by name."""

from __future__ import annotations

import json
import logging

import pytest

from lucidet.data import DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from lucidet.data.datasets import load_coco_json, register_coco_instances


def objects(path, root, image=7):
    records = {r["image_id"]: r for r in load_coco_json(path, root)}
    return records[image]["annotations"]


@pytest.mark.parametrize(
    ("iscrowd", "meant"),
    [(None, 0), ("", 0), (0.0, 0), ("false", 0), ("0", 0), (True, 1), ("1", 1), (1.0, 1)],
)
def test_iscrowd(write_coco, tmp_path, iscrowd, meant):
    path = write_coco(lambda c: c["annotations"][0].update(iscrowd=iscrowd))
    assert objects(path, tmp_path)[0]["iscrowd"] == meant


@pytest.mark.parametrize(
    ("area", "meant"),
    [(None, None), ("", None), (0, None), (-1, None), ("12.5", 12.5), (float("nan"), None), (7, 7)],
)
def test_area(write_coco, tmp_path, area, meant):
    path = write_coco(lambda c: c["annotations"][0].update(area=area))
    assert objects(path, tmp_path)[0].get("area") == meant


@pytest.mark.parametrize(
    "bbox", [["10", "10", "20", "10"], "10 10 20 10", "[10, 10, 20, 10]", [10.0, "10.0", 20, 10]]
)
def test_numbers_of_a_box_may_be_text(write_coco, tmp_path, bbox):
    path = write_coco(lambda c: c["annotations"][0].update(bbox=bbox))
    assert objects(path, tmp_path)[0]["bbox"] == [10, 10, 20, 10]


@pytest.mark.parametrize(
    ("section", "entry", "message"),
    [
        ("annotations", {"iscrowd": "maybe"}, r"annotations\[0\] \(id 1\): 'iscrowd'.*'maybe'"),
        ("annotations", {"iscrowd": 2}, "'iscrowd' must be 0 or 1, got 2"),
        ("annotations", {"area": "big"}, "'area' must be a number"),
        ("annotations", {"category_id": None}, "annotation 1 has category_id None"),
        ("annotations", {"image_id": "x"}, "annotation 1 has image_id 'x'"),
        ("images", {"width": "wide"}, r"images\[0\] \(id 30\): 'width'.*'wide'"),
        ("images", {"height": 40.5}, "'height' must be a whole number"),
        ("images", {"file_name": None}, "'file_name' must be text, got None"),
        ("images", {"file_name": ""}, "'file_name' must be text, got ''"),
        ("images", {"id": None}, "'id' must be a number or text, got None"),
        ("categories", {"name": None}, r"categories\[0\] \(id 90\): 'name' must be text"),
        ("categories", {"id": 1.5}, "'id' must be a number or text, got 1.5"),
    ],
)
def test_a_field_without_meaning_is_named(write_coco, tmp_path, section, entry, message):
    path = write_coco(lambda c: c[section][0].update(entry))
    with pytest.raises(ValueError, match=r"annotations\.json: .*" + message):
        load_coco_json(path, tmp_path)


@pytest.mark.parametrize(
    "size", [(-1, -1), (0, 0), (None, None), ("60", "40"), ("", ""), (60.0, 40)]
)
def test_a_size_that_cannot_be_is_read_from_the_image(write_coco, tmp_path, name, size):
    path = write_coco(lambda c: c["images"][1].update(width=size[0], height=size[1]))
    register_coco_instances(name, {}, path, tmp_path)
    records = get_detection_dataset_dicts([name])
    assert [r["image_id"] for r in records] == [7, 9]
    assert (records[0]["width"], records[0]["height"]) == (60, 40)
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    assert [len(mapper(r)["instances"]) for r in records] == [1, 1]


def test_a_box_outside_an_image_without_size_is_counted(write_coco, tmp_path, caplog):
    def change(content):
        del content["images"][1]["width"]
        content["annotations"][0]["bbox"] = [70, 10, 5, 5]

    assert len(objects(write_coco(change), tmp_path)) == 1
    assert "1 boxes outside the image are left out" in caplog.text


@pytest.mark.parametrize(("image", "known"), [("7", 7), (7.0, 7), (7, "7"), ("007", 7), ("a", "a")])
def test_an_id_may_be_written_in_two_types(write_coco, tmp_path, image, known):
    def change(content):
        content["images"][1]["id"] = known
        for annotation in content["annotations"][:2]:
            annotation["image_id"] = image

    assert len(objects(write_coco(change), tmp_path, image=known)) == 2


def test_text_ids_that_are_the_same_number_are_not_guessed(write_coco, tmp_path):
    def change(content):
        content["images"][1]["id"], content["images"][2]["id"] = "7", "07"
        content["annotations"][2]["image_id"] = "07"

    with pytest.raises(ValueError, match="annotation 1 has image_id 7, which is not among"):
        load_coco_json(write_coco(change), tmp_path)


def test_category_ids_as_text_are_ordered_as_numbers(write_coco, tmp_path, name):
    def change(content):
        content["categories"] = [{"id": "90", "name": "brush"}, {"id": "3", "name": "car"}]

    records = load_coco_json(write_coco(change), tmp_path, name)
    assert MetadataCatalog.get(name).thing_classes == ["car", "brush"]
    assert [a["category_id"] for a in records[0]["annotations"]] == [1, 0]


@pytest.mark.parametrize(
    "extra",
    [
        [{"id": 3, "name": "car"}],  # once an image, word for word
        [{"id": 4, "name": "car"}],  # Roboflow: a project named as its only class
        [{"id": 4, "name": " car "}, {"id": 5, "name": "brush"}],
    ],
)
def test_categories_of_one_name_are_one_class(write_coco, tmp_path, name, extra, caplog):
    def change(content):
        content["categories"] += extra
        content["annotations"][1].update(category_id=extra[0]["id"], iscrowd=0)

    records = load_coco_json(write_coco(change), tmp_path, name)
    assert MetadataCatalog.get(name).thing_classes == ["car", "brush"]
    assert [a["category_id"] for a in records[0]["annotations"]] == [1, 0]
    assert "occur more than once and are one class by their name: 'car'" in caplog.text


def test_one_id_for_two_names_is_refused(write_coco, tmp_path):
    path = write_coco(lambda c: c["categories"].append({"id": 3, "name": "bus"}))
    with pytest.raises(ValueError, match=r"1 ids of 'categories' .*\[3\]"):
        load_coco_json(path, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(write_coco, tmp_path, encoding):
    path = write_coco()
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "Bürste 刷子"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert len(load_coco_json(path, tmp_path)) == 3


@pytest.mark.parametrize(
    "written",
    ["sub\\d e%20f.jpg", "sub/d%20e%2520f.jpg", "sub/d e%20f.jpg", ".\\sub\\d e%20f.jpg",
     "file://{root}/sub/d%20e%2520f.jpg", "file:{root}/sub/d%20e%2520f.jpg"],
)  # fmt: skip
def test_names_of_files(write_coco, tmp_path, written):
    def change(content):
        content["images"][1]["file_name"] = written.format(root=tmp_path)

    path = write_coco(change)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "sub" / "d e%20f.jpg")
    record = load_coco_json(path, tmp_path)[0]
    mapped = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")(record)
    assert len(mapped["instances"]) == 1


def test_a_name_from_windows_is_explained(write_coco, tmp_path):
    path = write_coco(lambda c: c["images"][1].update(file_name="C:\\data\\a2.jpg"))
    record = load_coco_json(path, tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="written with backslashes, as on Windows"):
        DatasetMapper(is_train=True, augmentations=[], image_format="BGR")(record)


def test_boxes_in_fractions_of_the_image_are_refused(write_coco, tmp_path):
    def change(content):
        for number, annotation in enumerate(content["annotations"]):
            annotation["bbox"] = [0.1 * number, 0.2, 0.5, 0.25]

    with pytest.raises(
        ValueError, match=r"annotations.json: all 3 boxes lie within 0\.\.1.*pixels"
    ):
        load_coco_json(write_coco(change), tmp_path)


def test_corners_taken_for_sizes_are_suspected(write_coco, tmp_path, caplog):
    def change(content):
        for annotation in content["annotations"]:
            annotation["bbox"] = [20, 20, 39, 39]

    load_coco_json(write_coco(change), tmp_path)
    assert "3 of them would fit as x1, y1, x2, y2: were corners written" in caplog.text


def test_some_boxes_below_a_pixel_are_reported(write_coco, tmp_path, caplog):
    path = write_coco(lambda c: c["annotations"][0].update(bbox=[0.1, 0.1, 0.5, 0.5]))
    with caplog.at_level(logging.WARNING):
        load_coco_json(path, tmp_path)
    assert "1 boxes lie within 0..1, less than a pixel" in caplog.text


def test_classes_that_are_registered_are_matched_by_name(write_coco, tmp_path, name, caplog):
    register_coco_instances(
        name, {"thing_classes": ["brush", "car", "bus"]}, write_coco(), tmp_path
    )
    records = get_detection_dataset_dicts([name])
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 1]
    assert "categories ['car', 'brush']" in caplog.text
    assert "classes ['brush', 'car', 'bus']: matched by name" in caplog.text


def test_a_category_that_is_not_registered_is_refused_if_it_is_used(write_coco, tmp_path, name):
    register_coco_instances(name, {"thing_classes": ["car"]}, write_coco(), tmp_path)
    message = r"categories \['car', 'brush'\].*classes \['car'\]: \['brush'\] are not among them"
    with pytest.raises(ValueError, match=message):
        get_detection_dataset_dicts([name])
    write_coco(lambda c: c["annotations"].pop(0))
    assert len(get_detection_dataset_dicts([name])) == 1
