"""Coverage: positives as the model's assigner gives on all anchors; the proposal; files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lucidet.cli.main import main
from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.coverage.measure import measure
from lucidet.coverage.objects import Objects, read_objects
from lucidet.coverage.proposal import propose
from lucidet.coverage.report import CoverageReport, as_text
from lucidet.coverage.schemes import Scheme, schemes_of
from lucidet.modeling.assigners import assign_batch
from lucidet.structures import Boxes, BoxMode, PaddedBoxes, pairwise_iou


def _config(name: str = "faster_rcnn_R_18_FPN") -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(find_config(name))
    cfg.MODEL.WEIGHTS = ""
    return cfg


def _objects(images: int = 9, most: int = 7) -> Objects:
    """Random boxes, thin, tiny, huge and at borders, on images of two sizes and shapes."""
    random = np.random.default_rng(3)
    boxes, image, sizes = [], [], []
    for number in range(images):
        width, height = [(320, 224), (200, 333), (90, 40)][number % 3]
        sizes.append((width, height))
        for _ in range(1 + number % most):
            side = np.exp(random.uniform(np.log(4), np.log(width), 2))
            w, h = min(side[0], width - 1), min(side[1], height - 1)
            x, y = random.choice([0.0, 0.5, 1.0]) * (width - w), random.uniform(0, height - h)
            boxes.append((x, y, x + w, y + h))
            image.append(number)
    return Objects(
        np.array(boxes, np.float32),
        np.zeros(len(boxes), np.int64),
        np.array(image),
        np.array(sizes),
        np.arange(images),
        ["thing"],
    )


@pytest.fixture(scope="module")
def schemes() -> list[Scheme]:
    return schemes_of(_config(), "faster_rcnn_R_18_FPN")


def _on_all_anchors(scheme: Scheme, objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    positives, best = [], []
    for number, (width, height) in enumerate(objects.sizes.tolist()):
        levels = [Boxes(level.anchors) for level in scheme.levels(*scheme.padded(width, height))]
        own = Boxes(torch.from_numpy(objects.boxes[objects.image == number]))
        found = assign_batch(scheme.assigner, levels, PaddedBoxes.from_boxes([own])).image(0)
        positives.append(torch.bincount(found.matched_idxs[found.labels == 1], minlength=len(own)))
        best.append(pairwise_iou(own, Boxes.cat(levels)).amax(dim=1))
    return torch.cat(positives).numpy(), torch.cat(best).numpy()


@pytest.mark.parametrize("name", ["max-IoU", "ATSS", "FCOS"])
def test_positives_are_those_of_the_assigner_on_all_anchors(
    name: str, schemes: list[Scheme]
) -> None:
    scheme = next(s for s in schemes if s.name == name)
    objects = _objects()
    found = measure(scheme, objects)
    positives, best = _on_all_anchors(scheme, objects)
    assert found.positives.tolist() == positives.tolist()
    if scheme.shapes:
        np.testing.assert_allclose(found.best_iou, best, atol=1e-6)
    else:
        assert np.isnan(found.best_iou).all()


def test_the_rule_of_the_config_is_marked(schemes: list[Scheme]) -> None:
    assert [(s.name, s.own) for s in schemes] == [
        ("max-IoU", True),
        ("ATSS", False),
        ("FCOS", False),
    ]


def test_boxes_are_resized_as_for_training() -> None:
    box = {"bbox": [10, 20, 110, 60], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    records = [
        {"width": 200, "height": 100, "annotations": []},
        {"width": 200, "height": 100, "annotations": [box, {**box, "iscrowd": 1}]},
    ]
    found = read_objects(records, ["a"], 150, 1000)
    assert found.boxes.tolist() == [[15.0, 30.0, 165.0, 90.0]]
    assert found.sizes.tolist() == [[300, 150]]
    assert found.records.tolist() == [1]
    with pytest.raises(ValueError, match="none of 1 images has a box"):
        read_objects(records[:1], ["a"], 150, 1000)


def test_anchors_are_proposed_for_small_flat_boxes() -> None:
    width, height = 12.0, 3.0
    corners = np.arange(40, dtype=np.float32)[:, None] * np.array([1, 0], np.float32)
    sides = np.array([width, height], np.float32)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    objects = Objects(
        boxes,
        np.zeros(40, np.int64),
        np.zeros(40, np.int64),
        np.array([[64, 64]]),
        np.zeros(1, np.int64),
        ["flat"],
    )
    found = propose(_config(), objects)
    assert found.changed
    assert found.covered[1] > found.covered[0]
    node = yaml.safe_load(found.yaml())
    cfg = _config()
    cfg.merge_from_other_cfg(CfgNode(node))
    assert [float(r) for r in cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0]] == [0.25] * 3


def test_report_with_a_box_that_nothing_covers(schemes: list[Scheme]) -> None:
    objects = _objects(3, 2)
    results = [measure(scheme, objects) for scheme in schemes]
    report = CoverageReport("toy", (800, 1333), objects, results)
    text = as_text(report)
    assert "max-IoU (the config's)" in text
    records = [{"image_id": f"i{n}"} for n in range(3)]
    content = report.as_dict(records)
    assert content["all"]["FCOS"]["best_iou"] is None
    assert len(content["without_positive"]) == content["all"]["max-IoU"]["without"]
    assert sum(rows["ATSS"]["count"] for rows in content["by_size"].values()) == len(objects.boxes)


def test_command(datasets_dir: Path, tmp_path: Path, forget_specifications: None) -> None:
    out = tmp_path / "out"
    line = ["coverage", "--data", str(datasets_dir / "coco"), "--model", "faster_rcnn_R_18_FPN"]
    assert main([*line, "--weights", "none", "--out", str(out)]) == 0
    page = (out / "coverage.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2
    assert "<script" not in page
    content = json.loads((out / "coverage.json").read_text())
    assert content["all"]["max-IoU"]["count"] == 731
    assert (out / "anchors.yaml").is_file()
