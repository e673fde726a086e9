"""Evaluators meet ids in any form, images that come twice or never, and records that change."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator, inference_on_dataset
from lucidet.structures import Boxes, BoxMode, Instances

NAME = "ids_and_copies"
BOX = [5.0, 5.0, 35.0, 35.0]


@pytest.fixture(autouse=True)
def _forget():
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        if NAME in catalog:
            catalog.remove(NAME)


def found(boxes=(BOX,), classes=None) -> dict:
    r = Instances((48, 64))
    r.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    r.scores = torch.full((len(boxes),), 0.9)
    r.pred_classes = torch.tensor(classes or [0] * len(boxes))
    return {"instances": r}


def coco(tmp_path, ids, **changes):
    content = {
        "images": [{"id": i, "file_name": f"{n}.jpg", "width": 64, "height": 48}
                   for n, i in enumerate(ids)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": [5, 5, 30, 30], **changes}
            for n, i in enumerate(ids)
        ],
    }  # fmt: skip
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    ids_to_k = {1: 0}
    MetadataCatalog.get(NAME).set(
        json_file=str(path), thing_classes=["cat"], thing_dataset_id_to_contiguous_id=ids_to_k
    )


def ap(evaluator, predicted, **kwargs) -> float:
    evaluator.reset()
    for image_id in predicted:
        evaluator.process([{"image_id": image_id}], [found(**kwargs)])
    return evaluator.evaluate()["bbox"]["AP"]


@pytest.mark.parametrize(
    ("ids", "predicted"),
    [
        ([0, 1], [0, 1]),
        ([0, 1], ["0", "1"]),
        (["0", "1"], [0, 1]),
        (["0001", "0002"], [1, 2]),
        ([7, 8], np.array([7, 8])),
        (["a.jpg", "b"], ["a.jpg", "b"]),
        ([1, "1"], [1, "1"]),
        ([2, "b", "10"], ["2", "b", 10]),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_coco_ids(tmp_path, ids, predicted, fast):
    coco(tmp_path, ids)
    assert ap(COCOEvaluator(NAME, use_fast_impl=fast), predicted) == pytest.approx(100)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ([0, 0], r"1 images .*predicted more than once, for example image_id 0"),
        ([0, "0"], "predicted more than once"),
        ([0, 5], "prediction for image id 5, which"),
        ([0, None], "has no image_id"),
    ],
)
def test_coco_ids_that_are_refused(tmp_path, predicted, message):
    coco(tmp_path, [0, 1])
    with pytest.raises(ValueError, match=message):
        ap(COCOEvaluator(NAME), predicted)


def test_images_that_were_not_predicted_are_said(tmp_path, caplog):
    coco(tmp_path, [0, 1, 2])
    assert ap(COCOEvaluator(NAME), [0, 2]) < 100
    assert "1 of 3 images of 'ids_and_copies' were not predicted, for example image_id 1" in (
        caplog.text
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"iscrowd": None, "area": None},
        {"iscrowd": "0", "area": "900"},
        {"area": 0},
        {"bbox": ["5", "5", "30", "30"]},
        {"image_id": 0.0},
        {"category_id": "1"},
    ],
)
def test_fields_mean_the_same_as_at_training(tmp_path, changes):
    coco(tmp_path, [0], **changes)
    evaluator = COCOEvaluator(NAME)
    evaluator.process([{"image_id": 0}], [found()])
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == pytest.approx(100)
    assert results["APs"] == pytest.approx(100)
    assert np.isnan(results["APm"])
    assert np.isnan(results["APl"])


@pytest.mark.parametrize("bbox", [[], None, [5, 5, 0, 30], [70, 5, 9, 9], [5, 5, float("nan"), 3]])
def test_boxes_that_cannot_be_used_are_no_objects_to_find(tmp_path, bbox):
    coco(tmp_path, [0, 1])
    path = tmp_path / "truth.json"
    content = json.loads(path.read_text())
    content["annotations"].append(dict(content["annotations"][0], id=9, bbox=bbox))
    path.write_text(json.dumps(content))
    assert ap(COCOEvaluator(NAME), [0, 1]) == pytest.approx(100)


def test_more_detections_than_count_are_said(tmp_path, caplog):
    coco(tmp_path, [0])
    boxes = [BOX] * 101
    ap(COCOEvaluator(NAME), [0], boxes=boxes)
    assert "101 detections, but AP uses the best 100" in caplog.text
    assert "max_dets_per_image=101" in caplog.text
    caplog.clear()
    ap(COCOEvaluator(NAME, max_dets_per_image=200), [0], boxes=boxes)
    assert "AP uses the best" not in caplog.text


def test_predictions_read_as_records_and_evaluation_as_pycocotools(tmp_path, capsys):
    coco(tmp_path, [4])
    evaluator = COCOEvaluator(NAME)
    evaluator.process([{"image_id": 4}], [found(boxes=[BOX, [40.0, 5.0, 50.0, 20.0]])])
    records = evaluator._predictions[0]["instances"]
    assert [round(r["score"], 2) for r in records] == [0.9, 0.9]
    assert records[1] == records[-1] == records[1:][0]
    assert records[1] | {"score": 0} == {
        "image_id": 4,
        "category_id": 0,
        "bbox": [40, 5, 10, 15],
        "score": 0,
    }
    seen = []
    evaluator._derive_coco_results = lambda judge, *rest: seen.append(judge) or {}
    evaluator.evaluate()
    (judge,) = seen
    assert judge.params.catIds == [1]
    assert judge.params.imgIds == [4]
    assert judge.eval["scores"].shape == judge.eval["precision"].shape == (10, 101, 1, 4, 3)
    first = judge.evalImgs[0]
    assert (first["image_id"], first["category_id"], first["maxDet"]) == (4, 1, 100)
    assert first["dtMatches"].shape == (10, 2)
    assert judge.ious[4, 1].tolist() == [[1.0], [0.0]]
    assert judge.cocoGt.getImgIds() == [4]
    judge.summarize()
    assert capsys.readouterr().out.splitlines()[0].endswith("maxDets=100 ] = 1.000")


def test_a_converted_copy_follows_its_records(tmp_path):
    record = {"file_name": "x.jpg", "image_id": 0, "height": 48, "width": 64}
    records = []
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).thing_classes = ["cat", "dog"]

    def evaluate(box, label, folder=tmp_path):
        entry = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label}
        records[:] = [{**record, "annotations": [entry]}]
        evaluator = COCOEvaluator(NAME, output_dir=str(folder))
        return ap(evaluator, [0], boxes=[box], classes=[label])

    assert evaluate(BOX, 0) == pytest.approx(100)
    assert evaluate([1.0, 2.0, 30.0, 40.0], 0) == pytest.approx(100)
    assert evaluate(BOX, 1) == pytest.approx(100)
    assert evaluate(BOX, 0, tmp_path / "another") == pytest.approx(100)
    written = (tmp_path / "another" / f"{NAME}_coco_format.json").stat().st_mtime_ns
    assert evaluate(BOX, 0, tmp_path / "another") == pytest.approx(100)
    assert (tmp_path / "another" / f"{NAME}_coco_format.json").stat().st_mtime_ns == written


@pytest.fixture
def voc(tmp_path):
    def write(names):
        for part in ("Annotations", "ImageSets/Main"):
            (tmp_path / part).mkdir(parents=True)
        (tmp_path / "ImageSets/Main/val.txt").write_text("\n".join(names) + "\n")
        for name in names:
            (tmp_path / "Annotations" / f"{name}.xml").write_text(
                "<annotation><object><name>cat</name><bndbox><xmin>6</xmin><ymin>6</ymin>"
                "<xmax>35</xmax><ymax>35</ymax></bndbox></object></annotation>"
            )
        MetadataCatalog.get(NAME).set(
            thing_classes=["cat"], dirname=str(tmp_path), split="val", year=2012
        )

    return write


@pytest.mark.parametrize(
    ("names", "predicted"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "b"], ["a.JPG", "images/b.png"]),
        (["a.v2", "b 1"], ["a.v2", "b 1.tif"]),
        (["0", "12"], [0, np.int64(12)]),
    ],
)
def test_voc_ids(voc, names, predicted):
    voc(names)
    assert ap(PascalVOCDetectionEvaluator(NAME), predicted) == pytest.approx(100)


@pytest.mark.parametrize(
    ("names", "predicted", "message"),
    [
        (["a", "b"], [0, 1], r"image_id 0: the image_id of each record must be its name"),
        (["000001", "000002"], [1, 2], "2 of 2 predicted images are not among the 2 names"),
        (["a", "b"], ["a", "a"], "'a' of 'ids_and_copies' was predicted more than once"),
        (["a", "b"], ["a", "a.jpg"], "predicted more than once"),
        (["a"], [None], "has no image_id"),
    ],
)
def test_voc_ids_that_are_refused(voc, names, predicted, message):
    voc(names)
    with pytest.raises(ValueError, match=message):
        ap(PascalVOCDetectionEvaluator(NAME), predicted)


def test_voc_images_that_were_not_predicted_are_said(voc, caplog):
    voc(["a", "b"])
    with caplog.at_level(logging.WARNING):
        assert ap(PascalVOCDetectionEvaluator(NAME), ["a"]) < 100
    assert "1 of 2 images of 'ids_and_copies' were not predicted, for example 'b'" in caplog.text


def test_a_loader_whose_mapper_drops_the_id(tmp_path):
    coco(tmp_path, [0])
    loader = [[{"file_name": "0.jpg"}]]
    with pytest.raises(ValueError, match=r"image 0.jpg has no image_id.*mapper's result"):
        inference_on_dataset(lambda _: [found()], loader, COCOEvaluator(NAME))
