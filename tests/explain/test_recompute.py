"""Detections and proposals that differ from what follows by ties and rounding only."""

from __future__ import annotations

import pytest
import torch

from lucidet.explain.proposals import nearest_rows
from lucidet.explain.recompute import detections_at, with_detections
from tests.explain.scenes import FAR, Anchor, truth, two_stage

BOX, SHIFTED = [40.0, 40, 80, 80], [48.0, 40, 88, 80]
CAT = (0.9, 0.04, 0.03, 0.03)


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        ([], [], []),
        ([SHIFTED, BOX], [0.5, 0.5], [1, 0]),
        ([[40.01, 40, 80, 80]], [0.501], [0]),
        ([BOX], [0.9], None),
        ([FAR], [0.5], None),
    ],
)
def test_rows_that_are_the_same_but_for_rounding(boxes, scores, expected) -> None:
    others, other_scores = torch.tensor([BOX, SHIFTED]), torch.tensor([0.5, 0.5])
    found = nearest_rows(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), others, other_scores
    )
    assert (None if found is None else found.tolist()) == expected


def test_the_detectors_own_choice_between_ties_counts() -> None:
    anchors = [Anchor(BOX, 0.9, scores=CAT), Anchor(SHIFTED, 0.8, scores=CAT)]
    found = two_stage(truth([BOX]), anchors)
    kept = detections_at(found, found.settings)
    assert kept.candidate == [0]
    # of equal scores another device may keep the other one
    other = with_detections(
        found, kept, torch.tensor([SHIFTED]), torch.tensor([0.9]), torch.tensor([0])
    )
    assert other is not None
    assert other.candidate == [1]
    assert other.survivors == [1]
    assert (
        with_detections(found, kept, torch.tensor([FAR]), torch.tensor([0.9]), torch.tensor([0]))
        is None
    )
