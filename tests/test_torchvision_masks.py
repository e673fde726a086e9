"""torchvision's Mask R-CNN and Keypoint R-CNN against lucidet with the same random weights.

As in `test_torchvision_oracle`, which makes the weights; ground truth is ellipses and points inside
random boxes on real images.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.checkpoint import load_weights
from lucidet.structures import BitMasks, Boxes, Instances, Keypoints
from tests.test_torchvision_oracle import (
    LOSSES,
    build_oracle,
    build_ours,
    ground_truth,
    images,  # noqa: F401
    randomise_norms,
    spread_predictions,
)

pytestmark = pytest.mark.slow

MODELS = ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn"]
FURTHER_LOSSES = {"loss_mask": "loss_mask", "loss_keypoint": "loss_keypoint"}
#: labels of the ground truth, 1 to 90
LABELS = [1, 11, 13, 44, 62, 80]


@pytest.fixture(scope="module", params=MODELS)
def pair(
    request: pytest.FixtureRequest,
    images: list[Tensor],  # noqa: F811
) -> tuple[str, nn.Module, nn.Module]:
    """(name, torchvision's model, lucidet's with its weights)."""
    oracle = build_oracle(request.param)
    randomise_norms(oracle)
    spread_predictions(oracle, images)
    ours, _ = build_ours(request.param)
    ours.set_class_map([])
    report = load_weights(ours, oracle.state_dict())
    assert report.complete, report.table()
    return request.param, oracle, ours


def targets_of(name: str, images: list[Tensor]) -> list[dict[str, Tensor]]:  # noqa: F811
    """Return torchvision's targets: boxes with an ellipse, or with 17 points, in each."""
    generator = torch.Generator().manual_seed(5)
    targets = []
    for image, boxes in zip(images, ground_truth(images), strict=True):
        target = {"boxes": boxes, "labels": torch.tensor(LABELS)[: len(boxes)]}
        center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        if name.startswith("mask"):
            height, width = image.shape[1:]
            x = (torch.arange(width) + 0.5 - center[:, :1]) / half[:, :1]  # (M, W)
            y = (torch.arange(height) + 0.5 - center[:, 1:]) / half[:, 1:]
            target["masks"] = (x[:, None] ** 2 + y[..., None] ** 2 < 1).to(torch.uint8)
        else:
            target["labels"] = torch.ones(len(boxes), dtype=torch.int64)
            spread = torch.rand(len(boxes), 17, 2, generator=generator) * 2.2 - 1.1
            seen = torch.randint(0, 3, (len(boxes), 17, 1), generator=generator)
            places = center[:, None] + spread * half[:, None]  # some lie outside of the box
            target["keypoints"] = torch.cat([places, seen], dim=2)
        targets.append(target)
    return targets


def records_of(
    oracle: nn.Module,
    images: list[Tensor],  # noqa: F811
    targets: list[dict[str, Tensor]],
) -> list[dict[str, Any]]:
    """Return lucidet's inputs: images and ground truth as torchvision resizes them."""
    transform: Any = oracle.transform
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (transform.image_mean, transform.image_std)
    )
    records = []
    for image, target in zip(images, targets, strict=True):
        batch, (new,) = transform([image], [target])
        height, width = batch.image_sizes[0]
        instances = Instances((height, width), gt_boxes=Boxes(new["boxes"]))
        instances.gt_classes = new["labels"] - 1
        if "masks" in new:
            instances.gt_masks = BitMasks(new["masks"])
        if "keypoints" in new:
            instances.gt_keypoints = Keypoints(new["keypoints"])
        pixels = (batch.tensors[0, :, :height, :width] * std + mean) * 255
        size = {"height": image.shape[1], "width": image.shape[2]}
        records.append({"image": pixels, "instances": instances, **size})
    return records


@pytest.fixture
def records(
    pair: tuple[str, nn.Module, nn.Module],
    images: list[Tensor],  # noqa: F811
) -> list[dict[str, Any]]:
    return records_of(pair[1], images, targets_of(pair[0], images))


@torch.no_grad()
def test_detections_masks_and_keypoints_agree(
    pair: tuple[str, nn.Module, nn.Module],
    images: list[Tensor],  # noqa: F811
    records: list[dict[str, Any]],
) -> None:
    """At most 1 in 10 000 pixels of the masks differs; keypoints to 1e-2 pixel in the median."""
    _, oracle, ours = pair
    for theirs, output in zip(oracle.eval()(images), ours.eval()(records), strict=True):
        mine = output["instances"]
        assert len(mine) == len(theirs["labels"]) >= 20
        order = paired(theirs, mine)
        if "masks" in theirs:
            assert mine.pred_masks.shape == theirs["masks"][:, 0].shape
            differ = mine.pred_masks[order] != (theirs["masks"][:, 0] >= 0.5)
            assert differ.float().mean() <= 1e-4
        else:
            distance = (mine.pred_keypoints[order] - theirs["keypoints"])[..., :2].abs()
            assert distance.median() < 1e-2
            assert (distance < 1e-2).float().mean() > 0.98


def paired(theirs: dict[str, Tensor], mine: Instances) -> list[int]:
    """Return which of lucidet's detections is each of torchvision's; all of them are found."""
    same = theirs["labels"][:, None] - 1 == mine.pred_classes
    same &= (theirs["scores"][:, None] - mine.scores).abs() < 1e-4
    same &= (theirs["boxes"][:, None] - mine.pred_boxes.tensor).abs().amax(dim=2) < 1e-2
    order: list[int] = []
    for row in same:
        free = [i for i in row.nonzero().squeeze(1).tolist() if i not in order]
        assert free
        order.append(free[0])
    return order


def test_losses_agree(
    pair: tuple[str, nn.Module, nn.Module],
    images: list[Tensor],  # noqa: F811
    records: list[dict[str, Any]],
) -> None:
    """The same training losses where sampling takes everything."""
    name, oracle, ours = pair
    for model in (oracle.train(), ours.train()):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    with torch.no_grad():
        expected = oracle(images, targets_of(name, images))
        got = ours(records)
    names = {**LOSSES, **FURTHER_LOSSES}
    assert set(got) == {names[key] for key in expected}
    for key, value in expected.items():
        assert value > 0, key
        assert float(got[names[key]]) == pytest.approx(float(value), rel=1e-4), key
