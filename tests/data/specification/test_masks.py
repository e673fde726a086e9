"""Masks of folders and files that are named by a specification."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lucidet.cli.main import main
from lucidet.data import DatasetCatalog
from lucidet.data.detection_utils import annotations_to_instances
from lucidet.data.segmentation import segmentation_to_bitmask
from lucidet.structures import BitMasks
from tests.data.conftest import save_image

H, W = 40, 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for n in range(3):
        save_image(tmp_path / "images" / f"{n}.jpg", H, W)
    return tmp_path


def records_of(folder: Path) -> list[dict]:
    return sorted(DatasetCatalog.get(str(folder)), key=lambda r: r["file_name"])


def test_yolo_segments_are_masks(folder: Path) -> None:
    (folder / "labels").mkdir()
    square = " ".join(f"{x / W} {y / H}" for x, y in ((10, 10), (30, 10), (30, 20), (10, 20)))
    (folder / "labels" / "0.txt").write_text(f"0 {square}\n1 0.5 0.5 0.2 0.2\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    first, second = records_of(folder)[0]["annotations"]
    mask = segmentation_to_bitmask(first["segmentation"], H, W)
    assert mask[10:20, 10:30].all()
    assert mask.sum() == 200
    assert "segmentation" not in second


def cvat(folder: Path, shapes: str) -> None:
    (folder / "annotations.xml").write_text(
        "<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label>"
        f'</labels></task></meta><image id="0" name="0.jpg" width="{W}" height="{H}">{shapes}'
        "</image></annotations>"
    )


def test_cvat_polygons_and_masks(folder: Path) -> None:
    cvat(
        folder,
        '<polygon label="cat" points="10,10;30,10;30,20;10,20"></polygon>'
        # two rows of three pixels: 1 1 0 / 0 1 1
        '<mask label="cat" left="5" top="6" width="3" height="2" rle="0, 2, 2, 2"></mask>'
        '<mask label="cat" left="58" top="-1" width="4" height="3" rle="0, 12"></mask>'
        '<mask label="cat" left="5" top="6" width="3" height="2" rle="0, 99"></mask>'
        '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="9"></box>',
    )
    found = records_of(folder)[0]["annotations"]
    masks = [
        segmentation_to_bitmask(a["segmentation"], H, W) if "segmentation" in a else None
        for a in found
    ]
    assert masks[0].sum() == 200
    assert np.argwhere(masks[1]).tolist() == [[6, 5], [6, 6], [7, 6], [7, 7]]
    assert np.argwhere(masks[2]).tolist() == [[0, 58], [0, 59], [1, 58], [1, 59]]
    assert masks[3] is None  # its run lengths do not fit: a box
    assert masks[4] is None


def test_masks_and_keypoints_are_converted_to_coco(folder: Path) -> None:
    polygon = [[10, 10, 30, 10, 30, 20, 10, 20]]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 10], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 10], "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [10, 10, 20, 10], "iscrowd": 0},
    ]
    annotations[0]["segmentation"] = polygon
    annotations[0]["keypoints"] = [12, 12, 2]
    annotations[1]["segmentation"] = {"size": [H, W], "counts": [0, 5, H * W - 5]}
    content = {
        "images": [
            {"id": n + 1, "file_name": f"{n}.jpg", "width": W, "height": H} for n in range(3)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    out = folder.parent / f"{folder.name}_out"
    assert main(["data", "convert", str(folder), "--out", str(out)]) == 0
    files = sorted((out / "annotations").glob("*.json"))
    found = [a for file in files for a in json.loads(file.read_text())["annotations"]]
    (object_,) = [a for a in found if "keypoints" in a]
    (crowd,) = [a for a in found if a["iscrowd"]]
    (box,) = [a for a in found if "segmentation" not in a]
    assert object_["segmentation"] == polygon
    assert object_["keypoints"] == [12, 12, 2]
    assert segmentation_to_bitmask(crowd["segmentation"], H, W).sum() == 5
    assert (object_["area"], crowd["area"], box["area"]) == (200, 5, 200)
    assert main(["data", "show", str(folder)]) == 0  # the sheet has masks of another size


def test_annotations_become_instances(folder: Path) -> None:
    cvat(folder, '<mask label="cat" left="5" top="6" width="3" height="2" rle="0, 6"></mask>')
    annotations = records_of(folder)[0]["annotations"]
    masks = annotations_to_instances(annotations, (H, W), mask_format="bitmask").gt_masks
    assert isinstance(masks, BitMasks)
    assert masks.area().tolist() == [6]
