"""AP of masks and keypoints: pycocotools' numbers to the last digit, on real annotations."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging

import numpy as np
import pytest
import torch

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.segmentation import as_rle, bitmask_to_rle, rle_to_bitmask
from lucidet.evaluation import COCOEvaluator, instances_to_coco_json
from lucidet.evaluation.coco_ap import CocoTruth, Curves
from lucidet.evaluation.coco_evaluation import _evaluate_predictions_on_coco
from lucidet.structures import Boxes, Instances
from tests.evaluation.oracle import register

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAME = "shapes_evaluation_test"


@pytest.fixture
def clean():
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        if NAME in catalog.list():
            catalog.remove(NAME)


def real(datasets_dir, kind, images=40):
    content = json.loads((datasets_dir / f"coco/annotations/{kind}_val2017.json").read_text())
    # the images with crowds first
    crowded = {a["image_id"] for a in content["annotations"] if a["iscrowd"]}
    content["images"] = sorted(content["images"], key=lambda i: i["id"] not in crowded)[:images]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    assert any(a["iscrowd"] for a in content["annotations"])
    return content


def imperfect(content, seed=0):
    """Return (inputs, outputs): each object twice, moved a little, some of another class."""
    random = np.random.default_rng(seed)
    classes = len(content["categories"])
    contiguous = {c["id"]: k for k, c in enumerate(content["categories"])}
    batches = []
    for image in content["images"]:
        size = image["height"], image["width"]
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]] * 2
        boxes, masks, points, labels = [], [], [], []
        for a in own:
            box = np.array(a["bbox"]) + random.normal(0, 3, 4)
            boxes.append([box[0], box[1], box[0] + max(box[2], 1), box[1] + max(box[3], 1)])
            pixels = rle_to_bitmask(as_rle(a["segmentation"], *size), *size)
            masks.append(np.roll(pixels, random.integers(-5, 6, 2), (0, 1)))
            if "keypoints" in a:
                found = np.array(a["keypoints"], float).reshape(-1, 3)
                points.append(found + random.normal(0, 4, found.shape))
            wrong = random.random() < 0.2
            labels.append(random.integers(classes) if wrong else contiguous[a["category_id"]])
        found = Instances(size)
        found.pred_boxes = Boxes(torch.tensor(np.array(boxes).reshape(-1, 4)))
        found.scores = torch.tensor(random.random(len(own)).round(2))
        found.pred_classes = torch.tensor(np.array(labels, dtype=np.int64))
        stacked = np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)
        found.pred_masks = torch.from_numpy(stacked)
        if "keypoints" in content["categories"][0]:
            found.pred_keypoints = torch.tensor(np.array(points).reshape(len(own), 17, 3))
        batches.append(({"image_id": image["id"]}, {"instances": found}))
    return batches


def by_pycocotools(content, batches, iou_type, sigmas=None):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
    ids = [c["id"] for c in content["categories"]]
    records = [
        {**r, "category_id": ids[r["category_id"]]}
        for given, output in batches
        for r in instances_to_coco_json(output["instances"], given["image_id"])
    ]
    return _evaluate_predictions_on_coco(truth, records, iou_type, kpt_oks_sigmas=sigmas)


def evaluated(batches, **options):
    evaluator = COCOEvaluator(NAME, distributed=False, **options)
    evaluator.reset()
    for given, output in batches:
        evaluator.process([given], [output])
    return evaluator.evaluate()


def in_percent(stats):
    return np.where(np.asarray(stats) > -1, 100 * np.asarray(stats), np.nan)


def test_masks_score_as_with_pycocotools(datasets_dir, tmp_path, clean, caplog):
    content = real(datasets_dir, "instances")
    register(NAME, content, tmp_path)
    batches = imperfect(content)
    with caplog.at_level(logging.INFO):
        results = evaluated(batches, output_dir=str(tmp_path / "out"))
    assert list(results) == ["bbox", "segm"]
    for task in results:
        judge = by_pycocotools(content, batches, task)
        expected = in_percent(judge.stats)
        ours = [v for k, v in results[task].items() if k.count("-") == 0 or k.startswith("AR-")]
        np.testing.assert_array_equal(ours, expected)
        # a table with each class
        person = judge.eval["precision"][:, :, 0, 0, -1]
        assert results[task]["AP-person"] == pytest.approx(100 * person[person > -1].mean())
    assert "Per-category segm AP" in caplog.text
    slow = evaluated(batches[:6], use_fast_impl=False, tasks=("segm",))
    fast = evaluated(batches[:6], tasks=("segm",))
    np.testing.assert_array_equal([*slow["segm"].values()], [*fast["segm"].values()])
    written = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert len(written) == sum(len(output["instances"]) for _, output in batches)
    assert written[0].keys() == {"image_id", "category_id", "bbox", "score", "segmentation"}
    assert isinstance(written[0]["segmentation"]["counts"], str)


@pytest.mark.parametrize("sigmas", [(), [0.05] * 17])
def test_keypoints_score_as_with_pycocotools(datasets_dir, tmp_path, clean, sigmas):
    content = real(datasets_dir, "person_keypoints")
    register(NAME, content, tmp_path)
    batches = imperfect(content)
    results = evaluated(batches, tasks=("bbox", "keypoints"), kpt_oks_sigmas=sigmas)
    assert list(results) == ["bbox", "keypoints"]
    judge = by_pycocotools(content, batches, "keypoints", sigmas or None)
    numbers = results["keypoints"]
    names = ["AP", "AP50", "AP75", "APm", "APl"]
    precision = judge.eval["precision"]
    expected = [precision[..., 0, 0], precision[0, ..., 0, 0], precision[5, ..., 0, 0]]
    expected += [precision[..., 1, 0], precision[..., 2, 0]]
    for name, values in zip(names, expected, strict=True):
        assert numbers[name] == 100 * values[values > -1].mean()
    assert "APs" not in numbers
    assert numbers["AP-person"] == numbers["AP"]
    np.testing.assert_array_equal(in_percent(judge.stats)[:5], [numbers[n] for n in names])
    slow = evaluated(batches, tasks=("keypoints",), kpt_oks_sigmas=sigmas, use_fast_impl=False)
    np.testing.assert_array_equal([*slow["keypoints"].values()], [*numbers.values()])


def test_overlaps_of_masks(tmp_path, clean):
    truth = CocoTruth(tiny(segmentation=SQUARE))
    mask = np.zeros((6, 8), dtype=bool)
    mask[:4, :2] = True
    rows = np.array([[0, 0, 0, 4, 4, 0.9, 0]])
    curves = truth.curves(rows, iou_type="segm", shapes=[bitmask_to_rle(mask)])
    assert curves.ious[1, 1].tolist() == [[0.5]]
    assert curves.params.iouType == "segm"
    with pytest.raises(AttributeError, match="of keypoints only pycocotools"):
        _ = Curves(curves.precision, curves.recall, (20,), truth=truth, iou_type="keypoints").ious


def test_records_of_an_image():
    found = Instances((4, 5))
    found.pred_boxes = Boxes(torch.tensor([[0.0, 1, 2, 4]]))
    found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([3])
    found.pred_masks = torch.zeros(1, 4, 5, dtype=torch.bool)
    found.pred_masks[0, 1:4, 0:2] = True
    found.pred_keypoints = torch.tensor([[[1.5, 2.5, 0.9], [0.5, 0.5, 0.1]]])
    (record,) = instances_to_coco_json(found, 7)
    assert record["segmentation"] == bitmask_to_rle(found.pred_masks[0].numpy())
    assert record["keypoints"] == pytest.approx([1, 2, 0.9, 0, 0, 0.1])
    assert found.pred_keypoints[0, 0, 0] == 1.5  # not changed
    assert json.loads(json.dumps(record))["image_id"] == 7
    assert instances_to_coco_json(found[:0], 7) == []
    found.pred_masks = torch.zeros(1, 1, 28, 28)
    with pytest.raises(ValueError, match=r"\(D, height, width\) of the whole image, got \(1, 1"):
        instances_to_coco_json(found, 7)


def tiny(**more):
    annotation = {"id": 9, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], **more}
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"area": 16, "iscrowd": 0, **annotation}],
    }


def perfect(size=(6, 8), masks=True, keypoints=0):
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0, 4, 4]]))
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    if masks:
        found.pred_masks = torch.zeros(1, *size, dtype=torch.bool)
        found.pred_masks[:, :4, :4] = True
    if keypoints:
        found.pred_keypoints = torch.ones(1, keypoints, 3)
    return [({"image_id": 1}, {"instances": found})]


SQUARE = [[0, 0, 4, 0, 4, 4, 0, 4]]


@pytest.mark.parametrize(
    ("truth", "prediction", "options", "message"),
    [
        ({}, perfect(), {}, "annotation 9 of image 1 has no segmentation, as 1 of 1"),
        ({"segmentation": []}, perfect(), {}, "annotation 9 of image 1 has no segmentation"),
        (
            {"segmentation": {"size": [8, 6], "counts": [48]}},
            perfect(),
            {},
            r"annotation 9 of image 1: the RLE's size .* \[8, 6\], expected the image's \[6, 8\]",
        ),
        (
            {"segmentation": SQUARE},
            perfect(size=(4, 4)),
            {},
            r"image_id 1: a predicted mask is 4 x 4 .*says 6 x 8",
        ),
        ({"segmentation": SQUARE}, perfect(masks=False), {"tasks": ("segm",)}, "needs pred_masks"),
        (
            {"segmentation": SQUARE},
            perfect(keypoints=17),
            {},
            "annotation 9 of image 1 has no keyp",
        ),
        (
            {"segmentation": SQUARE, "keypoints": [1, 1, 2] * 5},
            perfect(keypoints=5),
            {},
            "predictions have 5, .* has 5 and kpt_oks_sigmas 17 .*TEST.KEYPOINT_OKS_SIGMAS",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, clean, truth, prediction, options, message):
    register(NAME, tiny(**truth), tmp_path)
    with pytest.raises(ValueError, match=message):
        evaluated(prediction, **options)


def test_own_keypoints_and_images_without_detections(tmp_path, clean):
    register(NAME, tiny(segmentation=SQUARE, keypoints=[0.5, 0.5, 2] * 5), tmp_path)
    results = evaluated(perfect(keypoints=5), kpt_oks_sigmas=[0.05] * 5)
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["keypoints"]["AP"] == pytest.approx(100)
    nothing = [({"image_id": 1}, {"instances": perfect()[0][1]["instances"][:0]})]
    assert evaluated(nothing, tasks=("bbox", "segm"))["segm"]["AP"] == 0
    assert evaluated(nothing)["segm"]["AP"] == 0
    boxes_only = [({"image_id": 1}, {"instances": perfect(masks=False)[0][1]["instances"]})]
    assert list(evaluated(boxes_only)) == ["bbox"]
