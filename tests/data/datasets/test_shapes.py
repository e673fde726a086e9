from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.shapes import CLASS_NAMES, draw_image, write_shapes
from lucidet.structures import polygons_to_bitmask


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_same_seed_same_files(tmp_path):
    first = contents(write_shapes(tmp_path / "a", 5, 3, 64, seed=4))
    assert contents(write_shapes(tmp_path / "b", 5, 3, 64, seed=4)) == first
    assert len(first) == 5 + 3 + 2
    other = contents(write_shapes(tmp_path / "c", 5, 3, 64, seed=5))
    assert all(other[name] != first[name] for name in first)


def test_an_image_depends_on_its_number_only(tmp_path):
    few = contents(write_shapes(tmp_path / "a", 2, 1, 64))
    many = contents(write_shapes(tmp_path / "b", 4, 2, 64))
    assert all(many[name] == data for name, data in few.items() if name.suffix == ".jpg")


def test_splits_differ(tmp_path):
    files = contents(write_shapes(tmp_path, 1, 1, 64))
    train, val = (data for name, data in files.items() if name.suffix == ".jpg")
    assert train != val


def test_kept_when_the_same_and_replaced_when_not(tmp_path):
    write_shapes(tmp_path, 3, 1, 64)
    marked = tmp_path / "train" / "000000.jpg"
    marked.write_bytes(b"mine")
    write_shapes(tmp_path, 3, 1, 64)
    assert marked.read_bytes() == b"mine"
    write_shapes(tmp_path, 2, 1, 64)
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["000000.jpg", "000001.jpg"]
    assert marked.read_bytes() != b"mine"


def test_other_peoples_files_are_left_alone(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holiday.jpg.*another folder"):
        write_shapes(tmp_path, 2, 1, 64)
    assert (tmp_path / "val" / "holiday.jpg").exists()


def test_builtin_name(tmp_path, monkeypatch):
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    write_shapes(tmp_path / "shapes", 4, 2, (48, 64))
    records = DatasetCatalog.get("shapes_train")
    assert MetadataCatalog.get("shapes_train").thing_classes == list(CLASS_NAMES)
    assert len(DatasetCatalog.get("shapes_val")) == 2
    assert {Image.open(r["file_name"]).size for r in records} == {(64, 48)}


def test_objects_are_inside_and_of_all_kinds():
    kinds, sizes, counts = set(), [], []
    for i in range(60):
        pixels, objects = draw_image(np.random.default_rng(i), (96, 128))
        assert pixels.shape == (96, 128, 3)
        assert pixels.dtype == np.uint8
        counts.append(len(objects))
        for obj in objects:
            x, y, w, h = obj["bbox"]
            assert 0 <= x < x + w <= 128
            assert 0 <= y < y + h <= 96
            assert 0 < obj["area"] <= w * h
            mask = polygons_to_bitmask(obj["segmentation"], 96, 128)
            assert mask.sum() == obj["area"]
            assert mask[y : y + h, x : x + w].sum() == obj["area"]
            kinds.add(obj["category_id"])
            sizes.append(max(w, h))
    assert kinds == set(range(1, len(CLASS_NAMES) + 1))
    assert min(sizes) < 20
    assert max(sizes) > 50
    assert max(counts) > 4


def test_boxes_are_tight():
    """Without noise and with one object, what differs from the background is the box."""
    from lucidet.data.datasets import shapes

    rng = np.random.default_rng(3)
    shape = shapes._Shape(rng, (64, 64))
    rows, columns, cover = shape.cover()
    canvas = np.zeros((64, 64), bool)
    canvas[rows, columns] = cover >= 0.5
    x, y, w, h = shapes._annotation(canvas, 0)["bbox"]
    inside = canvas[y : y + h, x : x + w]
    assert inside.sum() == canvas.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 1, 64), "num_train and num_val"), ((1, 1, 16), "at least 32 pixels, got 16")],
)
def test_bad_numbers(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path, *arguments)
