"""ATSS against numbers computed with its authors' code (legacy "+1" boxes)."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lucidet.config import get_cfg
from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.modeling.assigners.atss import grow
from lucidet.modeling.backbone import Backbone
from lucidet.modeling.legacy import LegacyBox2BoxTransform
from lucidet.modeling.meta_arch.atss import ATSS, PointTransform, build_assigner
from lucidet.structures import Boxes, ImageList, Instances

NUM_LEVELS = 5
STRIDES = [8, 16, 32, 64, 128]
SIZES = [64, 128, 256, 512, 1024]
NUM_CLASSES = 3
KINDS = list(product(("ATSS", "TOPK", "IoU", "SSC"), ("BOX", "POINT")))


class _NoBackbone(Backbone):
    """The predictions are given, so there is nothing to compute."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {f"p{i + 3}": ShapeSpec(channels=1, stride=s) for i, s in enumerate(STRIDES)}


def _model(positive_type: str, regression_type: str) -> ATSS:
    cfg = get_cfg()
    cfg.MODEL.LEGACY_PLUS_ONE = True
    cfg.MODEL.ATSS.POSITIVE_TYPE = positive_type
    points = regression_type == "POINT"
    return ATSS(
        backbone=_NoBackbone(),
        head=nn.Identity(),
        head_in_features=["p3", "p4", "p5", "p6", "p7"],
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[s] for s in SIZES], aspect_ratios=[[1.0]], strides=STRIDES, offset=0.5
        ),
        box2box_transform=PointTransform(8.0) if points else LegacyBox2BoxTransform((10, 10, 5, 5)),
        assigner=build_assigner(cfg),
        num_classes=NUM_CLASSES,
        pixel_mean=[0.0],
        pixel_std=[1.0],
        legacy_plus_one=True,
    )


class _Reference:
    """One file of reference numbers."""

    def __init__(self, path: Path) -> None:
        self.arrays = np.load(path)
        self.size = tuple(int(v) for v in self.arrays["in/image_hw"])
        self.num_images = len(self["in/logits/0"])

    def __getitem__(self, name: str) -> Tensor:
        return torch.as_tensor(self.arrays[name])

    def levels(self, name: str) -> list[Tensor]:
        return [self[f"{name}/{level}"].clone() for level in range(NUM_LEVELS)]

    def objects(self) -> list[Instances]:
        return [
            Instances(
                self.size,
                gt_boxes=Boxes(self[f"in/gt_boxes/{i}"]),
                gt_classes=self[f"in/gt_classes/{i}"],
            )
            for i in range(self.num_images)
        ]


@pytest.fixture(scope="module")
def reference(fixtures_dir: Path) -> _Reference:
    return _Reference(fixtures_dir / "atss_reference.npz")


@pytest.fixture(params=KINDS, ids=["-".join(kind) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


def test_anchors(reference: _Reference) -> None:
    anchors = _model("ATSS", "BOX").anchor_generator(reference.levels("in/logits"))
    for level, boxes in enumerate(anchors):
        expected = grow(reference[f"out/anchors/{level}"], 0.5)  # a legacy box as a plain one
        torch.testing.assert_close(boxes.tensor, expected)


def test_targets(reference: _Reference, kind: tuple[str, str]) -> None:
    model = _model(*kind)
    anchors = model.anchor_generator(reference.levels("in/logits"))
    labels, _ = model.label_anchors(anchors, reference.objects())
    got = torch.stack(labels)
    got = torch.where(got == -1, -2, torch.where(got == NUM_CLASSES, -1, got))
    assert torch.equal(got, reference[f"out/{'_'.join(kind)}/labels"])


def test_losses_and_gradients(reference: _Reference, kind: tuple[str, str]) -> None:
    model = _model(*kind)
    names = ["in/logits", f"in/deltas_{kind[1]}", "in/centerness"]
    maps = [[m.requires_grad_() for m in reference.levels(name)] for name in names]
    images = ImageList(torch.zeros(2, 1, *reference.size), [reference.size] * 2)
    losses = model.forward_training(images, maps[0], maps, reference.objects())
    got = [losses[name].item() for name in ("loss_cls", "loss_box_reg", "loss_centerness")]
    assert got == pytest.approx(reference[f"out/{'_'.join(kind)}/losses"].tolist(), rel=1e-4)

    sum(losses.values()).backward()
    norms = [torch.cat([m.grad.flatten() for m in levels]).norm().item() for levels in maps]
    expected = reference[f"out/{'_'.join(kind)}/grad_norms"].tolist()
    assert norms == pytest.approx(expected, rel=1e-4)


def test_detections(reference: _Reference, kind: tuple[str, str]) -> None:
    model = _model(*kind)
    names = ["in/logits", f"in/deltas_{kind[1]}", "in/centerness"]
    maps = [reference.levels(name) for name in names]
    images = ImageList(torch.zeros(2, 1, *reference.size), [reference.size] * 2)
    for image, found in enumerate(model.forward_inference(images, maps[0], maps)):
        boxes, scores, classes = (
            reference[f"out/{'_'.join(kind)}/det_{name}/{image}"]
            for name in ("boxes", "scores", "classes")
        )
        assert len(found) == len(boxes)
        torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-6)
        order, expected = (
            _canonical(s, c) for s, c in ((found.scores, found.pred_classes), (scores, classes))
        )
        assert torch.equal(found.pred_classes[order], classes[expected])
        torch.testing.assert_close(
            found.pred_boxes.tensor[order], boxes[expected], rtol=0, atol=1e-2
        )


def _canonical(scores: Tensor, classes: Tensor) -> list[int]:
    """Return an order in which detections of equal score don't depend on how ties were broken."""
    rounded = [round(score, 5) for score in scores.tolist()]
    return sorted(range(len(scores)), key=lambda i: (-rounded[i], int(classes[i])))
