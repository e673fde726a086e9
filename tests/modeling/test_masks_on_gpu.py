"""Mask and keypoint heads on a (pretended) GPU: few waits, and operators that don't grow with N."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lucidet.modeling import build_model
from lucidet.structures import BitMasks, Keypoints, PolygonMasks
from tests.modeling.host_waits import counted_host_waits
from tests.modeling.operator_count import counted_operators
from tests.modeling.pretended_gpu import put_on_host
from tests.modeling.tiny import FPN, record, tiny_config, tiny_model

SIZE = (96, 128)
MASKS = [("MODEL.MASK_ON", True), ("MODEL.ROI_MASK_HEAD.CONV_DIM", 8)]
KEYPOINTS = [
    ("MODEL.KEYPOINT_ON", True),
    ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (8,)),
    ("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2),
]
#: waits of a training step: two of Faster R-CNN; which ground truth each proposal has; which
#: proposals are foreground; their boxes, where polygons are filled on the CPU; and with keypoints
#: which are foreground, and which of these have a visible one
WAITS = {"bitmask": 4, "polygon": 5, "keypoints": 5}


def batch(kind: str, images: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return noise images with three objects each, on the host."""
    generator = torch.Generator().manual_seed(seed)
    records = []
    for image in range(images):
        low = 50 * torch.rand(3, 2, generator=generator)
        boxes = torch.cat([low, low + 20 + 25 * torch.rand(3, 2, generator=generator)], dim=1)
        own = record(SIZE, boxes.tolist(), seed=10 * seed + image)
        polygons = PolygonMasks([[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes])
        if kind == "polygon":
            own["instances"].gt_masks = polygons
        elif kind == "bitmask":
            own["instances"].gt_masks = BitMasks.from_polygon_masks(polygons, *SIZE)
        else:
            points = torch.full((3, 2, 3), 2.0)
            points[..., :2] = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
            own["instances"].gt_keypoints = Keypoints(points)
        records.append(own)
    return put_on_host(records)


def model_of(kind: str) -> torch.nn.Module:
    """Return a model whose boxes behave as if trained; its further head is random."""
    boxes_only = tiny_model(tiny_config(FPN)).state_dict()
    torch.manual_seed(0)
    model = build_model(tiny_config(FPN, KEYPOINTS if kind == "keypoints" else MASKS))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    same = {n: v for n, v in boxes_only.items() if shapes.get(n) == v.shape}
    model.load_state_dict(same, strict=False)
    return model.train()


@pytest.mark.parametrize("kind", WAITS)
def test_waits_of_a_training_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(kind)
    for images in (2, 4):
        data = batch(kind, images)
        with counted_host_waits(monkeypatch) as waits:
            sum(model(data).values()).backward()
        assert len(waits) <= WAITS[kind], waits.places


@pytest.mark.parametrize("kind", WAITS)
def test_operators_of_a_training_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(kind)
    counts = []
    for images in (2, 6):
        data = batch(kind, images)
        model.zero_grad()
        with counted_operators(monkeypatch) as operators:
            sum(model(data).values()).backward()
        counts.append(operators)
    few, many = counts
    assert len(many) <= 1.05 * len(few), many.by("place")[:20]
