from __future__ import annotations

import pickle

import pytest

from lucidet.data.catalog import DatasetCatalog, Metadata, MetadataCatalog


def test_register_get_remove(name):
    DatasetCatalog.register(name, lambda: [{"image_id": 1}])
    assert DatasetCatalog.get(name) == [{"image_id": 1}]
    assert name in DatasetCatalog.list()
    DatasetCatalog.remove(name)
    assert name not in DatasetCatalog


def test_pop_is_that_of_a_dict(name):
    DatasetCatalog.register(name, list)
    assert DatasetCatalog.pop(name) is list


def test_unknown_name_names_the_nearest():
    with pytest.raises(KeyError, match=r"'coco_2017_vall'; did you mean 'coco_2017_val'"):
        DatasetCatalog.get("coco_2017_vall")
    with pytest.raises(KeyError, match=r"unknown data set"):
        DatasetCatalog.remove("nothing_like_it")


def test_a_name_is_taken_once(name):
    DatasetCatalog.register(name, list)
    with pytest.raises(ValueError, match=f"{name}.*already registered.*remove"):
        DatasetCatalog.register(name, list)


def test_only_functions_register(name):
    with pytest.raises(ValueError, match=r"register a function.*got list"):
        DatasetCatalog.register(name, [])


def test_metadata_is_set_once_and_names_the_clash(name):
    meta = MetadataCatalog.get(name).set(thing_classes=["a"])
    meta.thing_classes = ["a"]  # equal: fine
    with pytest.raises(ValueError, match=f"{name}.*thing_classes is \\['a'\\].*become \\['b'\\]"):
        meta.thing_classes = ["b"]


def test_metadata_get_as_dict_and_absent(name):
    meta = MetadataCatalog.get(name).set(split="val")
    assert meta.get("split") == "val"
    assert meta.get("nothing", 3) == 3
    assert meta.as_dict() == {"name": name, "split": "val"}
    assert not hasattr(meta, "json_file")
    with pytest.raises(AttributeError, match="has no 'json_file'; it has \\['name', 'split'\\]"):
        _ = meta.json_file


def test_lazy_values_are_looked_up_at_each_use():
    answer = ["first"]
    meta = Metadata(name="x").set_lazy(file=lambda: answer[0], absent=lambda: None)
    assert meta.file == "first"
    answer[0] = "second"
    assert meta.file == "second"
    assert meta.get("absent") is None
    assert meta.as_dict() == {"name": "x", "file": "second"}


def test_metadata_travels_to_workers():
    meta = MetadataCatalog.get("coco_2017_val")
    copy = pickle.loads(pickle.dumps(meta))
    assert copy.as_dict() == meta.as_dict()


def test_empty_name_is_refused():
    with pytest.raises(ValueError, match=r"must not be empty"):
        MetadataCatalog.get("")
