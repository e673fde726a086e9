"""From a model's outputs to numbers: COCO AP, Pascal VOC AP, recall of proposals."""

from lucidet._absent import absent
from lucidet.evaluation.coco_evaluation import COCOEvaluator, instances_to_coco_json
from lucidet.evaluation.evaluator import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)
from lucidet.evaluation.pascal_voc_evaluation import PascalVOCDetectionEvaluator
from lucidet.evaluation.testing import flatten_results_dict, print_csv_format, verify_results

__all__ = [
    "COCOEvaluator",
    "COCOPanopticEvaluator",
    "CityscapesInstanceEvaluator",
    "CityscapesSemSegEvaluator",
    "DatasetEvaluator",
    "DatasetEvaluators",
    "LVISEvaluator",
    "PascalVOCDetectionEvaluator",
    "RotatedCOCOEvaluator",
    "SemSegEvaluator",
    "flatten_results_dict",
    "inference_context",
    "inference_on_dataset",
    "instances_to_coco_json",
    "print_csv_format",
    "verify_results",
]

# training scripts for boxes, too, import them: they are detectron2's tools/train_net.py
COCOPanopticEvaluator = absent("COCOPanopticEvaluator")
CityscapesInstanceEvaluator = absent("CityscapesInstanceEvaluator")
CityscapesSemSegEvaluator = absent("CityscapesSemSegEvaluator")
LVISEvaluator = absent("LVISEvaluator")
RotatedCOCOEvaluator = absent("RotatedCOCOEvaluator")
SemSegEvaluator = absent("SemSegEvaluator")
