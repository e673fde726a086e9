"""Evaluators of users that are COCOEvaluators, and look into it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.moved_code import BALLOONS

PERFECT = """
import torch
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.structures import Boxes, Instances

def model(inputs):
    results = []
    for x in inputs:
        r = Instances((x["height"], x["width"]))
        r.pred_boxes = Boxes(torch.tensor([[10.5, 10.5, 40.5, 40.5], [0.0, 0.0, 9.0, 9.0]]))
        r.scores = torch.tensor([0.9, 0.1])
        r.pred_classes = torch.tensor([0, 0])
        results.append({"instances": r})
    return results

loader = [[record] for record in DatasetCatalog.get("balloon_val")]
"""


def test_subclasses_of_the_coco_evaluator(run: Any) -> None:
    found = run(
        BALLOONS
        + PERFECT
        + """
import copy, itertools
from collections import OrderedDict
import detectron2.utils.comm as comm
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

class Confident(COCOEvaluator):
    def process(self, inputs, outputs):
        for x, output in zip(inputs, outputs):
            instances = output["instances"].to(self._cpu_device)
            instances = instances[instances.scores > 0.5]
            self._predictions.append({
                "image_id": x["image_id"],
                "instances": instances_to_coco_json(instances, x["image_id"]),
            })

class OwnEvaluate(Confident):
    def evaluate(self, img_ids=None):
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(self._predictions, dst=0)))
        if not predictions:
            self._logger.warning("nothing to evaluate")
            return {}
        self._results = OrderedDict()
        self._eval_predictions(predictions, img_ids=img_ids)
        self._results["bbox"]["images"] = len(self._coco_api.getImgIds())
        return copy.deepcopy(self._results)

class OwnNumbers(COCOEvaluator):
    def _derive_coco_results(self, coco_eval, iou_type, class_names=None):
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        precision = coco_eval.eval["precision"]
        at_60 = [i for i, iou in enumerate(coco_eval.params.iouThrs) if abs(iou - 0.6) < 1e-6]
        results["AP60"] = precision[at_60, :, :, 0, -1].mean() * 100
        results["AR"] = coco_eval.stats[8] * 100
        return results

confident = inference_on_dataset(model, loader, Confident("balloon_val", output_dir="o"))
own = inference_on_dataset(model, loader, OwnEvaluate("balloon_val", output_dir="o"))
numbers = inference_on_dataset(model, loader, OwnNumbers("balloon_val", output_dir="o"))
"""
    )
    assert found["confident"]["bbox"]["AP"] == pytest.approx(100)
    assert found["own"]["bbox"]["images"] == 4
    assert found["own"]["bbox"]["AP50"] == pytest.approx(100)
    assert found["numbers"]["bbox"]["AP60"] == pytest.approx(100)
    assert found["numbers"]["bbox"]["AR"] == pytest.approx(100)


def test_pycocotools_under_users_evaluators(run: Any) -> None:
    pytest.importorskip("pycocotools")
    found = run(
        BALLOONS
        + PERFECT
        + """
from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco

class ByPycocotools(COCOEvaluator):
    def _eval_predictions(self, predictions, img_ids=None):
        records = [
            {"image_id": p["image_id"], "category_id": 0, "bbox": [10.5, 10.5, 30, 30], "score": 1}
            for p in predictions
        ]
        judge = _evaluate_predictions_on_coco(
            self._coco_api, records, "bbox", img_ids=img_ids, max_dets_per_image=[1, 10, 200]
        )
        self._results["bbox"] = self._derive_coco_results(
            judge, "bbox", class_names=self._metadata.get("thing_classes")
        )

results = inference_on_dataset(model, loader, ByPycocotools("balloon_val", output_dir="o"))
"""
    )
    assert found["results"]["bbox"]["AP"] == pytest.approx(100)
    assert found["results"]["bbox"]["AP-balloon"] == pytest.approx(100)
    with pytest.raises(ValueError, match=r"'bbox', 'segm' or 'keypoints', got 'panoptic'"):
        found["_evaluate_predictions_on_coco"](None, [{}], "panoptic")
    with pytest.raises(ValueError, match="no results"):
        found["_evaluate_predictions_on_coco"](None, [], "bbox")
