"""TIDE's numbers against those of tidecv: ``make_tide_fixture.py`` has written the fixture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucidet.analysis.judged import judge
from lucidet.analysis.matching import best_of_each_image, judge_at_half, match
from lucidet.analysis.report import analysis
from lucidet.analysis.tide import ERROR_TYPES, tide
from lucidet.evaluation.coco_ap import CocoTruth

CASES: dict[str, Any] = json.loads(Path(__file__).with_name("tide_fixture.json").read_text())


def _truth(case: dict[str, Any]) -> CocoTruth:
    annotations = [
        {"id": n, "image_id": image, "category_id": kind, "bbox": box, "iscrowd": crowd}
        for n, (image, kind, *box, crowd) in enumerate(case["truth"])
    ]
    images = [{"id": i, "width": 640, "height": 640} for i in range(case["images"])]
    categories = [{"id": k, "name": f"class {k}"} for k in range(case["classes"])]
    return CocoTruth({"images": images, "categories": categories, "annotations": annotations})


def _rows(case: dict[str, Any]) -> np.ndarray:
    rows = [[image, *box, score, kind] for image, kind, *box, score in case["detections"]]
    return np.array(rows, float).reshape(-1, 7)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_tidecv(name: str) -> None:
    case = CASES[name]
    truth, rows = _truth(case), _rows(case)
    judged = judge(name, truth, [""] * case["images"], rows)
    found = tide(truth, judged.rows, judged.matches, judged.judge)
    expected = case["expected"]
    assert found["counts"] == expected["counts"]
    assert found["AP50"] == pytest.approx(expected["AP50"], abs=0.01)
    assert found["delta_AP"] == pytest.approx(expected["delta_AP"], abs=0.01)
    assert found["special"] == pytest.approx(expected["special"], abs=0.01)


def test_fixture_has_crowds_and_more_than_100_detections() -> None:
    case = CASES["crowds and many"]
    rows = _rows(case)
    assert np.unique(rows[:, 0], return_counts=True)[1].max() > 100
    assert _truth(case).crowd.any()
    notes = " ".join(analysis(judge("x", _truth(case), [""] * case["images"], rows))["notes"])
    assert "crowd box" in notes
    assert "beyond the best 100" in notes


def test_without_a_judge_of_the_matches() -> None:
    case = CASES["plain"]
    truth, rows = _truth(case), _rows(case)
    found = tide(truth, rows, match(truth, rows, judge_at_half(truth, rows)))
    assert found["delta_AP"] == pytest.approx(case["expected"]["delta_AP"], abs=0.01)


@pytest.mark.parametrize("rows", [np.zeros((0, 7)), np.array([[0, 0, 0, 1, 1, 0.5, 0.0]])])
def test_nothing_or_one_wrong_box(rows: np.ndarray) -> None:
    truth = _truth({"images": 2, "classes": 2, "truth": [[1, 0, 5, 5, 9, 9, 0]]})
    judged = judge("x", truth, ["", ""], rows)
    found = tide(truth, judged.rows, judged.matches, judged.judge)
    assert found["counts"]["Miss"] == 1
    assert found["counts"]["Bkg"] == len(rows)
    assert set(found["delta_AP"]) == set(ERROR_TYPES)


def test_no_ground_truth_at_all() -> None:
    truth = _truth({"images": 1, "classes": 1, "truth": []})
    rows = np.array([[0, 0, 0, 9, 9, 0.5, 0.0]])
    found = analysis(judge("x", truth, [""], rows))
    assert found["tide"]["counts"]["Bkg"] == 1
    assert found["worst_misses"] == []
    assert any("Without a ground-truth box" in note for note in found["notes"])


def test_best_of_each_image_keeps_the_order_and_the_first_of_equal_scores() -> None:
    rows = np.zeros((5, 7))
    rows[:, 0] = 0, 1, 0, 0, 1
    rows[:, 1] = range(5)
    rows[:, 5] = 0.5, 0.1, 0.5, 0.9, 0.2
    assert best_of_each_image(rows, 2)[:, 1].tolist() == [0, 1, 3, 4]
    assert len(best_of_each_image(rows[:0], 2)) == 0
