"""Verdicts on detections, and their way back to an anchor."""

from __future__ import annotations

import pytest

from tests.explain.scenes import FAR, Anchor, Location, dense, truth, two_stage

BOX, SHIFTED, FURTHER = [40.0, 40, 80, 80], [48.0, 40, 88, 80], [56.0, 40, 96, 80]
CAT, DOG = (0.9, 0.01, 0.01, 0.08), (0.01, 0.9, 0.01, 0.08)


def _verdicts(found) -> list[tuple[str, int | None]]:
    return [(own.verdict, own.object) for own in found.detections]


@pytest.mark.parametrize(
    ("gt", "anchors", "expected"),
    [
        (truth([BOX]), [Anchor(BOX, scores=CAT)], [("true_positive", 0)]),
        (
            truth([BOX]),
            [Anchor(BOX, scores=CAT), Anchor(SHIFTED, 0.8, scores=(0.5, 0, 0, 0.5))],
            [("true_positive", 0), ("duplicate", 0)],
        ),
        (truth([BOX]), [Anchor(BOX, scores=DOG)], [("wrong_class", 0)]),
        (truth([BOX]), [Anchor(FURTHER, scores=CAT)], [("poor_localization", 0)]),
        # too little overlap with a box of another class
        (truth([BOX]), [Anchor(FURTHER, scores=DOG)], [("background", 0)]),
        (truth([BOX]), [Anchor(FAR, scores=CAT)], [("background", None)]),
        (truth([]), [Anchor(FAR, scores=CAT)], [("background", None)]),
        (truth([BOX], crowd=[True]), [Anchor(BOX, scores=CAT)], [("ignored", None)]),
    ],
)
def test_verdicts(gt, anchors, expected) -> None:
    assert _verdicts(two_stage(gt, anchors, nms=0.9)) == expected


def test_the_origin_of_a_two_stage_detection() -> None:
    anchors = [Anchor(FAR, 0.95), Anchor(BOX, 0.8, moved_to=SHIFTED, scores=CAT, final=BOX)]
    found = two_stage(truth([BOX]), anchors)
    score, roi, proposal, anchor = found.detections[0].origin
    assert score.text == (
        "cat 0.90; moved by -8.0, +0.0 pixels, 1.00 times as wide and 1.00 times as high as before."
    )
    assert roi.boxes[0]["box"] == SHIFTED
    assert roi.numbers == {"level": "p2", "iou": pytest.approx(2 / 3, abs=1e-4)}
    assert proposal.text == "Rank 2 of 2, objectness 0.80."
    assert anchor.numbers["anchor"] == 1
    assert anchor.numbers["box"] == BOX
    assert (anchor.numbers["column"], anchor.numbers["row"]) == (0, 1)


def test_the_origin_of_a_dense_detection() -> None:
    locations = [Location(FAR, (0.01, 0.8, 0.01)), Location(BOX, (0.6, 0.01, 0.01), SHIFTED)]
    found = dense(truth([BOX]), locations)
    assert [own.name for own in found.detections] == ["dog", "cat"]
    score, rank, anchor = found.detections[1].origin
    assert score.boxes[0]["box"] == pytest.approx(SHIFTED, abs=1e-3)
    assert rank.text == "Rank 2 of its level."
    assert anchor.numbers["box"] == BOX


def test_each_detection_has_one_verdict_and_each_box_one_detection_at_most() -> None:
    anchors = [
        Anchor(BOX, 0.9, scores=CAT),
        Anchor(SHIFTED, 0.8, scores=(0.7, 0, 0, 0.3)),
        Anchor(FURTHER, 0.7, scores=(0.6, 0, 0, 0.4)),
    ]
    found = two_stage(truth([BOX, FURTHER]), anchors, rpn_nms=0.9, nms=0.9)
    matched = [own.object for own in found.detections if own.verdict == "true_positive"]
    assert sorted(matched) == [0, 1]
    assert [found.objects[i].detection for i in (0, 1)] == [0, 1]
