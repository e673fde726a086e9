from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from lucidet.evaluation.coco_ap import CocoTruth
from tests.evaluation.oracle import make_dataset, make_detections, twelve_numbers


def rows_of(truth: CocoTruth, found: list[dict]) -> np.ndarray:
    return np.array(
        [
            [
                truth.index_of_image(d["image_id"]),
                *d["bbox"],
                d["score"],
                truth.index_of_category(d["category_id"]),
            ]
            for d in found
        ]
    ).reshape(-1, 7)


def ours(dataset: dict, found: list[dict], **options) -> np.ndarray:
    truth = CocoTruth(dataset)
    numbers = truth.curves(rows_of(truth, found), **options).twelve()
    return np.array(list(numbers.values()))


def theirs(dataset: dict, found: list[dict]) -> np.ndarray:
    stats = twelve_numbers(dataset, found)
    return np.where(stats > -1, 100 * stats, np.nan)


@pytest.mark.parametrize(
    ("seed", "dataset", "per_image"),
    [
        (0, {}, 20),
        (1, {"crowds": 0.6}, 20),
        (2, {"classes": 1}, 30),
        (3, {"classes": 20, "objects": 2}, 10),  # some categories have no object
        (4, {"images": 6, "objects": 30}, 150),  # more detections than COCO looks at
        (5, {"images": 3, "objects": 1}, 1),
        (6, {"objects": 0}, 5),  # no object at all
    ],
)
def test_the_twelve_numbers_are_pycocotools_numbers(seed, dataset, per_image):
    data = make_dataset(seed, **dataset)
    found = make_detections(seed, data, per_image)
    expected = theirs(data, found)
    np.testing.assert_allclose(ours(data, found), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours(data, found, fast=False), expected, rtol=0, atol=1e-10)


def test_real_annotations(datasets_dir):
    path = datasets_dir / "coco" / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    found = make_detections(0, data, 40)
    np.testing.assert_allclose(ours(data, found), theirs(data, found), rtol=0, atol=1e-10)


def test_perfect_detections_score_100_and_no_detections_0():
    data = make_dataset(0, crowds=0)
    found = [
        {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for a in data["annotations"]
    ]
    truth = CocoTruth(data)
    assert truth.curves(rows_of(truth, found)).ap() == pytest.approx(100)
    assert truth.curves(np.zeros((0, 7))).ap() == 0
    assert np.isnan(CocoTruth({**data, "annotations": []}).curves(np.zeros((0, 7))).ap())


def test_per_category_ap_is_the_ap_of_that_category_alone():
    data = make_dataset(0)
    found = make_detections(0, data, 20)
    truth = CocoTruth(data)
    curves = truth.curves(rows_of(truth, found))
    for k, category in enumerate(truth.categories):
        alone = copy.deepcopy(data)
        alone["categories"] = [category]
        alone["annotations"] = [
            a for a in data["annotations"] if a["category_id"] == category["id"]
        ]
        own = [d for d in found if d["category_id"] == category["id"]]
        assert curves.ap(category=k) == pytest.approx(theirs(alone, own)[0], nan_ok=True)


def test_more_detections_an_image_and_chosen_images():
    data = make_dataset(4, images=6, objects=30)
    found = make_detections(4, data, 150)
    truth = CocoTruth(data)
    rows = rows_of(truth, found)
    few, many = (truth.curves(rows, (1, 10, limit)).ar() for limit in (20, 1000))
    assert few < many
    chosen = [image["id"] for image in data["images"][:3]]
    part = {**data, "images": data["images"][:3]}
    part["annotations"] = [a for a in data["annotations"] if a["image_id"] in chosen]
    own = [d for d in found if d["image_id"] in chosen]
    np.testing.assert_allclose(
        list(truth.curves(rows, images=[0, 1, 2]).twelve().values()), theirs(part, own), atol=1e-10
    )


def test_ids_may_be_zero_or_text_and_area_and_iscrowd_may_be_absent():
    data = make_dataset(0, crowds=0)
    for a in data["annotations"]:
        a["area"] = a["bbox"][2] * a["bbox"][3]
    found = make_detections(0, data, 20)
    expected = theirs(data, found)
    for a in data["annotations"]:
        a["id"] -= 1
        del a["area"], a["iscrowd"]
    np.testing.assert_allclose(ours(data, found), expected, atol=1e-10)
    for record in [*data["annotations"], *found]:
        record["image_id"] = f"{record['image_id']:06}"
    for image in data["images"]:
        image["id"] = f"{image['id']:06}"
    np.testing.assert_allclose(ours(data, found), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "here.json: no 'images' list"),
        (lambda d: d["annotations"][0].pop("bbox"), "here.json: annotation 1 needs 'bbox'"),
        (lambda d: d["annotations"][0].update(image_id=5), "annotation 1 has image_id 5"),
        (lambda d: d["annotations"][0].update(category_id=99), "annotation 1 has category_id 99"),
    ],
)
def test_bad_annotations_are_named(change, message):
    data = make_dataset(0)
    change(data)
    with pytest.raises(ValueError, match=message):
        CocoTruth(data, "here.json")


def test_unknown_ids_in_predictions_are_named():
    truth = CocoTruth(make_dataset(0), "here.json")
    with pytest.raises(ValueError, match=r"image id 4, which here\.json does not have"):
        truth.index_of_image(4)
    with pytest.raises(ValueError, match=r"category id 100.*NUM_CLASSES"):
        truth.index_of_category(100)
