"""The funnel: counts sum up, and AP50 is hotcoco's."""

from __future__ import annotations

import numpy as np
import pytest

from lucidet.evaluation.coco_ap import CocoTruth
from lucidet.explain.funnel import Funnel
from lucidet.explain.kinds import FATES
from lucidet.explain.mending import MatchedDataset, mean_ap
from lucidet.explain.text import funnel_text
from tests.explain.scenes import FAR, Anchor, truth, two_stage

BOX, SHIFTED = [40.0, 40, 80, 80], [48.0, 40, 88, 80]
CAT = (0.9, 0.04, 0.03, 0.03)


@pytest.fixture(scope="module")
def funnel() -> dict:
    found = Funnel(["cat", "dog", "bird"])
    images = [
        (truth([BOX]), [Anchor(BOX, scores=CAT), Anchor(FAR, 0.8, scores=CAT)]),
        (truth([BOX, FAR], [0, 1]), [Anchor(BOX, scores=CAT)]),
        (truth([BOX]), [Anchor(BOX)]),
        (truth([BOX], crowd=[True]), [Anchor(FAR, scores=CAT)]),
        (truth([BOX, SHIFTED]), [Anchor(BOX, scores=CAT)]),
    ]
    for gt, anchors in images:
        found.add(two_stage(gt, anchors))
    return found.to_json()


def test_fates_sum_to_the_number_of_boxes(funnel) -> None:
    assert funnel["objects"] == 6
    assert funnel["ignored"] == 1
    expected = {"detected": 3, "no_anchor": 1, "badly_regressed": 1, "background": 1}
    assert funnel["fates"] == expected
    for groups in funnel["by"].values():
        sums = [sum(own.values()) for own in groups.values()]
        assert sum(sums) == 6
    assert list(funnel["by"]["crowding"]) == ["alone", "crowded"]
    assert funnel["verdicts"] == {"true_positive": 3, "background": 2}


def test_examples_name_their_image(funnel) -> None:
    objects, detections = (funnel["examples"][what] for what in ("objects", "detections"))
    assert [(own["position"], own["index"]) for own in objects["background"]] == [(2, 0)]
    assert [own["position"] for own in detections["background"]] == [0, 3]
    assert objects["background"][0]["box"] == BOX
    assert set(objects) == {"background", "no_anchor", "badly_regressed"}


def test_mending_raises_ap(funnel) -> None:
    assert set(funnel["mend"]) == {"no_anchor", "badly_regressed", "background"}
    assert all(ap >= funnel["ap50"] for ap in funnel["mend"].values())
    # the dog is found then, and all cats but two
    assert funnel["mend"]["no_anchor"] == pytest.approx(funnel["ap50"] + 50, abs=0.02)


def test_text_has_a_line_for_each_fate(funnel) -> None:
    text = funnel_text(funnel)
    assert all(FATES[fate] in text for fate in funnel["fates"])
    assert len(text.splitlines()) <= 20


def test_an_empty_dataset() -> None:
    empty = Funnel(["cat"]).to_json()
    assert empty["fates"] == {}
    assert empty["ap50"] is None
    assert funnel_text(empty) == "0 images, 0 ground-truth boxes"


def test_ap50_is_hotcocos() -> None:
    generator = np.random.default_rng(0)
    images, count, classes = 30, 12, 4
    corners = generator.uniform(0, 80, (images, count, 2))
    boxes = np.concatenate([corners, np.full((images, count, 2), 20.0)], axis=2)
    labels = generator.integers(0, classes, (images, count))
    annotations = [
        {"id": i * count + j + 1, "image_id": i, "category_id": int(labels[i, j])}
        | {"bbox": boxes[i, j].tolist(), "iscrowd": int(j == 0)}
        for i in range(images)
        for j in range(count)
    ]
    coco = CocoTruth(
        {
            "images": [{"id": i} for i in range(images)],
            "categories": [{"id": k} for k in range(classes)],
            "annotations": annotations,
        }
    )
    rows = np.zeros((images * count, 7))
    rows[:, 0] = np.arange(images).repeat(count)
    rows[:, 1:5] = boxes.reshape(-1, 4) + generator.normal(0, 3, (images * count, 4))
    rows[:, 5] = generator.uniform(0, 1, images * count).round(2)  # some are equal
    rows[:, 6] = labels.reshape(-1)
    expected = coco.curves(rows).ap(iou=0.5) / 100
    matched = _matched(coco, rows, classes)
    assert matched.ap() == pytest.approx(expected, abs=1e-9)


def _matched(coco: CocoTruth, rows: np.ndarray, classes: int) -> MatchedDataset:
    from lucidet.explain.matching import GroundTruth, match_detections

    correct, ignored = [], []
    for image in range(len(coco.image_ids)):
        own, gt = rows[rows[:, 0] == image], coco.image == image
        order = np.argsort(-own[:, 5], kind="stable")
        corners = np.concatenate([own[:, 1:3], own[:, 1:3] + own[:, 3:5]], axis=1)
        found = match_detections(
            GroundTruth(coco.boxes[gt], coco.category[gt], coco.area[gt], coco.crowd[gt]),
            corners[order],
            own[order, 5],
            own[order, 6],
        )
        place = order.argsort()
        correct.append((found.object >= 0)[place])
        ignored.append(found.ignored[place])
    return MatchedDataset(
        scores=rows[:, 5],
        labels=rows[:, 6].astype(np.int64),
        correct=np.concatenate(correct),
        ignored=np.concatenate(ignored),
        verdict=np.zeros(len(rows), np.int64),
        truth_labels=coco.category[~coco.crowd],
        fate=np.zeros(int((~coco.crowd).sum()), np.int64),
        num_classes=classes,
    )


@pytest.mark.parametrize(
    ("right", "positives", "added", "expected"),
    [
        ([], 1, 0, 0.0),
        ([True], 1, 0, 1.0),
        ([True], 2, 0, 51 / 101),
        ([True], 2, 1, 1.0),
        ([False], 1, 1, 1.0),
    ],
)
def test_ap_of_one_class(right, positives, added, expected) -> None:
    assert mean_ap(np.array(right, bool), positives, added) == pytest.approx(expected)
