"""RetinaNet agrees with detectron2 0.6, from its config files, with its parameter names.

Detections of `retinanet_R_50_FPN` have a limit: with the recipe's weights 804 candidates score
exactly 1.0. NMS takes equal scores in the order in which a sort leaves them, and so keeps others,
and another number of them, than the reference: that can't be compared. Every detection of the
reference is looked for among our candidates of score 1.0 instead.

`retinanet_giou_gn`, the same code with other losses and norms, has no ties: its detections are
compared one by one.
"""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from lucidet.structures import Boxes
from tests.modeling.reference import Reference, assert_features

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["retinanet_R_50_FPN", "retinanet_giou_gn"])
def reference(request: pytest.FixtureRequest, fixtures_dir) -> Reference:
    return Reference(fixtures_dir, request.param)


def expected_of(reference: Reference, image: int) -> tuple[Tensor, Tensor, Tensor]:
    boxes, scores, classes = (
        reference.tensor(f"out/detections/{image}/{name}")
        for name in ("boxes", "scores", "classes")
    )
    return boxes, scores, classes


def test_features(reference: Reference) -> None:
    assert_features(reference)


def test_losses_gradients_and_counts(reference: Reference) -> None:
    model = reference.model.train()
    model.zero_grad()
    losses = model(reference.inputs())
    expected = json.loads(str(reference.data["out/losses"]))
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected, rel=1e-4)

    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    norms = json.loads(str(reference.data["out/grad_norms"]))
    # in double: a float32 sum over 4.7e6 squares is itself off by 3.5e-4
    found = {name: parameters[name].grad.double().norm().item() for name in norms}
    assert found == pytest.approx(norms, rel=1e-4)

    counts = reference.meta["events"]
    metrics = {name: float(model.metrics[name]) for name in counts if name in model.metrics}
    assert metrics == pytest.approx({name: counts[name] for name in metrics}, rel=1e-6)


@torch.no_grad()
def test_detections(reference: Reference) -> None:
    outputs = reference.model.eval()(reference.inputs())
    for i, output in enumerate(outputs):
        found = output["instances"]
        boxes, scores, classes = expected_of(reference, i)
        if (scores == 1.0).all():
            assert (found.scores == 1.0).all()
            assert_among_candidates(reference, i, boxes, classes)
            continue
        assert len(found) == len(boxes)
        torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=0)
        assert torch.equal(found.pred_classes, classes)
        torch.testing.assert_close(found.pred_boxes.tensor, boxes, rtol=0, atol=1e-2)


def assert_among_candidates(
    reference: Reference, image: int, boxes: Tensor, classes: Tensor
) -> None:
    """Each box, with its class, is that of an anchor that we too score 1.0, within 0.01 pixel."""
    model, record = reference.model, reference.inputs()[image]
    images = model.preprocess_image(reference.inputs())
    features = model._features(images)
    levels = [features[name] for name in model.head_in_features]
    logits, deltas = model._rows(model.head(levels))
    anchors = torch.cat([level.tensor for level in model.anchor_generator(levels)])
    row, found_classes = (
        (torch.cat([level[image] for level in logits]).sigmoid() == 1.0).nonzero().unbind(dim=1)
    )
    decoded = model.box2box_transform.apply_deltas(
        torch.cat([level[image] for level in deltas])[row], anchors[row]
    )
    candidates = Boxes(decoded)
    candidates.clip(images.image_sizes[image])
    height, width = images.image_sizes[image]
    candidates.scale(record["width"] / width, record["height"] / height)
    assert len(candidates) > len(boxes)
    distance = (boxes[:, None] - candidates.tensor[None]).abs().amax(dim=2)
    distance[classes[:, None] != found_classes] = float("inf")
    assert distance.amin(dim=1).max() < 1e-2
