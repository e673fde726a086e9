from __future__ import annotations

import numpy as np
import pytest

from lucidet.engine.recipe.anchors import anchor_shapes, best_factor, shape_iou, share_covered

SQUARES = anchor_shapes([[32], [64], [128]], [[1.0]])


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (np.zeros((0, 2)), []),
        ([[32, 32], [64, 64]], [1, 1]),
        ([[0, 10]], [0]),  # no area
        ([[32, 64]], [0.5]),
        ([[16, 16]], [0.25]),
    ],
)
def test_iou_of_shapes(boxes, expected) -> None:
    assert shape_iou(np.asarray(boxes, float), SQUARES) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("side", "factor"), [(64, 1.0), (8, 0.25), (4, 0.125), (256, 2.0), (512, 4.0)]
)
def test_the_factor_that_fits(side: float, factor: float) -> None:
    boxes = np.full((10, 2), side, float)
    assert best_factor(boxes, SQUARES) == pytest.approx(factor, rel=0.5)
    assert share_covered(boxes, SQUARES * best_factor(boxes, SQUARES)) == 1


def test_without_boxes_nothing_is_scaled() -> None:
    assert best_factor(np.zeros((0, 2)), SQUARES) == 1
    assert share_covered(np.zeros((0, 2)), SQUARES) == 1


def test_long_boxes_need_ratios() -> None:
    boxes = np.array([[20.0, 80.0]])  # IoU with a square of the same area: 1/3
    assert share_covered(boxes, SQUARES) == 0
    assert share_covered(boxes, anchor_shapes([[32]], [[0.5, 1.0, 2.0, 4.0]])) == 1
