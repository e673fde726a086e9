from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
import torch

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.evaluation import COCOEvaluator, instances_to_coco_json, print_csv_format
from lucidet.structures import Boxes, Instances
from tests.evaluation.oracle import (
    as_batches,
    make_dataset,
    make_detections,
    register,
    twelve_numbers,
)


def evaluate(evaluator: COCOEvaluator, dataset: dict, found: list[dict]) -> dict:
    evaluator.reset()
    for inputs, outputs in as_batches(dataset, found):
        evaluator.process(inputs, outputs)
    return evaluator.evaluate()


@pytest.fixture
def data(tmp_path):
    dataset = make_dataset(0)
    register("evaluation_test", dataset, tmp_path)
    return dataset


@pytest.mark.parametrize("fast", [True, False])
def test_results_and_their_file(data, tmp_path, fast):
    found = make_detections(0, data, 20)
    evaluator = COCOEvaluator("evaluation_test", output_dir=str(tmp_path), use_fast_impl=fast)
    results = evaluate(evaluator, data, found)["bbox"]
    expected = 100 * twelve_numbers(data, found)
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR-1", "AR-10", "AR-100"]
    assert list(results)[: len(names)] == names
    np.testing.assert_allclose(list(results.values())[:12], expected, atol=1e-3)
    assert [n for n in results if n.startswith("AP-")] == [
        f"AP-{c['name']}" for c in data["categories"]
    ]
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert len(written) == len(found)
    np.testing.assert_allclose(100 * twelve_numbers(data, written), expected, atol=1e-3)


def test_the_line_for_spreadsheets(data, caplog):
    found = make_detections(0, data, 5)
    with caplog.at_level(logging.INFO, logger="lucidet"):
        results = evaluate(COCOEvaluator("evaluation_test"), data, found)
        print_csv_format(results)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[-3:-1] == ["copypaste: Task: bbox", "copypaste: AP,AP50,AP75,APs,APm,APl"]
    values = lines[-1].removeprefix("copypaste: ").split(",")
    assert [float(v) for v in values] == pytest.approx(list(results["bbox"].values())[:6], abs=1e-4)
    assert any(
        "Per-category bbox AP" in line and data["categories"][0]["name"] in line for line in lines
    )


def test_no_detection_is_ap_0_and_no_batch_is_no_result(data):
    evaluator = COCOEvaluator("evaluation_test")
    assert evaluate(evaluator, data, [])["bbox"]["AP"] == 0
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_a_config_in_the_place_of_tasks(data):
    from lucidet.config import get_cfg

    evaluator = COCOEvaluator("evaluation_test", get_cfg(), False, output_dir=None)
    assert "bbox" in evaluate(evaluator, data, make_detections(0, data, 2))


def test_only_some_images(data):
    found = make_detections(0, data, 20)
    evaluator = COCOEvaluator("evaluation_test")
    evaluate(evaluator, data, found)
    chosen = [data["images"][2]["id"], data["images"][3]["id"]]
    part = {**data, "images": data["images"][2:4]}
    part["annotations"] = [a for a in data["annotations"] if a["image_id"] in chosen]
    own = [d for d in found if d["image_id"] in chosen]
    ap = evaluator.evaluate(img_ids=chosen)["bbox"]["AP"]
    assert ap == pytest.approx(100 * twelve_numbers(part, own)[0], abs=1e-3)


def test_a_json_without_annotations_only_writes_the_file(tmp_path):
    data = make_dataset(0)
    found = make_detections(0, data, 3)
    unlabelled = {k: v for k, v in data.items() if k != "annotations"}
    register("evaluation_unlabelled", unlabelled, tmp_path)
    evaluator = COCOEvaluator("evaluation_unlabelled", output_dir=str(tmp_path))
    assert evaluate(evaluator, data, found) == {}
    assert len(json.loads((tmp_path / "coco_instances_results.json").read_text())) == len(found)


def test_a_dataset_without_json_is_converted(tmp_path):
    name = "evaluation_function"
    record = {
        "file_name": "a.jpg",
        "image_id": "first",
        "height": 100,
        "width": 100,
        "annotations": [{"bbox": [10, 10, 40, 50], "bbox_mode": 0, "category_id": 1}],
    }
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, lambda: [record])
        MetadataCatalog.get(name).thing_classes = ["cat", "dog"]
    with pytest.raises(ValueError, match=r"no json_file.*output_dir"):
        COCOEvaluator(name)
    evaluator = COCOEvaluator(name, output_dir=str(tmp_path))
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 10.0, 40.0, 50.0]]))
    instances.scores = torch.tensor([0.9])
    instances.pred_classes = torch.tensor([1])
    evaluator.process([{"image_id": "first"}], [{"instances": instances}])
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == pytest.approx(100)
    assert np.isnan(results["AP-cat"])
    assert results["AP-dog"] == pytest.approx(100)


def test_recall_of_proposals(data):
    evaluator = COCOEvaluator("evaluation_test")
    for image in data["images"]:
        own = [a for a in data["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        xywh = torch.tensor([a["bbox"] for a in own]).reshape(-1, 4)
        proposals = Instances((480, 640))
        proposals.proposal_boxes = Boxes(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1))
        proposals.objectness_logits = torch.zeros(len(own))
        evaluator.process([{"image_id": image["id"]}], [{"proposals": proposals}])
    results = evaluator.evaluate()
    assert list(results) == ["box_proposals"]
    assert results["box_proposals"]["AR@100"] == pytest.approx(100)
    assert set(results["box_proposals"]) == {
        f"AR{size}@{limit}" for size in ("", "s", "m", "l") for limit in (100, 1000)
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("panoptic",)}, "cannot evaluate 'panoptic'"),
        ({"tasks": ("segm",)}, r"evaluation_test.json: annotation 1 of image \d+ has no segm"),
        ({"tasks": ("keypoints",)}, r"annotation 1 of image \d+ has no keypoints"),
        ({"max_dets_per_image": [10, 1]}, "at least three rising numbers"),
    ],
)
def test_what_is_not_evaluated_says_so(data, options, message):
    with pytest.raises(ValueError, match=message):
        COCOEvaluator("evaluation_test", **options)


def test_a_class_that_the_data_set_lacks_is_left_out(data, caplog):
    evaluator = COCOEvaluator("evaluation_test")
    instances = Instances((10, 10))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0]]))
    instances.scores = torch.tensor([0.5])
    instances.pred_classes = torch.tensor([4])
    evaluator.process([{"image_id": 3}], [{"instances": instances}])
    assert evaluator.evaluate()["bbox"]["AP"] == 0.0
    message = r"1 of 1 detections .*'evaluation_test' does not have, \[4\].* it has 4 classes.*"
    assert re.search(message + "NUM_CLASSES.*CLASS_MAP", caplog.text)


def test_truncated_json(data, tmp_path):
    path = tmp_path / "evaluation_test.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"evaluation_test\.json, line 1.*ends too early"):
        COCOEvaluator("evaluation_test")


def test_instances_to_coco_json():
    instances = Instances((10, 10))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 5.0, 8.0]]))
    instances.scores = torch.tensor([0.5])
    instances.pred_classes = torch.tensor([3])
    assert instances_to_coco_json(instances, 7) == [
        {"image_id": 7, "category_id": 3, "bbox": [1.0, 2.0, 4.0, 6.0], "score": 0.5}
    ]
    assert instances_to_coco_json(instances[:0], 7) == []
