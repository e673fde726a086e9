"""Matches, thresholds, the confusion matrix with its pairs, groups of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lucidet.analysis.cells import EXAMPLES, confusion_cells, false_positives, worst_misses
from lucidet.analysis.detections import read_detections
from lucidet.analysis.groups import ap_of_groups, by_count, by_overlap
from lucidet.evaluation.coco_ap import CocoTruth
from tests.analysis.scenes import CLASSES, IMAGES, judged_scene, scene


def test_the_matrix_of_hotcoco_is_the_number_of_its_pairs() -> None:
    judged = judged_scene()
    counted = np.zeros_like(judged.confusion)
    for detection, box in judged.pairs:
        row = CLASSES if box < 0 else judged.truth.category[box]
        column = CLASSES if detection < 0 else int(judged.rows[detection, 6])
        counted[row, column] += 1
    assert np.array_equal(counted, judged.confusion)
    assert judged.confusion[:-1].sum() == (~judged.truth.crowd).sum()
    assert judged.confusion[:, :-1].sum() == judged.confident.sum()
    cells = confusion_cells(judged)
    assert {(c["row"], c["column"]): c["count"] for c in cells} == {
        (int(r), int(c)): int(judged.confusion[r, c]) for r, c in np.argwhere(judged.confusion)
    }
    assert all(len(c["examples"]) == min(c["count"], EXAMPLES) for c in cells)


def test_examples_name_the_boxes_of_their_cell() -> None:
    judged = judged_scene()
    for cell in confusion_cells(judged):
        for example in cell["examples"]:
            found, box = example["detection"], example["ground_truth"]
            assert (found is None) == (cell["column"] == CLASSES)
            assert (box is None) == (cell["row"] == CLASSES)
            if found:
                assert found["class"] == judged.classes[cell["column"]]
                assert found["score"] >= judged.threshold
            if box:
                assert box["class"] == judged.classes[cell["row"]]
                assert example["image_id"] == judged.truth.image[box["index"]]


def test_galleries_begin_with_the_worst() -> None:
    judged = judged_scene()
    scores = [e["detection"]["score"] for e in false_positives(judged, 5)]
    assert scores == sorted(scores, reverse=True)
    wrong = judged.confident & (judged.matches.box < 0)
    assert scores[0] == pytest.approx(judged.rows[wrong, 5].max(), abs=1e-5)
    areas = [judged.truth.area[e["ground_truth"]["index"]] for e in worst_misses(judged, 5)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] == judged.truth.area[judged.missed].max()


@pytest.mark.parametrize("k", range(CLASSES))
def test_no_threshold_gives_a_higher_f1(k: int) -> None:
    judged = judged_scene()
    own = (judged.rows[:, 6] == k) & ~judged.matches.ignored
    boxes = ((judged.truth.category == k) & ~judged.truth.crowd).sum()
    scores, right = judged.rows[own, 5], judged.matches.box[own] >= 0
    f1 = {
        float(s): 2 * right[scores >= s].sum() / ((scores >= s).sum() + boxes)
        for s in np.unique(scores)
    }
    best = judged.thresholds[k]
    assert best.f1 == pytest.approx(max(f1.values()))
    assert f1[best.score] == pytest.approx(best.f1)


def test_groups_have_the_ap_of_their_images_alone() -> None:
    judged = judged_scene()
    truth, rows = scene()
    for groups in (by_count(truth), by_overlap(truth)):
        members = [i for own in groups.values() for i in own]
        assert len(members) == len(set(members))
        found = ap_of_groups(judged, {"kind": groups})["kind"]
        for row, images in zip(found, groups.values(), strict=True):
            alone = truth.curves(rows, images=images)
            assert row["AP"] == pytest.approx(alone.ap(), nan_ok=True)
            assert row["AP50"] == pytest.approx(alone.ap(iou=0.5), nan_ok=True)
    # the sizes are as they were
    assert judged.curves.judge.slice_by({"all": list(range(IMAGES))})["all"]["APl"] >= 0
    assert ap_of_groups(judged, {"none": {}}) == {"none": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("{}", "expected a list"),
        ('[{"image_id": 0}]', "detection 0 needs image_id"),
        ('[{"image_id": 99, "category_id": 0, "bbox": [1, 2, 3, 4], "score": 1}]', "image id 99"),
        ('[{"image_id": 0, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 1}]', "category id 9"),
        ('[{"image_id": 0, "category_id": 0, "bbox": [1, 2, 3], "score": 1}]', "needs image_id"),
        ('[{"image_id": 0, "category_id": 0, "bbox": [1, 2, 3, NaN], "score": 1}]', "not finite"),
    ],
)
def test_a_wrong_results_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_detections(scene()[0], path)
    assert str(path) in str(caught.value)


def test_detections_of_a_file(tmp_path: Path) -> None:
    truth = CocoTruth({"images": [{"id": "b"}, {"id": "a"}], "categories": [{"id": 7}]})
    path = tmp_path / "r.json"
    path.write_text(
        json.dumps([{"image_id": "b", "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5}])
    )
    assert read_detections(truth, path).tolist() == [[1, 1, 2, 3, 4, 0.5, 0]]
    path.write_text("[]")
    assert read_detections(truth, path).shape == (0, 7)
