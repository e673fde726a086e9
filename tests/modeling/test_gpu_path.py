"""The way that two-stage detectors take on a GPU gives the numbers of the way on a CPU.

A pretended GPU: its operators run on the CPU, and plain forms stand in for hand-written kernels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lucidet.modeling.optimize.on_host import detections_on_host
from tests.modeling.host_waits import counted_host_waits, put_on_host
from tests.modeling.tiny import C4, CASCADE, FPN, record, tiny_config, tiny_model

PARTS = {"FPN": (FPN,), "C4": (C4,), "cascade": (FPN, CASCADE)}
#: waits of a training step, whatever the number of images: positives of the RPN, sampled proposals,
#: and of a cascade the boxes that each later stage begins with
TRAINING_WAITS = {"FPN": 2, "C4": 2, "cascade": 4}


def batch(images: int) -> list[dict[str, Any]]:
    boxes = [[10.0, 10, 60, 70], [30, 5, 90, 50], [2, 50, 40, 90]]
    return [record((96, 128), boxes[: 3 - image], seed=image) for image in range(images)]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("images", [1, 3])
def test_training(name: str, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_config(*PARTS[name])).train()
    torch.manual_seed(1)
    expected = model(batch(images))
    torch.manual_seed(1)
    with counted_host_waits(monkeypatch) as waits:
        losses = model(put_on_host(batch(images)))
    assert len(waits) == TRAINING_WAITS[name], waits.places
    for loss, value in expected.items():
        assert losses[loss].item() == pytest.approx(value.item(), rel=1e-4), loss


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("images", [1, 3])
def test_inference(name: str, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU waits once: when somebody looks at the detections."""
    model = tiny_model(tiny_config(*PARTS[name])).eval()
    with torch.no_grad():
        expected = [found["instances"] for found in model(batch(images))]
        with counted_host_waits(monkeypatch) as waits:
            outputs = model(put_on_host(batch(images)))
            assert waits.places == []
            found = [output["instances"].to("cpu") for output in outputs]
            lengths = [len(own) for own in found]
            assert len(waits) == 1, waits.places
    assert lengths == [len(own) for own in expected]
    assert sum(lengths) > 0
    for own, wanted in zip(found, expected, strict=True):
        assert own.pred_classes.tolist() == wanted.pred_classes.tolist()
        torch.testing.assert_close(own.scores, wanted.scores)
        torch.testing.assert_close(
            own.pred_boxes.tensor, wanted.pred_boxes.tensor, atol=1e-3, rtol=0
        )


def test_detections_of_an_optimized_model_come_back_in_one_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model(tiny_config(FPN)).eval()
    with torch.no_grad():
        expected = [found["instances"].scores for found in model(batch(2))]
        with counted_host_waits(monkeypatch) as waits:
            outputs = detections_on_host(model(put_on_host(batch(2))))
            scores = [output["instances"].scores for output in outputs]
            assert len(waits) == 1, waits.places
    for found, wanted in zip(scores, expected, strict=True):
        torch.testing.assert_close(found, wanted)
