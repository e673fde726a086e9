"""Stages, pictures and checks of masks and keypoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.inspection.checks import run_checks
from lucidet.inspection.page.report import render
from lucidet.inspection.run import inspect_image
from lucidet.inspection.stage_shapes import check_trace
from lucidet.inspection.trace import Trace
from tests.inspection.conftest import SIZES, make_record
from tests.modeling.tiny import C4, FPN, tiny_config

MASKS = [("MODEL.MASK_ON", True), ("MODEL.ROI_MASK_HEAD.CONV_DIM", 16)]
KEYPOINTS = [
    ("MODEL.KEYPOINT_ON", True),
    ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (16,)),
    ("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2),
    ("MODEL.ROI_HEADS.NUM_CLASSES", 1),
]
EVERYTHING = [("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)]
BOXES = [[10, 10, 60, 70], [70, 5, 120, 60]]
DATA = "inspected_keypoints"


@pytest.fixture(autouse=True)
def _names_of_keypoints() -> Iterator[None]:
    DatasetCatalog.register(DATA, list)
    MetadataCatalog.get(DATA).set(
        keypoint_names=["left", "right"], keypoint_flip_map=[("left", "right")]
    )
    yield
    DatasetCatalog.remove(DATA)
    MetadataCatalog.remove(DATA)


def walk(
    image_file: str, parts: Any, training: bool, *, polygon: Any = None, point: Any = None
) -> Trace:
    record = make_record(image_file)
    for entry, (x1, y1, x2, y2) in zip(record["annotations"], BOXES, strict=True):
        entry["segmentation"] = [[x1, y1, x2, y1, x2, y2]]
        entry["keypoints"] = [x1 + 5.0, y1 + 5.0, 2, x2 - 5.0, y2 - 5.0, 1]
    if polygon is not None:
        record["annotations"][0]["segmentation"] = [polygon]
    if point is not None:
        record["annotations"][0]["keypoints"][:3] = point
    more = [("DATASETS.TRAIN", (DATA,))]
    return inspect_image(tiny_config(*parts, SIZES, EVERYTHING, more), record, training=training)


@pytest.mark.parametrize(
    ("parts", "training", "stages"),
    [
        ((FPN, MASKS), True, {"mask.targets"}),
        ((FPN, MASKS), False, {"mask.head", "detections.masks"}),
        ((C4, MASKS), True, {"mask.targets"}),
        ((FPN, KEYPOINTS), True, {"keypoint.targets"}),
        ((FPN, KEYPOINTS), False, {"keypoint.head", "detections.keypoints"}),
        ((FPN, MASKS, KEYPOINTS), True, {"mask.targets", "keypoint.targets"}),
    ],
    ids=["masks", "masks eval", "masks C4", "keypoints", "keypoints eval", "both"],
)
def test_stages_and_their_pictures(
    image_file: str, parts: Any, training: bool, stages: set[str]
) -> None:
    trace = walk(image_file, parts, training)
    assert trace.context["error"] == ""
    assert check_trace(trace) == []
    seen = {event.name for event in trace if event.name.startswith(("mask.", "keypoint."))}
    seen |= {event.name for event in trace if event.name.startswith("detections.")}
    assert seen - {"detections.nms", "detections.final"} == stages
    page = render(trace)
    for stage in stages:
        assert f'"name": "{stage}"' in page or f'"name":"{stage}"' in page
    checks = {finding.check for finding in run_checks(trace)}
    assert not checks & {"mask-without-area", "keypoint-outside-box"}


def test_a_mask_without_area(image_file: str) -> None:
    trace = walk(image_file, (FPN, MASKS), True, polygon=[10, 10, 60, 10, 30, 10])
    found = [f for f in run_checks(trace) if f.check == "mask-without-area"]
    assert found[0].stage == "input.read"
    assert found[0].message == "ground-truth box 0, 50 x 60 pixels: its mask has no area"


def test_a_mask_outside_of_its_box(image_file: str) -> None:
    trace = walk(image_file, (FPN, MASKS), True, polygon=[100, 80, 120, 80, 120, 95])
    found = [f for f in run_checks(trace) if f.check == "mask-without-area"]
    assert found
    assert found[0].stage == "mask.targets"
    assert "nothing of its ground-truth mask lies inside" in found[0].message


def test_a_keypoint_outside_of_its_box(image_file: str) -> None:
    trace = walk(image_file, (FPN, KEYPOINTS), True, point=[90.0, 20.0, 2])
    (found,) = [f for f in run_checks(trace) if f.check == "keypoint-outside-box"]
    assert found.stage == "input.read"
    assert "keypoint 0 at (90, 20) is outside of [10.0, 10.0, 60.0, 70.0]" in found.message
