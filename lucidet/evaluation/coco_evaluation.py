"""COCO evaluation of detections and proposals, with detectron2's names for everything.

Symbols: D detections of an image, P proposals of an image, K classes.
"""

from __future__ import annotations

import copy
import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lucidet.data import MetadataCatalog
from lucidet.evaluation.box_proposals import average_recall
from lucidet.evaluation.coco_ap import CocoTruth, Curves
from lucidet.evaluation.coco_api import _evaluate_predictions_on_coco, as_curves
from lucidet.evaluation.coco_truth_file import json_path, read_truth
from lucidet.evaluation.detection_rows import (
    DetectionRows,
    has,
    instances_to_coco_json,
    ranked_boxes,
    rows_of_instances,
)
from lucidet.evaluation.detection_table import DetectionTable, table_of
from lucidet.evaluation.evaluator import DatasetEvaluator, image_id_of, partial_name
from lucidet.evaluation.result_tables import limits_of, side_by_side
from lucidet.utils import comm
from lucidet.utils.logger import create_small_table

__all__ = ["COCOEvaluator", "_evaluate_predictions_on_coco", "instances_to_coco_json"]

logger = logging.getLogger(__name__)

RESULTS_FILE = "coco_instances_results.json"
PROPOSAL_LIMITS = (100, 1000)
# COCO's: of keypoints an image may use 20 detections
KEYPOINT_LIMITS = (20,)
DETECTION_TASKS = ("bbox", "segm", "keypoints")
KNOWN_TASKS = (*DETECTION_TASKS, "box_proposals")


class COCOEvaluator(DatasetEvaluator):
    """AP of boxes (task ``bbox``), masks (``segm``) and keypoints, recall of ``box_proposals``.

    Detections stay arrays from the model to the numbers. A data set that was registered without
    a COCO JSON is written as one into `output_dir` first.

    Args:
        dataset_name: registered name; its metadata may have ``json_file`` and
            ``thing_dataset_id_to_contiguous_id``.
        tasks: some of ``"bbox"``, ``"segm"``, ``"keypoints"``, ``"box_proposals"``; found in the
            predictions without it: ``pred_masks`` and ``pred_keypoints`` ask for theirs.
            A config, which old code for detectron2 hands over here, is the same as None.
        distributed: gather from all ranks to rank 0, which alone returns results.
        output_dir: where ``coco_instances_results.json`` goes; nothing is written without it.
        max_dets_per_image: detections an image may use (COCO: 100), or three rising numbers, for
            the three recalls; the last holds for AP. Keypoints use 20, as COCO's do.
        use_fast_impl: through hotcoco; False takes pycocotools (same numbers, slower).
        kpt_oks_sigmas: K numbers, how exact each keypoint can be told (TEST.KEYPOINT_OKS_SIGMAS);
            those of COCO's persons without it, which have 17 keypoints.
        allow_cached_coco: reuse a JSON that was converted before, if it holds the same.

    Masks or keypoints that are asked for, and that an annotation of the JSON lacks, are an error
    that names the annotation: at once where `tasks` names them, else with the first prediction.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | Mapping[str, Any] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | Sequence[int] | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ) -> None:
        if isinstance(tasks, Mapping):
            logger.warning("COCOEvaluator finds its tasks in the predictions: leave the config out")
            tasks = None
        elif isinstance(tasks, str):
            tasks = (tasks,)
        unknown = [t for t in tasks or () if t not in KNOWN_TASKS]
        if unknown:
            raise ValueError(
                f"COCOEvaluator cannot evaluate {unknown[0]!r}; it knows {KNOWN_TASKS}"
            )
        self._tasks = None if tasks is None else tuple(tasks)
        self._distributed = distributed
        self._output_dir = output_dir
        self._limits = limits_of(max_dets_per_image)
        self._use_fast_impl = use_fast_impl
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        # a specification's dataset has a name without slashes
        path = json_path(self._metadata.name, self._metadata, output_dir, allow_cached_coco)
        self._truth = CocoTruth(read_truth(path, self._metadata.get("image_root")), path)
        self._class_to_id = _class_to_category_id(self._metadata, self._truth)
        self._predictions: list[dict[str, Any]] = []
        self._results: OrderedDict[str, Any] = OrderedDict()
        # further names that subclasses written for detectron2 use
        self._logger = logger
        self._cpu_device = torch.device("cpu")
        self._do_evaluation = self._truth.has_annotations
        self._max_dets_per_image = list(self._limits)
        self._kpt_oks_sigmas = list(kpt_oks_sigmas)
        for task in self._tasks or ():
            self._check_truth(task)

    @cached_property
    def _coco_api(self) -> Any:
        """pycocotools' COCO of the annotations, for subclasses; read when it is asked for."""
        return self._truth.as_coco_api()

    def reset(self) -> None:
        self._predictions = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Keep a batch's detections as arrays.

        Args:
            inputs: each with ``image_id``.
            outputs: each with ``instances`` (pred_boxes, scores, pred_classes, in pixels of the
                image as it is on disk; pred_masks and pred_keypoints where the model has them), or
                ``proposals`` (proposal_boxes, objectness_logits).

        Raises:
            ValueError: an input without ``image_id``; masks or keypoints where an annotation of the
                JSON has none.
        """
        for given, output in zip(inputs, outputs, strict=True):
            kept: dict[str, Any] = {"image_id": image_id_of(given)}
            if "instances" in output:
                rows = rows_of_instances(output["instances"], kept["image_id"])
                self._check_truth("segm" if rows.masks is not None else "bbox")
                self._check_truth("keypoints" if rows.keypoints is not None else "bbox")
                kept["instances"] = rows
            if "proposals" in output:
                kept["proposals"] = ranked_boxes(output["proposals"])  # (P, 4)
            if len(kept) > 1:
                self._predictions.append(kept)

    def evaluate(self, img_ids: Sequence[Any] | None = None) -> dict[str, Any]:
        """Return ``{"bbox": {"AP": ..., "AP50": ..., "AP-person": ...}}`` in percent.

        NaN stands where there is no object to find. Other ranks than 0 return ``{}``.

        Args:
            img_ids: only these images count; every image of the JSON without it.
        """
        predictions = self._gather()
        if predictions is None:
            return {}
        if not predictions:
            logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        self._check_images(predictions, img_ids)
        self._results = OrderedDict()
        asked = set(self._tasks or ())
        found = set() if asked else {kind for p in predictions for kind in p}
        if "box_proposals" in asked or "proposals" in found:
            self._eval_box_proposals(predictions)
        if asked & set(DETECTION_TASKS) or "instances" in found:
            self._eval_predictions(predictions, img_ids)
        return copy.deepcopy(self._results)

    def save_partial(self) -> list[Path]:
        if not self._output_dir:
            return []
        path = Path(self._output_dir, partial_name(RESULTS_FILE))
        self._write_results(self._whole_table(self._predictions), path)
        return [path]

    def save_detections(
        self, detections: Sequence[tuple[Any, np.ndarray]], name: str = RESULTS_FILE
    ) -> None:
        """Write detections as a COCO results file `name` into `output_dir`.

        Args:
            detections: of each image its image_id and (D, 6): XYXY pixels, score, class.
        """
        if self._output_dir is None:
            raise ValueError("COCOEvaluator needs an output_dir to write detections into")
        kept = []
        for image_id, rows in detections:
            corners, sides = rows[:, :2], rows[:, 2:4] - rows[:, :2]
            array = np.concatenate([corners, sides, rows[:, 4:6]], axis=1)
            kept.append({"image_id": image_id, "instances": DetectionRows(array, image_id)})
        self._write_results(self._whole_table(kept), Path(self._output_dir) / name)

    def _check_images(
        self, predictions: list[dict[str, Any]], img_ids: Sequence[Any] | None
    ) -> None:
        """Refuse an image that was predicted twice; say how many were not predicted."""
        truth = self._truth
        times = Counter(truth.index_of_image(p["image_id"]) for p in predictions)
        twice = [truth.image_ids[i] for i, n in times.items() if n > 1]
        if twice:
            raise ValueError(
                f"{len(twice)} images of {self._dataset_name!r} were predicted more than once, for "
                f"example image_id {twice[0]!r}: their detections would count twice. Give each "
                "record an image_id of its own, and each image once"
            )
        missing = [i for n, i in enumerate(truth.image_ids) if n not in times]
        if missing and img_ids is None:
            logger.warning(
                f"{len(missing)} of {len(truth.image_ids)} images of {self._dataset_name!r} were "
                f"not predicted, for example image_id {missing[0]!r}: their objects count as missed"
            )

    def _gather(self) -> list[dict[str, Any]] | None:
        if not self._distributed:
            return self._predictions
        comm.synchronize()
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        return [prediction for rank in gathered for prediction in rank]

    def _eval_predictions(
        self, predictions: list[dict[str, Any]], img_ids: Sequence[Any] | None = None
    ) -> None:
        """Put the results of the tasks that have detections into `_results`."""
        table = self._whole_table(predictions)
        if self._output_dir:
            self._write_results(table, Path(self._output_dir) / RESULTS_FILE)
        if not self._truth.has_annotations:
            logger.info("Annotations are not available for evaluation.")
            return
        images = None
        if img_ids is not None:
            images = [self._truth.index_of_image(image) for image in img_ids]
        if not len(table):
            logger.warning("No predictions from the model: every AP is 0.")
        for task in self._tasks_of(predictions):
            curves = self._truth.curves(
                table.rows,
                KEYPOINT_LIMITS if task == "keypoints" else self._limits,
                images,
                fast=self._use_fast_impl,
                iou_type=task,
                shapes=self._shapes(table, task),
                sigmas=self._kpt_oks_sigmas if task == "keypoints" else (),
            )
            self._results[task] = self._derive_coco_results(curves, task, self._class_names())

    def _tasks_of(self, predictions: list[dict[str, Any]]) -> list[str]:
        """Return the tasks with detections: those asked for, else what the predictions hold."""
        if self._tasks:
            return [task for task in DETECTION_TASKS if task in self._tasks]
        records = [p["instances"] for p in predictions if "instances" in p]
        fields = {"segm": "segmentation", "keypoints": "keypoints"}
        return ["bbox"] + [t for t, field in fields.items() if any(has(r, field) for r in records)]

    def _shapes(self, table: DetectionTable, task: str) -> Sequence[Any]:
        """Return what is compared beside the boxes, after a look at it."""
        self._check_truth(task)
        shapes = table.shapes(task)
        if task == "segm":
            table.check_mask_sizes(self._truth)
        if task == "keypoints" and len(shapes):
            counts = [len(shapes[0]) // 3, self._truth.keypoints.shape[1] // 3]
            counts.append(len(self._kpt_oks_sigmas) or 17)
            if len(set(counts)) > 1 and self._truth.keypoints.size:
                raise ValueError(
                    f"keypoints: the predictions have {counts[0]}, {self._truth.source} has "
                    f"{counts[1]} and kpt_oks_sigmas {counts[2]} (17 are COCO's of a person); set "
                    "TEST.KEYPOINT_OKS_SIGMAS to one number for each keypoint"
                )
        return shapes

    def _check_truth(self, task: str) -> None:
        """Raise an error that names an annotation which lacks what a task compares."""
        if not self._truth.has_annotations:
            return
        if task == "segm":
            _ = self._truth.masks
        elif task == "keypoints":
            _ = self._truth.keypoints

    def _eval_box_proposals(self, predictions: list[dict[str, Any]]) -> None:
        """Put the results of task ``box_proposals`` into `_results`."""
        self._results["box_proposals"] = self._recall_of_proposals(predictions)

    def _detection_table(self, predictions: list[dict[str, Any]]) -> np.ndarray:
        """Return all detections as (D, 7): image, x, y, w, h, score, category, ids as positions."""
        return self._whole_table(predictions).rows

    def _whole_table(self, predictions: list[dict[str, Any]]) -> DetectionTable:
        """Return all detections of classes that there are, ids as positions."""
        table = self._of_known_classes(table_of(predictions, self._truth))
        self._warn_of_limit(table.rows)
        return table

    def _of_known_classes(self, table: DetectionTable) -> DetectionTable:
        """Return the table with categories as positions, without classes that there are none of."""
        classes = table.rows[:, 6].astype(np.int64)
        known: dict[int, int] = {}
        for k in np.unique(classes).tolist():
            position = self._truth.find_category(self._category_id(k))
            if position is not None:
                known[k] = position
        kept = np.isin(classes, list(known))
        if not kept.all():
            unknown = np.unique(classes[~kept]).tolist()
            logger.warning(
                f"{int((~kept).sum())} of {len(table)} detections are of classes that "
                f"{self._dataset_name!r} does not have, {unknown[:10]}, and are left out of the "
                f"AP: it has {len(self._truth.categories)} classes, counted from 0. Set "
                "NUM_CLASSES of the model to that number for weights trained on such data, or say "
                "with MODEL.CLASS_MAP what each class of the model is here (-1: nothing)"
            )
        table = table.chosen(kept)
        table.rows[:, 6] = [known[k] for k in classes[kept].tolist()]
        return table

    def _warn_of_limit(self, rows: np.ndarray) -> None:
        limit = self._limits[-1]
        most = np.unique(rows[:, 0], return_counts=True)[1].max(initial=0)
        if most > limit:
            logger.warning(
                f"an image has {most} detections, but AP uses the best {limit} of an image, as "
                f"COCO's does: for more, COCOEvaluator(..., max_dets_per_image={most}), in "
                "build_evaluator of a trainer"
            )

    def _category_id(self, class_index: int) -> Any:
        return class_index if self._class_to_id is None else self._class_to_id.get(class_index)

    def _write_results(self, table: DetectionTable, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        records: list[dict[str, Any]] = [
            {
                "image_id": self._truth.image_ids[int(row[0])],
                "category_id": self._truth.categories[int(row[6])]["id"],
                "bbox": row[1:5],
                "score": row[5],
            }
            for row in table.rows.tolist()
        ]
        if table.masks is not None:
            for record, mask in zip(records, table.masks, strict=True):
                record["segmentation"] = mask
        if table.keypoints is not None:
            for record, points in zip(records, table.keypoints, strict=True):
                record["keypoints"] = np.asarray(points).tolist()
        logger.info(f"Saving results to {path}")
        path.write_text(json.dumps(records), encoding="utf-8")

    def _class_names(self) -> list[str]:
        """Return a name for each category, in the order of the JSON's ids."""
        names = self._metadata.get("thing_classes", None)
        if names is None or self._class_to_id is None or len(names) != len(self._class_to_id):
            return [str(c.get("name", c["id"])) for c in self._truth.categories]
        named = {self._class_to_id[k]: name for k, name in enumerate(names)}
        return [str(named.get(c["id"], c.get("name", c["id"]))) for c in self._truth.categories]

    def _derive_coco_results(
        self, coco_eval: Curves | Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Name COCO's numbers and add ``AP-<class>`` for every class; log both as tables.

        Args:
            coco_eval: also a COCOeval of pycocotools, from a subclass.
            iou_type: "bbox", "segm" or "keypoints".
            class_names: of the categories in the order of their ids.
        """
        curves = as_curves(coco_eval)
        numbers = curves.twelve()
        main = {name: value for name, value in numbers.items() if "-" not in name}
        logger.info(f"Evaluation results for {iou_type}:\n{create_small_table(main)}")
        if any(np.isnan(value) for value in main.values()):
            logger.info("Some metrics cannot be computed and are shown as NaN: no such objects.")
        if not class_names:
            return numbers
        per_class = [(name, curves.ap(category=k)) for k, name in enumerate(class_names)]
        logger.info(f"Per-category {iou_type} AP:\n{side_by_side(('category', 'AP'), per_class)}")
        return numbers | {f"AP-{name}": ap for name, ap in per_class}

    def _recall_of_proposals(self, predictions: list[dict[str, Any]]) -> dict[str, float]:
        truth = self._truth
        proposals, objects, areas = [], [], []
        real = ~truth.crowd
        for prediction in predictions:
            mine = (truth.image == truth.index_of_image(prediction["image_id"])) & real
            boxes = truth.boxes[mine]
            objects.append(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
            areas.append(truth.area[mine])
            own = prediction.get("proposals", np.zeros((0, 4)))
            proposals.append(own if isinstance(own, np.ndarray) else ranked_boxes(own))
        numbers = {
            f"AR{size}@{limit}": average_recall(proposals, objects, areas, limit, size)
            for limit in PROPOSAL_LIMITS
            for size in ("", "s", "m", "l")
        }
        logger.info(f"Proposal metrics:\n{create_small_table(numbers)}")
        return numbers


def _class_to_category_id(metadata: Any, truth: CocoTruth) -> dict[int, Any] | None:
    """Return class index -> the JSON's category id; None where the two are the same."""
    mapping = metadata.get("thing_dataset_id_to_contiguous_id", None)
    if mapping is None:
        return None
    return {index: category_id for category_id, index in mapping.items()}
