"""Detections in the frame of the original image."""

from __future__ import annotations

import pytest
import torch

from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.structures import Boxes, Instances


def detections(boxes: list[list[float]], field: str = "pred_boxes") -> Instances:
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances((50, 100), **{field: Boxes(tensor), "scores": torch.arange(len(boxes))})


@pytest.mark.parametrize("field", ["pred_boxes", "proposal_boxes"])
def test_scaled_clipped_and_filtered(field: str) -> None:
    given = detections([[10, 10, 20, 20], [90, 40, 120, 60], [100, 0, 110, 9], [5, 5, 5, 9]], field)
    out = detector_postprocess(given, 100, 400)
    assert out.image_size == (100, 400)
    assert out.get(field).tensor.tolist() == [[40, 20, 80, 40], [360, 80, 400, 100]]
    assert out.scores.tolist() == [0, 1]


def test_input_is_left_alone() -> None:
    given = detections([[10, 10, 20, 20]])
    detector_postprocess(given, 500, 10)
    assert given.pred_boxes.tensor.tolist() == [[10, 10, 20, 20]]
    assert given.image_size == (50, 100)


def test_nothing_detected() -> None:
    assert len(detector_postprocess(detections([]), 20, 20)) == 0


def test_needs_boxes_and_a_size() -> None:
    with pytest.raises(ValueError, match=r"pred_boxes or proposal_boxes.*\['scores'\]"):
        detector_postprocess(Instances((5, 5), scores=torch.zeros(2)), 10, 10)
    with pytest.raises(ValueError, match="height 0, width 10"):
        detector_postprocess(detections([]), 0, 10)
