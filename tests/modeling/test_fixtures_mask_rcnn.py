"""Mask R-CNN and Keypoint R-CNN agree with detectron2, from its config files.

All files of the folder that hold masks or keypoints are compared: `LUCIDET_FIXTURES` may name a
folder with others. Their layout and the agreement asked for are in the fixtures' README.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lucidet.structures import Instances
from tests.conftest import SHARED
from tests.modeling.reference import (
    Reference,
    assert_features,
    assert_losses_gradients_and_counts,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]

KINDS = ("COCO-InstanceSegmentation/", "COCO-Keypoints/", "Misc/", "LVIS", "Cityscapes/")


def names() -> Iterator[str]:
    """Yield the names of the files of these configs."""
    folder = Path(os.environ.get("LUCIDET_FIXTURES", SHARED / "fixtures"))
    for path in sorted(folder.glob("detectron2_*.npz")):
        with np.load(path) as data:
            if json.loads(str(data["meta"]))["config"].startswith(KINDS):
                yield path.stem.removeprefix("detectron2_")


@pytest.fixture(scope="module", params=list(names()))
def reference(request: pytest.FixtureRequest, fixtures_dir: Path) -> Reference:
    return Reference(fixtures_dir, request.param)


def test_features(reference: Reference) -> None:
    assert_features(reference)


def test_losses_gradients_and_counts(reference: Reference) -> None:
    # elsewhere the backbone's gradients come through sampling points that are off by 0.1 pixel
    assert_losses_gradients_and_counts(reference, 1e-4 if reference.same_arithmetic else 4e-4)


@pytest.fixture(scope="module")
def found(reference: Reference) -> tuple[list[Instances], list[dict[str, Any]]]:
    """Detections in the frame of the input, and what becomes of them at twice its size."""
    model, inputs = reference.model.eval(), reference.inputs()
    with torch.no_grad():
        instances = model.inference(inputs, do_postprocess=False)
        sizes = [tuple(record["image"].shape[1:]) for record in inputs]
        return instances, model._postprocess(instances, inputs, sizes)


def test_detections(reference: Reference, found: Any) -> None:
    for i, output in enumerate(found[1]):
        got = output["instances"]
        assert torch.equal(got.pred_classes, reference.tensor(f"out/detections/{i}/classes"))
        boxes = reference.tensor(f"out/detections/{i}/boxes")
        torch.testing.assert_close(got.pred_boxes.tensor, boxes, rtol=0, atol=1e-2)
        scores = reference.tensor(f"out/detections/{i}/scores")
        torch.testing.assert_close(got.scores, scores, rtol=1e-4, atol=0)


def test_masks(reference: Reference, found: Any) -> None:
    """At most 1 in 10 000 pixels differs."""
    for i, output in enumerate(found[1]):
        if f"out/detections/{i}/masks" not in reference.data:
            continue
        shape = reference.data[f"out/detections/{i}/masks_shape"]
        packed = reference.data[f"out/detections/{i}/masks"]
        expected = torch.from_numpy(np.unpackbits(packed, count=shape.prod()).reshape(shape))
        got = output["instances"].pred_masks
        assert got.dtype == torch.bool
        assert (got != expected.bool()).float().mean() <= 1e-4


def test_probabilities_inside_the_boxes(reference: Reference, found: Any) -> None:
    for i, instances in enumerate(found[0]):
        if f"out/detections/{i}/mask_probs" in reference.data:
            expected = reference.tensor(f"out/detections/{i}/mask_probs")
            got = instances.pred_masks[: len(expected), 0]
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_keypoints(reference: Reference, found: Any) -> None:
    """To 1e-2 pixel in the median: an argmax over a heat map, where a tie may move one."""
    for i, output in enumerate(found[1]):
        if f"out/detections/{i}/keypoints" not in reference.data:
            continue
        got = output["instances"].pred_keypoints
        expected = reference.tensor(f"out/detections/{i}/keypoints")
        assert got.shape == expected.shape
        assert (got[..., :2] - expected[..., :2]).abs().median() < 1e-2
        assert (got[..., 2] - expected[..., 2]).abs().median() < 1e-4
