from __future__ import annotations

import math

import pytest
import torch

from lucidet.layers import ShapeSpec
from lucidet.modeling.box_regression import Box2BoxTransform
from lucidet.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    classification_metrics,
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from lucidet.structures import Boxes, Instances
from lucidet.utils.probe import watching

SIZE = (50, 80)
A, B, C = [0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 40, 40]  # A and B overlap by 0.91
TRANSFORM = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))


def layers(**options) -> FastRCNNOutputLayers:
    options = {"box2box_transform": TRANSFORM, "num_classes": 3, **options}
    return FastRCNNOutputLayers(ShapeSpec(channels=8), **options)


def detect(boxes, scores, *, thresh=0.05, nms=0.5, topk=100):
    scores = torch.tensor(scores, dtype=torch.float32).reshape(-1, 3)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(len(scores), -1)
    return fast_rcnn_inference_single_image(boxes, scores, SIZE, thresh, nms, topk)


@pytest.mark.parametrize(
    ("boxes", "scores", "options", "expected"),
    [
        # shared boxes; score, class and proposal of each detection
        ([A, C], [[0.2, 0.0, 0], [0.0, 0.7, 0]], {}, [(0.7, 1, 1), (0.2, 0, 0)]),
        ([A, B], [[0.2, 0.0, 0], [0.7, 0.0, 0]], {}, [(0.7, 0, 1)]),  # the same class: NMS
        ([A, B], [[0.2, 0.0, 0], [0.0, 0.7, 0]], {}, [(0.7, 1, 1), (0.2, 0, 0)]),
        ([A], [[0.2, 0.7, 0]], {}, [(0.7, 1, 0), (0.2, 0, 0)]),  # one proposal, two classes
        ([A], [[0.2, 0.7, 0]], {"topk": 1}, [(0.7, 1, 0)]),
        ([A], [[0.2, 0.7, 0]], {"topk": -1}, [(0.7, 1, 0), (0.2, 0, 0)]),
        ([A], [[0.2, 0.7, 0]], {"thresh": 0.2}, [(0.7, 1, 0)]),  # the score must be higher
        ([A], [[0.0, 0.0, 1]], {}, []),  # background
        ([[float("nan"), 0, 9, 9], A], [[0.9, 0, 0], [0.5, 0, 0]], {}, [(0.5, 0, 1)]),
        ([C, A], [[0.9, float("inf"), 0], [0.5, 0, 0]], {}, [(0.5, 0, 1)]),
        ([[]], [], {}, []),
    ],
)
def test_detections(boxes, scores, options, expected):
    if not scores:
        result, kept = fast_rcnn_inference_single_image(
            torch.zeros(0, 8), torch.zeros(0, 3), SIZE, 0.05, 0.5, 100
        )
    else:
        result, kept = detect(boxes, scores, **options)
    found = list(
        zip(result.scores.tolist(), result.pred_classes.tolist(), kept.tolist(), strict=True)
    )
    assert [(round(s, 5), c, k) for s, c, k in found] == expected
    assert len(result.pred_boxes) == len(expected)


def test_each_class_has_its_own_box_and_is_clipped():
    result, _ = detect([[*C, -5, -5, 500, 500]], [[0.2, 0.7, 0]])
    assert result.pred_boxes.tensor.tolist() == [[0, 0, 80, 50], C]


def test_predictions_are_left_alone():
    boxes = torch.tensor([[-5.0, 0, 10, 10]])
    fast_rcnn_inference_single_image(boxes, torch.tensor([[0.9, 0.1]]), SIZE, 0.05, 0.5, 100)
    assert boxes[0, 0] == -5


def test_images_are_apart_and_shown_by_number():
    seen = []
    with watching(lambda name, values: seen.append((name, values["image"]))):
        results, kept = fast_rcnn_inference(
            [torch.tensor([A]).float(), torch.zeros(0, 4)],
            [torch.tensor([[0.9, 0.1]]), torch.zeros(0, 2)],
            [SIZE, (5, 5)],
            0.05,
            0.5,
            100,
        )
    assert [len(r) for r in results] == [1, 0]
    assert [k.tolist() for k in kept] == [[0], []]
    assert results[1].image_size == (5, 5)
    assert seen == [("detections.nms", 0), ("detections.nms", 1)]


class TestLayers:
    def test_shapes_names_and_start_values(self):
        predictor = layers()
        scores, deltas = predictor(torch.rand(5, 8))
        assert (scores.shape, deltas.shape) == ((5, 4), (5, 12))
        assert set(predictor.state_dict()) == {
            "cls_score.weight",
            "cls_score.bias",
            "bbox_pred.weight",
            "bbox_pred.bias",
        }
        assert not predictor.cls_score.bias.any()
        assert predictor(torch.rand(0, 8))[0].shape == (0, 4)
        assert FastRCNNOutputLayers(
            8, box2box_transform=TRANSFORM, num_classes=3, cls_agnostic_bbox_reg=True
        )(torch.rand(2, 8))[1].shape == (2, 4)

    def test_sigmoids_start_at_one_percent(self):
        bias = layers(use_sigmoid_ce=True).cls_score.bias
        assert bias.sigmoid().tolist() == pytest.approx([0.01] * 4)

    def test_maps_are_flattened(self):
        predictor = FastRCNNOutputLayers(
            ShapeSpec(channels=2, height=2, width=2), box2box_transform=TRANSFORM, num_classes=3
        )
        assert predictor(torch.rand(5, 2, 2, 2))[0].shape == (5, 4)

    def test_the_federated_loss_is_refused(self):
        with pytest.raises(ValueError, match="USE_FED_LOSS False"):
            layers(use_fed_loss=True)


def sampled(boxes, classes, gt=None) -> Instances:
    def as_boxes(values):
        return Boxes(torch.tensor(values, dtype=torch.float32).reshape(-1, 4))

    result = Instances(
        SIZE, proposal_boxes=as_boxes(boxes), gt_classes=torch.tensor(classes).long()
    )
    if gt is not None:
        result.gt_boxes = as_boxes(gt)
    return result


class TestLosses:
    def test_by_hand(self):
        # C is class 1 and its own box; A is background
        proposals = [sampled([C, A], [1, 3], [C, C])]
        deltas = torch.zeros(2, 12)
        deltas[0] = torch.arange(12.0)  # class 1 has 4, 5, 6, 7: L1 to 0 is 22
        predictor = layers()
        losses = predictor.losses((torch.zeros(2, 4), deltas), proposals)
        assert losses["loss_cls"] == pytest.approx(math.log(4))
        assert losses["loss_box_reg"] == pytest.approx(22 / 2)  # over all samples

    def test_shared_boxes(self):
        predictor = layers(cls_agnostic_bbox_reg=True)
        deltas = torch.tensor([[1.0, 2, 3, 4], [9, 9, 9, 9]])
        losses = predictor.losses((torch.zeros(2, 4), deltas), [sampled([C, A], [2, 3], [C, C])])
        assert losses["loss_box_reg"] == pytest.approx(10 / 2)

    def test_sigmoids_by_hand(self):
        predictor = layers(use_sigmoid_ce=True)
        losses = predictor.losses(
            (torch.zeros(2, 4), torch.zeros(2, 12)), [sampled([C, A], [1, 3], [C, C])]
        )
        # three classes, log 2 each, the same for every proposal; background's column is unused
        assert losses["loss_cls"] == pytest.approx(3 * math.log(2))

    @pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
    def test_every_box_loss_is_zero_at_its_target(self, kind):
        predictor = layers(box_reg_loss_type=kind)
        deltas = torch.zeros(1, 12, requires_grad=True)
        losses = predictor.losses((torch.zeros(1, 4), deltas), [sampled([C], [0], [C])])
        assert losses["loss_box_reg"].item() == pytest.approx(0, abs=1e-6)
        losses["loss_box_reg"].backward()
        assert deltas.grad.isfinite().all()

    @pytest.mark.parametrize(
        "proposals",
        [
            [sampled([A, C], [3, 3])],  # an image without objects has no gt_boxes
            [sampled([], [])],
            [sampled([], [], []), sampled([], [])],
        ],
    )
    @pytest.mark.parametrize("sigmoid", [False, True])
    @pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
    def test_without_foreground(self, proposals, sigmoid, kind):
        predictor = layers(use_sigmoid_ce=sigmoid, box_reg_loss_type=kind)
        count = sum(map(len, proposals))
        losses = predictor.losses(predictor(torch.rand(count, 8)), proposals)
        assert losses["loss_box_reg"] == 0
        total = sum(losses.values())
        assert total.isfinite()
        total.backward()
        for parameter in predictor.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()

    @pytest.mark.parametrize(
        ("weight", "factors"), [(2.0, (2, 2)), ({"loss_box_reg": 3.0}, (1, 3))]
    )
    def test_weights(self, weight, factors):
        predictions = (torch.randn(2, 4), torch.randn(2, 12))
        proposals = [sampled([C, A], [1, 3], [C, C])]
        plain = layers().losses(predictions, proposals)
        weighted = layers(loss_weight=weight).losses(predictions, proposals)
        for name, factor in zip(("loss_cls", "loss_box_reg"), factors, strict=True):
            assert weighted[name] == pytest.approx(float(plain[name]) * factor)

    def test_overridden_box_loss_is_used(self):
        class Mine(FastRCNNOutputLayers):
            def box_reg_loss(self, proposal_boxes, gt_boxes, pred_deltas, gt_classes):
                return pred_deltas.sum() * 0 + 7

        predictor = Mine(8, box2box_transform=TRANSFORM, num_classes=3)
        losses = predictor.losses(predictor(torch.rand(1, 8)), [sampled([C], [0], [C])])
        assert losses["loss_box_reg"] == 7


class TestPredictions:
    proposals = [sampled([A, C], [0, 3]), sampled([], [])]

    def test_boxes_and_scores_by_image(self):
        predictor = layers()
        predictions = (torch.randn(2, 4), torch.zeros(2, 12))
        boxes = predictor.predict_boxes(predictions, self.proposals)
        assert [b.shape for b in boxes] == [(2, 12), (0, 12)]
        assert boxes[0].tolist() == [A * 3, C * 3]
        scores = predictor.predict_probs(predictions, self.proposals)
        assert [s.shape for s in scores] == [(2, 4), (0, 4)]
        assert scores[0].sum(dim=1).tolist() == pytest.approx([1, 1])

    def test_boxes_of_the_true_class(self):
        deltas = torch.zeros(2, 12)
        deltas[0, 0] = 10.0  # class 0 is shifted by its width
        boxes = layers().predict_boxes_for_gt_classes((torch.randn(2, 4), deltas), self.proposals)
        assert [b.tolist() for b in boxes] == [[[10, 0, 20, 10], C], []]

    def test_inference(self):
        scores = torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 9.0]])
        (first, second), kept = layers(test_score_thresh=0.5).inference(
            (scores, torch.zeros(2, 12)), self.proposals
        )
        assert first.pred_boxes.tensor.tolist() == [A]
        assert first.pred_classes.tolist() == [0]
        assert len(second) == 0
        assert [k.tolist() for k in kept] == [[0], []]

    def test_no_image(self):
        assert layers().predict_boxes((torch.zeros(0, 4), torch.zeros(0, 12)), []) == ()


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ([0, 1, 3, 3], [0, 2, 1, 3], (0.5, 1 / 3, 1 / 3)),
        ([3], [3], (1, 0, 0)),
        ([], [], (0, 0, 0)),
    ],
)
def test_metrics(predicted, truth, expected):
    logits = torch.nn.functional.one_hot(torch.tensor(predicted).long(), 4).float()
    metrics = classification_metrics(logits, torch.tensor(truth).long())
    names = ("cls_accuracy", "fg_cls_accuracy", "false_negative")
    assert [float(metrics[f"fast_rcnn/{name}"]) for name in names] == pytest.approx(expected)
