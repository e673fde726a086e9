"""RetinaNet agrees with detectron2 0.6, from its config files, with its parameter names.

Detections of `retinanet_R_50_FPN` have a limit: with the recipe's weights 804 candidates score
exactly 1.0, and which 100 of them NMS keeps is decided by where a sort leaves equal scores. So
here the reference's detections have to be what our candidates become in some order of the equal
ones.

`retinanet_giou_gn`, the same code with other losses and norms, has no ties: its detections are
compared one by one.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lucidet.layers import batched_nms
from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.structures import Boxes, Instances
from tests.modeling.reference import (
    Reference,
    assert_features,
    assert_losses_gradients_and_counts,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]


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
    assert_losses_gradients_and_counts(reference)


@torch.no_grad()
def test_detections(reference: Reference) -> None:
    outputs = reference.model.eval()(reference.inputs())
    for i, output in enumerate(outputs):
        found = output["instances"]
        boxes, scores, classes = expected_of(reference, i)
        if (scores == 1.0).all():
            assert (found.scores == 1.0).all()
            assert_some_order_of_ties_gives(reference, i, boxes, classes)
            continue
        assert len(found) == len(boxes)
        torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=0)
        assert torch.equal(found.pred_classes, classes)
        torch.testing.assert_close(found.pred_boxes.tensor, boxes, rtol=0, atol=1e-2)


@torch.no_grad()
def candidates_of_score_1(reference: Reference, image: int) -> Instances:
    """Every anchor and class of the image that the model scores exactly 1.0, boxes not clipped."""
    model = reference.model
    images = model.preprocess_image(reference.inputs())
    features = model.backbone(images.tensor)
    levels = [features[name] for name in model.head_in_features]
    logits, deltas = model._rows(model.head(levels))
    anchors = torch.cat([level.tensor for level in model.anchor_generator(levels)])
    row, classes = (
        (torch.cat([level[image] for level in logits]).sigmoid() == 1.0).nonzero().unbind(dim=1)
    )
    boxes = model.box2box_transform.apply_deltas(
        torch.cat([level[image] for level in deltas])[row], anchors[row]
    )
    return Instances(images.image_sizes[image], pred_boxes=Boxes(boxes), pred_classes=classes)


def assert_some_order_of_ties_gives(
    reference: Reference, image: int, boxes: Tensor, classes: Tensor
) -> None:
    """Taken in some order, our candidates of score 1.0 become the reference's detections.

    NMS takes the candidates one after the other and stops at 100 kept. Of those, the ones outside
    the image are empty when clipped, and dropped: the reference shows 9 and 4. Here the reference's
    own are taken first, then those outside.
    """
    model, record = reference.model, reference.inputs()[image]
    found = candidates_of_score_1(reference, image)
    shown = detector_postprocess(found, record["height"], record["width"], keep_empty=True)
    distance = (boxes[:, None] - shown.pred_boxes.tensor[None]).abs().amax(dim=2)
    distance[classes[:, None] != found.pred_classes] = float("inf")
    nearest, own = distance.min(dim=1)
    assert nearest.max() < 1e-2, "a detection of the reference is no candidate of ours"

    rank = torch.full((len(found),), 2.0)
    rank[~shown.pred_boxes.nonempty()] = 1.0
    rank[own] = 0.0
    keep = batched_nms(found.pred_boxes.tensor, -rank, found.pred_classes, model.test_nms_thresh)[
        : model.max_detections_per_image
    ]
    kept = shown[keep[torch.isin(keep, shown.pred_boxes.nonempty().nonzero().squeeze(1))]]
    assert len(kept) == len(boxes)
    assert torch.equal(kept.pred_classes.sort().values, classes.sort().values)
