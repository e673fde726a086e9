from __future__ import annotations

import numpy as np
import pytest

from lucidet.evaluation.box_proposals import average_recall

BOX = np.array([[0.0, 0.0, 10.0, 10.0]])
AREA = np.array([100.0])
NONE = np.zeros((0, 4))


@pytest.mark.parametrize(
    ("proposals", "objects", "areas", "expected"),
    [
        (BOX, BOX, AREA, 100.0),
        (np.array([[0.0, 0.0, 10.0, 7.2]]), BOX, AREA, 50.0),  # IoU 0.72: 0.5 ... 0.7 of ten
        (np.repeat(BOX, 2, axis=0), np.repeat(BOX, 2, axis=0), np.repeat(AREA, 2), 100.0),
        (BOX, np.repeat(BOX, 2, axis=0), np.repeat(AREA, 2), 50.0),  # one proposal, one object
        (NONE, BOX, AREA, 0.0),
        (BOX * 0, BOX, AREA, 0.0),  # a proposal without area
        (BOX, NONE, np.zeros(0), float("nan")),
    ],
)
def test_average_recall(proposals, objects, areas, expected):
    found = average_recall([proposals], [objects], [areas], limit=100)
    assert found == pytest.approx(expected, nan_ok=True)


def test_limit_and_size():
    proposals = np.concatenate([BOX + 50, BOX])
    assert average_recall([proposals], [BOX], [AREA], limit=1) == 0
    assert average_recall([proposals], [BOX], [AREA], limit=2, size="s") == 100
    assert np.isnan(average_recall([proposals], [BOX], [AREA], limit=2, size="l"))
    assert np.isnan(average_recall([], [], [], limit=2))
