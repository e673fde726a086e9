"""Real datasets, and exports made of them, read the same as other readers do."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog, dataset_names
from lucidet.data.datasets import load_coco_json, load_voc_instances
from lucidet.data.detection_utils import annotations_to_xyxy
from lucidet.data.specification import resolve

from .exports import coco, pictures, voc, yolo_labels
from .test_layouts import cvat_xml

pytestmark = pytest.mark.usefixtures("forget_specifications")


def objects(name: str) -> dict[str, list[tuple[str, list[float]]]]:
    """Return image's stem -> class name and corners of each object, sorted."""
    classes = MetadataCatalog.get(name).thing_classes
    found = {}
    for record in DatasetCatalog.get(name):
        boxes = annotations_to_xyxy(record["annotations"]).round(2).tolist()
        kinds = [classes[a["category_id"]] for a in record["annotations"]]
        found[Path(record["file_name"]).stem] = sorted(zip(kinds, boxes, strict=True))
    return found


def of_hotcoco(dataset: dict[str, Any]) -> dict[str, list[tuple[str, list[float]]]]:
    """Return the same of a dataset that hotcoco has read."""
    names = {c["id"]: c["name"] for c in dataset["categories"]}
    stems = {i["id"]: Path(i["file_name"]).stem for i in dataset["images"]}
    found: dict[str, list[tuple[str, list[float]]]] = {stem: [] for stem in stems.values()}
    for entry in dataset["annotations"]:
        x, y, w, h = entry["bbox"]
        corners = np.round([x, y, x + w, y + h], 2).tolist()
        found[stems[entry["image_id"]]].append((names[entry["category_id"]], corners))
    return {stem: sorted(own) for stem, own in found.items()}


@pytest.mark.parametrize("kind", ["voc", "yolo", "cvat"])
def test_regular_files_are_read_as_hotcoco_reads_them(tmp_path, kind):
    pictures(tmp_path / "images")
    if kind == "voc":
        voc(tmp_path / "Annotations")
        theirs = hotcoco.COCO.from_voc(str(tmp_path))
    elif kind == "yolo":
        yolo_labels(tmp_path / "labels")
        (tmp_path / "labels" / "data.yaml").write_text("names: [cat, dog]\n")
        theirs = hotcoco.COCO.from_yolo(str(tmp_path / "labels"), str(tmp_path / "images"))
        (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    else:
        (tmp_path / "annotations.xml").write_text(cvat_xml({"": [0, 1, 2, 3, 4]}))
        theirs = hotcoco.COCO.from_cvat(str(tmp_path / "annotations.xml"))
    mine = objects(dataset_names(f"{kind}:{tmp_path}", "train")[0])
    if kind == "yolo":
        assert mine.pop("img_4") == []  # hotcoco does not know images without labels
    assert mine == of_hotcoco(theirs.dataset)


def test_blood_cells_as_other_readers_have_them(datasets_dir):
    root = datasets_dir / "bccd"
    names = resolve(root)
    assert names == {"train": "bccd_train", "val": "bccd_val"}
    classes = MetadataCatalog.get("bccd_val").thing_classes
    assert classes == ["Platelets", "RBC", "WBC"]
    for split in ("train", "val"):
        expected = load_voc_instances(root, split, classes)
        found = DatasetCatalog.get(names[split])
        assert [r["image_id"] for r in found] == [r["image_id"] for r in expected]
        assert [annotations_to_xyxy(r["annotations"]).tolist() for r in found] == [
            annotations_to_xyxy(r["annotations"]).tolist() for r in expected
        ]


def test_coco_as_its_own_reader_has_it(datasets_dir):
    file = datasets_dir / "coco" / "annotations" / "instances_val2017.json"
    (name,) = dataset_names(str(file))
    expected = load_coco_json(file, datasets_dir / "coco" / "val2017", "coco_for_this_test")
    found = DatasetCatalog.get(name)
    for a, b in zip(found, expected, strict=True):
        assert {**a, "file_name": ""} == {**b, "file_name": ""}
        assert Path(a["file_name"]).name == Path(b["file_name"]).name
    assert MetadataCatalog.get(name).json_file == str(file)


def test_exports_of_blood_cells(datasets_dir, tmp_path):
    """The first images as Roboflow's COCO, as YOLO and as flat VOC hold the same boxes."""
    root = datasets_dir / "bccd"
    reference = objects(dataset_names(f"voc:{root}:all", "train")[0])
    stems = sorted(reference)[:12]
    for split, own in (("train", stems[:9]), ("valid", stems[9:])):
        for layout in ("roboflow", "yolo", "flat"):
            images = {
                "roboflow": tmp_path / "roboflow" / split,
                "yolo": tmp_path / "yolo" / "images" / split,
                "flat": tmp_path / "flat" / "images",
            }[layout]
            images.mkdir(parents=True, exist_ok=True)
            for stem in own:
                shutil.copy(root / "JPEGImages" / f"{stem}.jpg", images)
        _write_roboflow(tmp_path / "roboflow" / split, own, reference)
        _write_yolo(tmp_path / "yolo" / "labels" / split, own, reference)
        (tmp_path / "flat" / "annotations").mkdir(exist_ok=True)
        for stem in own:
            shutil.copy(root / "Annotations" / f"{stem}.xml", tmp_path / "flat" / "annotations")
    (tmp_path / "yolo" / "data.yaml").write_text(
        "train: images/train\nval: images/valid\nnames: [RBC, WBC, Platelets]\n"
    )
    for layout in ("roboflow", "yolo", "flat"):
        names = resolve(tmp_path / layout)
        found = objects(names["train"]) | objects(names["val"])
        assert sorted(found) == stems
        for stem in stems:
            for (kind, box), (other, expected) in zip(found[stem], reference[stem], strict=True):
                assert kind == other
                np.testing.assert_allclose(box, expected, atol=0.02)
    # divided by class: each is in both parts
    flat = resolve(tmp_path / "flat")
    for name in flat.values():
        kinds = Counter(kind for own in objects(name).values() for kind, _ in own)
        assert kinds["RBC"]
        assert kinds["WBC"]


def _write_roboflow(folder: Path, stems: list[str], reference: dict) -> None:
    kinds = ["RBC", "WBC", "Platelets"]
    path = coco(folder / "_annotations.coco.json", [], kinds)
    content = json.loads(path.read_text())
    for number, stem in enumerate(stems):
        content["images"].append(
            {"id": number, "file_name": f"{stem}.jpg", "height": 480, "width": 640}
        )
        for kind, (x1, y1, x2, y2) in reference[stem]:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number,
                    "category_id": kinds.index(kind) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    path.write_text(json.dumps(content))


def _write_yolo(folder: Path, stems: list[str], reference: dict) -> None:
    folder.mkdir(parents=True)
    for stem in stems:
        lines = [
            f"{['RBC', 'WBC', 'Platelets'].index(kind)} {(x1 + x2) / 1280:.6f} "
            f"{(y1 + y2) / 960:.6f} {(x2 - x1) / 640:.6f} {(y2 - y1) / 480:.6f}"
            for kind, (x1, y1, x2, y2) in reference[stem]
        ]
        (folder / f"{stem}.txt").write_text("\n".join(lines))
