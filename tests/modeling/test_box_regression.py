"""Box codes, and the loss of their numbers."""

from __future__ import annotations

import math

import pytest
import torch

from lucidet.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
    _dense_box_regression_loss,
)
from lucidet.structures import Boxes


def random_boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 100
    return torch.cat([corner, corner + torch.rand(count, 2) * 50 + 1], dim=1)


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize(
    "transform",
    [Box2BoxTransform((1, 1, 1, 1)), Box2BoxTransform((10.0, 10.0, 5.0, 5.0))],
)
def test_round_trip(transform: Box2BoxTransform, count: int) -> None:
    source, target = random_boxes(count), random_boxes(count)
    deltas = transform.get_deltas(source, target)
    assert deltas.shape == (count, 4)
    assert torch.allclose(transform.apply_deltas(deltas, source), target, atol=1e-3)


def test_known_numbers() -> None:
    source = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    target = torch.tensor([[5.0, 10.0, 25.0, 20.0]])
    deltas = Box2BoxTransform((10, 10, 5, 5)).get_deltas(source, target)
    expected = torch.tensor([[10.0, 2.5, 5 * math.log(2), 5 * math.log(0.5)]])
    assert torch.allclose(deltas, expected)


def test_several_predictions_a_box() -> None:
    transform = Box2BoxTransform((1, 1, 1, 1))
    source = random_boxes(5)
    deltas = torch.randn(5, 12)
    many = transform.apply_deltas(deltas, source)
    for k in range(3):
        part = slice(4 * k, 4 * k + 4)
        assert torch.equal(many[:, part], transform.apply_deltas(deltas[:, part], source))
    assert transform.apply_deltas(torch.zeros(0, 12), source[:0]).shape == (0, 12)


def test_sizes_are_clamped() -> None:
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    huge = torch.tensor([[0.0, 0.0, 1e5, 1e5]])
    out = Box2BoxTransform((1, 1, 1, 1)).apply_deltas(huge, box)
    assert torch.allclose(out[:, 2:] - out[:, :2], torch.tensor([[1000.0, 1000.0]]))


def test_half_precision_deltas_give_full_precision_boxes() -> None:
    box = torch.tensor([[3001.0, 0.0, 3003.0, 2.0]])
    out = Box2BoxTransform((1, 1, 1, 1)).apply_deltas(torch.zeros(1, 4).half(), box)
    assert out.dtype == torch.float32
    assert torch.equal(out, box)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([[0, 0, 9, 9], [4, 4, 4, 9]], [[0, 0, 9, 9]] * 2, r"src_boxes\[1\] = \[4.*must be > 0"),
        ([[0, 0, 9, 9]], [[40, 10, 40, 90]], r"target_boxes\[0\] = \[40.*1 of 1"),
        ([[0, 0, 9, 9]], [[0, 0, float("nan"), 5]], r"target_boxes\[0\]"),
    ],
)
def test_boxes_without_area_are_named(source: list, target: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Box2BoxTransform((1, 1, 1, 1)).get_deltas(
            torch.tensor(source, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)
        )


def test_unchecked_boxes_without_area_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lucidet.modeling.box_regression._require_area", lambda *_: None)
    flat = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
    good = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    for source, target in ((flat, good), (good, flat), (flat, flat)):
        assert Box2BoxTransform((1, 1, 1, 1)).get_deltas(source, target).isfinite().all()


class TestRotated:
    """Boxes with an angle."""

    transform = Box2BoxTransformRotated(weights=(5, 5, 10, 10, 1))

    def boxes(self, count: int) -> torch.Tensor:
        angle = torch.rand(count, 1) * 360 - 180
        return torch.cat([torch.rand(count, 2) * 9, torch.rand(count, 2) * 50 + 1, angle], dim=1)

    @pytest.mark.parametrize("count", [0, 1, 20])
    def test_round_trip(self, count: int) -> None:
        source, target = self.boxes(count), self.boxes(count)
        deltas = self.transform.get_deltas(source, target)
        back = self.transform.apply_deltas(deltas, source)
        assert torch.allclose(back[:, :4], target[:, :4], atol=1e-3)
        turn = (back[:, 4] - target[:, 4] + 180) % 360 - 180
        assert (turn.abs() < 1e-2).all()

    def test_turns_the_shorter_way_in_radians(self) -> None:
        source = torch.tensor([[0.0, 0, 5, 5, 170]])
        target = torch.tensor([[0.0, 0, 5, 5, -170]])
        deltas = self.transform.get_deltas(source, target)
        assert deltas[0, 4].item() == pytest.approx(math.radians(20), abs=1e-5)

    def test_several_predictions_a_box(self) -> None:
        source, deltas = self.boxes(3), torch.randn(3, 10)
        many = self.transform.apply_deltas(deltas, source)
        assert torch.equal(many[:, 5:], self.transform.apply_deltas(deltas[:, 5:], source))

    def test_box_without_area(self) -> None:
        flat = torch.tensor([[0.0, 0, 0, 5, 0]])
        with pytest.raises(ValueError, match=r"src_boxes\[0\]"):
            self.transform.get_deltas(flat, self.boxes(1))


class TestLinear:
    """Distances to the sides."""

    @pytest.mark.parametrize("count", [0, 1, 20])
    @pytest.mark.parametrize("normalize", [True, False])
    def test_round_trip_inside(self, normalize: bool, count: int) -> None:
        transform = Box2BoxTransformLinear(normalize_by_size=normalize)
        source = random_boxes(count)
        grown = source + torch.tensor([-1.0, -2.0, 3.0, 4.0])
        deltas = transform.get_deltas(source, grown)
        assert (deltas > 0).all()
        assert torch.allclose(transform.apply_deltas(deltas, source), grown, atol=1e-3)

    def test_pixels(self) -> None:
        source = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        target = torch.tensor([[1.0, 2.0, 9.0, 30.0]])
        deltas = Box2BoxTransformLinear(normalize_by_size=False).get_deltas(source, target)
        assert deltas.tolist() == [[4.0, 8.0, 4.0, 20.0]]

    def test_negative_distances_count_as_zero(self) -> None:
        source = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        out = Box2BoxTransformLinear().apply_deltas(torch.tensor([[-1.0, -1, 0.5, 0.5]]), source)
        assert out.tolist() == [[5.0, 5.0, 10.0, 10.0]]

    def test_point_needs_no_area_when_pixels_are_the_unit(self) -> None:
        point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
        target = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        pixels = Box2BoxTransformLinear(normalize_by_size=False)
        assert pixels.get_deltas(point, target).tolist() == [[5.0] * 4]
        with pytest.raises(ValueError, match=r"src_boxes\[0\]"):
            Box2BoxTransformLinear().get_deltas(point, target)


class TestLoss:
    """The sum over positives."""

    transform = Box2BoxTransform((1, 1, 1, 1))

    def case(self) -> tuple:
        anchors = [Boxes(random_boxes(6)), Boxes(random_boxes(2))]
        deltas = [torch.randn(2, 6, 4, requires_grad=True), torch.randn(2, 2, 4)]
        gt_boxes = [random_boxes(8), random_boxes(8)]
        mask = torch.tensor([[1, 0, 0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0, 0]]).bool()
        return anchors, deltas, gt_boxes, mask

    def test_smooth_l1_by_hand(self) -> None:
        anchors, deltas, gt_boxes, mask = self.case()
        loss = _dense_box_regression_loss(anchors, self.transform, deltas, gt_boxes, mask)
        flat, prediction = Boxes.cat(anchors).tensor, torch.cat(deltas, dim=1)
        by_hand = sum(
            (prediction[i, r] - self.transform.get_deltas(flat[r][None], gt_boxes[i][r][None])[0])
            .abs()
            .sum()
            for i, r in ((0, 0), (0, 6), (1, 1))
        )
        assert loss.item() == pytest.approx(float(by_hand.detach()), rel=1e-5)

    @pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
    def test_perfect_prediction_costs_nothing(self, kind: str) -> None:
        anchors, _, gt_boxes, mask = self.case()
        flat = Boxes.cat(anchors).tensor
        perfect = torch.stack([self.transform.get_deltas(flat, gt) for gt in gt_boxes])
        loss = _dense_box_regression_loss(
            anchors, self.transform, [perfect], gt_boxes, mask, kind, smooth_l1_beta=0.1
        )
        assert loss.item() == pytest.approx(0.0, abs=1e-3)

    @pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
    def test_no_positive(self, kind: str) -> None:
        anchors, deltas, gt_boxes, mask = self.case()
        loss = _dense_box_regression_loss(
            anchors, self.transform, deltas, gt_boxes, torch.zeros_like(mask), kind
        )
        assert loss.item() == 0.0
        loss.backward()  # a part of the graph all the same: DDP waits for its gradients
        assert deltas[0].grad.abs().sum() == 0

    def test_only_positives_are_encoded(self) -> None:
        anchors, deltas, gt_boxes, mask = self.case()
        gt_boxes[0][3] = torch.tensor([5.0, 5, 5, 5])  # background: any box will do
        _dense_box_regression_loss(anchors, self.transform, deltas, gt_boxes, mask)
        gt_boxes[0][6] = torch.tensor([5.0, 5, 5, 5])
        with pytest.raises(ValueError, match=r"target_boxes\[1\]"):
            _dense_box_regression_loss(anchors, self.transform, deltas, gt_boxes, mask)

    def test_anchors_may_be_tensors(self) -> None:
        anchors, deltas, gt_boxes, mask = self.case()
        expected = _dense_box_regression_loss(anchors, self.transform, deltas, gt_boxes, mask)
        tensors = [level.tensor for level in anchors]
        got = _dense_box_regression_loss(tensors, self.transform, deltas, gt_boxes, mask)
        assert torch.equal(got, expected)

    def test_unknown_loss(self) -> None:
        with pytest.raises(ValueError, match=r"BBOX_REG_LOSS_TYPE 'l3'.*smooth_l1, giou"):
            _dense_box_regression_loss(*self.case()[:1], self.transform, *self.case()[1:], "l3")
