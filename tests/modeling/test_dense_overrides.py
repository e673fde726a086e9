"""Methods of a dense detector that take one image are called where a subclass replaces them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.modeling.meta_arch.fcos import FCOS as FCOSDetector
from lucidet.modeling.meta_arch.retinanet import RetinaNet
from lucidet.structures import Boxes, Instances
from tests.modeling.tiny import FCOS, RETINANET, record, tiny_config, tiny_model

LOW = [("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0), ("MODEL.FCOS.SCORE_THRESH_TEST", 0.0)]
SIZE = (64, 96)


def detections(model: nn.Module) -> list[Instances]:
    images = [record(SIZE, None, seed=seed) for seed in range(2)]
    with torch.no_grad():
        return [output["instances"] for output in model.eval()(images)]


@pytest.fixture(params=[(RETINANET, RetinaNet), (FCOS, FCOSDetector)], ids=["retinanet", "fcos"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return tiny_model(tiny_config(request.param[0], LOW))


def calls_of(model: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Let a subclass replace the method by one that calls the old one, and note its calls."""
    seen: list[Any] = []
    base = type(model)

    def own(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return getattr(base, name)(self, *args, **kwargs)

    monkeypatch.setattr(model, "__class__", type("Own", (base,), {name: own}))
    return seen


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("inference_single_image", 2),
        ("_decode_multi_level_predictions", 2),
        ("_decode_per_level_predictions", 10),
        ("forward_inference", 1),
        ("_transpose_dense_predictions", 1),
    ],
)
def test_inference(
    model: nn.Module, name: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = detections(model)
    seen = calls_of(model, monkeypatch, name)
    found = detections(model)
    assert len(seen) == calls
    if name == "inference_single_image":  # detectron2's: scores (R_l, K) and deltas (R_l, 4)
        anchors, scores, deltas, size = seen[0]
        assert [s.shape for s in scores] == [(len(a), 3) for a in anchors]
        assert [d.shape for d in deltas] == [(len(a), 4) for a in anchors]
        assert (size, bool((scores[0] >= 0).all())) == (SIZE, True)
    for got, want in zip(found, expected, strict=True):
        assert torch.equal(got.pred_classes, want.pred_classes)
        torch.testing.assert_close(got.scores, want.scores)
        torch.testing.assert_close(got.pred_boxes.tensor, want.pred_boxes.tensor)


@pytest.mark.parametrize("name", ["label_anchors", "losses", "_ema_update"])
def test_training(model: nn.Module, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls_of(model, monkeypatch, name)
    images = [record(SIZE, [[5.0, 5, 40, 50]]), record(SIZE, [])]
    sum(model.train()(images).values()).backward()
    assert len(seen) == 1
    if name == "losses":  # detectron2's lists: per level, and per image
        anchors, logits, labels, _, boxes = seen[0][:5]
        rows = sum(map(len, anchors))
        assert [level.shape[1] for level in logits] == list(map(len, anchors))
        assert [own.shape for own in labels] == [(rows,)] * 2
        assert [own.shape for own in boxes] == [(rows, 4)] * 2


def test_replaced_labels_are_used(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def background(anchors: list[Boxes], gt: list[Instances]) -> tuple[list[Tensor], list[Tensor]]:
        rows = sum(map(len, anchors))
        return [torch.full((rows,), 3)] * len(gt), [torch.zeros(rows, 4)] * len(gt)

    monkeypatch.setattr(model, "label_anchors", background)
    losses = model.train()([record(SIZE, [[5.0, 5, 40, 50]])])
    assert sorted(name for name, value in losses.items() if value == 0) == sorted(
        name for name in losses if "cls" not in name
    )
