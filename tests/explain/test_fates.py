"""Each fate, on hand-made anchors, proposals and scores."""

from __future__ import annotations

import pytest

from lucidet.explain.kinds import FATES
from lucidet.explain.record import Explanation
from tests.explain.scenes import FAR, Anchor, Location, dense, truth, two_stage

BOX = [40.0, 40, 80, 80]
#: IoU with BOX: 0.667, 0.43; with one another: 0.667
SHIFTED, FURTHER = [48.0, 40, 88, 80], [56.0, 40, 96, 80]
CAT = (0.9, 0.04, 0.03, 0.03)
ONE = truth([BOX])

TWO_STAGE = {
    "detected": (ONE, [Anchor(BOX, scores=CAT)], {}, "detected", "detections"),
    # nothing overlaps
    "nothing near": (truth([[5, 5, 8, 8]]), [Anchor(BOX)], {}, "no_anchor", "anchors"),
    # the low-quality rule makes it positive, but its IoU of 0.02 is background's
    "too small": (truth([[50, 50, 56, 56]]), [Anchor(BOX)], {}, "no_anchor", "anchors"),
    "topk of the level": (
        ONE,
        [Anchor(BOX, 0.6), Anchor(FAR, 0.9)],
        {"pre": 1},
        "lost_topk",
        "proposals",
    ),
    "topk of the image": (
        ONE,
        [Anchor(BOX, 0.6), Anchor(FAR, 0.9)],
        {"post": 1},
        "lost_topk",
        "proposals",
    ),
    "rpn nms": (
        ONE,
        [Anchor(SHIFTED, 0.6), Anchor(FURTHER, 0.9)],
        {"rpn_nms": 0.6},
        "lost_nms",
        "proposals",
    ),
    "rpn size": (ONE, [Anchor(BOX)], {"rpn_size": 50.0}, "lost_filter", "proposals"),
    "rpn score": (ONE, [Anchor(BOX, 0.3)], {"rpn_score": 0.5}, "lost_filter", "proposals"),
    "clipped": (
        truth([[180, 40, 240, 80]]),
        [Anchor([180, 40, 240, 80])],
        {},
        "lost_clipping",
        "proposals",
    ),
    "clipped away": (
        truth([[205, 40, 240, 80]]),
        [Anchor([205, 40, 240, 80])],
        {},
        "lost_clipping",
        "proposals",
    ),
    "moved by the RPN": (ONE, [Anchor(BOX, moved_to=FAR)], {}, "badly_regressed", "proposals"),
    "moved by the head": (
        ONE,
        [Anchor(BOX, scores=CAT, final=FAR)],
        {},
        "badly_regressed",
        "box",
    ),
    "background": (ONE, [Anchor(BOX)], {}, "background", "classes"),
    "a dog": (ONE, [Anchor(BOX, scores=(0.04, 0.9, 0.03, 0.03))], {}, "other_class", "classes"),
    "a low score": (
        ONE,
        [Anchor(BOX, scores=(0.4, 0.2, 0.1, 0.3))],
        {"thresh": 0.5},
        "below_threshold",
        "classes",
    ),
    "final nms": (
        ONE,
        [Anchor(BOX, 0.6, scores=(0.5, 0, 0, 0.5), final=SHIFTED), Anchor(FURTHER, scores=CAT)],
        {},
        "suppressed",
        "final_nms",
    ),
    "limit": (
        ONE,
        [Anchor(BOX, 0.6, scores=(0.5, 0, 0, 0.5)), Anchor(FAR, scores=CAT)],
        {"limit": 1},
        "beyond_limit",
        "detections",
    ),
    "final size": (ONE, [Anchor(BOX, scores=CAT)], {"min_size": 50.0}, "lost_filter", "final_nms"),
}


def _lost_at(explanation: Explanation, index: int = 0) -> str:
    chain = explanation.objects[index].chain
    assert [stage.lost for stage in chain[:-1]] == [False] * (len(chain) - 1)
    assert chain[-1].lost == (explanation.objects[index].fate != "detected")
    return chain[-1].key


@pytest.mark.parametrize("case", TWO_STAGE.values(), ids=TWO_STAGE.keys())
def test_two_stage(case) -> None:
    gt, anchors, settings, fate, stage = case
    found = two_stage(gt, anchors, **settings)
    assert found.objects[0].fate == fate, found.objects[0].text
    assert found.objects[0].text.startswith(FATES[fate])
    assert _lost_at(found) == stage


DENSE = {
    "detected": (ONE, [Location(BOX, (0.9, 0, 0))], {}, "detected", "detections"),
    "nothing near": (truth([[5, 5, 8, 8]]), [Location(BOX)], {}, "no_anchor", "anchors"),
    "topk": (
        ONE,
        [Location(BOX, (0.3, 0, 0)), Location(FAR, (0, 0.9, 0))],
        {"topk": 1},
        "lost_topk",
        "topk",
    ),
    "moved": (ONE, [Location(BOX, (0.9, 0, 0), FAR)], {}, "badly_regressed", "box"),
    "background": (ONE, [Location(BOX, (0.004, 0, 0))], {}, "background", "classes"),
    "a dog": (ONE, [Location(BOX, (0.02, 0.9, 0))], {}, "other_class", "classes"),
    "a low score": (ONE, [Location(BOX, (0.04, 0, 0))], {}, "below_threshold", "classes"),
    "final nms": (
        ONE,
        [Location(SHIFTED, (0.5, 0, 0)), Location(FURTHER, (0.9, 0, 0))],
        {},
        "suppressed",
        "final_nms",
    ),
    "limit": (
        ONE,
        [Location(BOX, (0.5, 0, 0)), Location(FAR, (0.9, 0, 0))],
        {"limit": 1},
        "beyond_limit",
        "detections",
    ),
}


@pytest.mark.parametrize("case", DENSE.values(), ids=DENSE.keys())
def test_dense(case) -> None:
    gt, locations, settings, fate, stage = case
    locations = [
        Location(own.box, [max(s, 1e-4) for s in own.scores], own.moved_to) for own in locations
    ]
    found = dense(gt, locations, **settings)
    assert found.objects[0].fate == fate, found.objects[0].text
    assert _lost_at(found) == stage


@pytest.mark.parametrize("kind", ["atss", "fcos"])
def test_no_location_of_a_point_detector_lies_inside(kind: str) -> None:
    # the anchor's center is at (60, 60)
    found = dense(truth([[5, 5, 20, 20], BOX]), [Location(BOX, (0.9, 0.01, 0.01))], kind=kind)
    assert [own.fate for own in found.objects] == ["no_anchor", "detected"]


def test_a_class_score_below_the_threshold_of_atss() -> None:
    found = dense(ONE, [Location(BOX, (0.04, 0.01, 0.01))], kind="atss")
    assert found.objects[0].fate == "below_threshold"
    assert found.objects[0].text.endswith("cat 0.04, threshold 0.05")


def test_what_took_its_place_is_named() -> None:
    gt, anchors, settings, *_ = TWO_STAGE["final nms"]
    found = two_stage(gt, anchors, **settings)
    assert found.objects[0].by["detection"] == 0
    assert found.objects[0].text == "suppressed in the final NMS by detection 0 (0.90 against 0.50)"
    gt, anchors, settings, *_ = TWO_STAGE["rpn nms"]
    by = two_stage(gt, anchors, **settings).objects[0].by
    assert by["box"] == FURTHER
    assert by["score"] == pytest.approx(0.9)
    assert by["iou"] == pytest.approx(2 / 3, abs=1e-4)


def test_one_detection_for_two_boxes() -> None:
    found = two_stage(truth([BOX, SHIFTED]), [Anchor(BOX, scores=CAT)])
    assert [own.fate for own in found.objects] == ["detected", "badly_regressed"]
    assert found.objects[1].crowding == pytest.approx(2 / 3, abs=1e-4)
    assert found.objects[1].text.endswith("what fits it, detection 0, is matched with box 0")
    assert _lost_at(found, 1) == "box"


def test_a_crowd_region_is_ignored() -> None:
    found = two_stage(truth([BOX, FAR], crowd=[True, False]), [Anchor(BOX, scores=CAT)])
    assert [own.fate for own in found.objects] == ["ignored", "no_anchor"]
    assert found.detections[0].verdict == "ignored"
    assert found.objects[0].chain == []


def test_beyond_the_evaluations_own_limit_of_a_class() -> None:
    # 100 better detections of the class: COCO's protocol does not look at the last
    places = [[2.0 * i, 100, 2.0 * i + 1.5, 101.5] for i in range(99)] + [[1, 1, 3, 3]]
    locations = [Location(box, (0.9, 1e-4, 1e-4)) for box in places]
    found = dense(ONE, [Location(BOX, (0.5, 1e-4, 1e-4)), *locations], topk=200, limit=200)
    assert len(found.detections) == 101
    assert found.objects[0].fate == "beyond_limit"
    assert found.detections[-1].verdict == "ignored"


def test_an_image_without_boxes_or_detections() -> None:
    assert two_stage(truth([]), [Anchor(BOX)]).objects == []
    nothing = two_stage(ONE, [Anchor(BOX, 0.3)], rpn_score=0.5)
    assert nothing.detections == []
    assert nothing.candidates.score == []


def test_the_file_is_larger_than_what_the_model_saw() -> None:
    found = two_stage(truth([[v * 2 for v in BOX]]), [Anchor(BOX, scores=CAT)], file=(400, 400))
    assert found.objects[0].fate == "detected"
    assert found.detections[0].box == [80, 80, 160, 160]
    assert found.objects[0].chain[0].boxes[0]["box"] == BOX
