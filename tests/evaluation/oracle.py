"""Made-up COCO data, and pycocotools' numbers for it: the oracle of the tests here."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lucidet.structures import Boxes, Instances


def make_dataset(
    seed: int, images: int = 12, classes: int = 4, objects: int = 8, crowds: float = 0.1
) -> dict[str, Any]:
    """Return a COCO dict: ids with gaps, crowds, images without objects, sizes small to large."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(90, classes, replace=False) + 1)
    dataset: dict[str, Any] = {
        "info": {},
        "images": [
            {"id": 3 + 7 * i, "file_name": f"{i}.jpg", "width": 640, "height": 480}
            for i in range(images)
        ],
        "categories": [{"id": int(c), "name": f"class {c}"} for c in ids],
        "annotations": [],
    }
    for image in dataset["images"][:-2]:  # the last two stay empty
        for _ in range(rng.integers(0, objects + 1)):
            w, h = np.exp(rng.uniform(2.0, 5.8, 2))
            x, y = rng.uniform(0, 600), rng.uniform(0, 440)
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.choice(ids)),
                    "bbox": [float(v) for v in (x, y, w, h)],
                    "area": float(w * h * 0.7),
                    "iscrowd": int(rng.random() < crowds),
                }
            )
    return dataset


def make_detections(seed: int, dataset: dict[str, Any], per_image: int) -> list[dict[str, Any]]:
    """Return COCO results: half of them near an object; scores in steps of 0.01, so with ties."""
    rng = np.random.default_rng(seed)
    ids = [c["id"] for c in dataset["categories"]]
    found = []
    for image in dataset["images"][1:]:  # the first has no detection
        own = [a for a in dataset["annotations"] if a["image_id"] == image["id"]]
        for _ in range(per_image):
            if own and rng.random() < 0.5:
                target = own[rng.integers(len(own))]
                box, category = (
                    np.array(target["bbox"]) + rng.normal(0, 4, 4),
                    target["category_id"],
                )
            else:
                box = np.concatenate([rng.uniform(0, 440, 2), rng.uniform(5, 200, 2)])
                category = int(rng.choice(ids))
            box[2:] = np.maximum(box[2:], 1.0)
            found.append(
                {
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box.astype(np.float32).astype(float).tolist(),
                    "score": round(float(rng.random()), 2),
                }
            )
    return found


def twelve_numbers(dataset: dict[str, Any], found: list[dict[str, Any]]) -> np.ndarray:
    """Return pycocotools' summary in 0..1, -1 where undefined."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(dataset))
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(json.loads(json.dumps(found))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def as_batches(
    dataset: dict[str, Any], found: list[dict[str, Any]]
) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Return (inputs, outputs) of a pretended model, one image a batch; classes are positions."""
    classes = {c["id"]: k for k, c in enumerate(dataset["categories"])}
    batches = []
    for image in dataset["images"]:
        own = [d for d in found if d["image_id"] == image["id"]]
        xywh = torch.tensor([d["bbox"] for d in own], dtype=torch.float64).reshape(-1, 4)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
        instances = Instances((image["height"], image["width"]))
        instances.pred_boxes = Boxes(boxes)
        instances.scores = torch.tensor([d["score"] for d in own], dtype=torch.float64)
        instances.pred_classes = torch.tensor([classes[d["category_id"]] for d in own]).long()
        batches.append(([{"image_id": image["id"]}], [{"instances": instances}]))
    return batches


def register(name: str, dataset: dict[str, Any], folder: Path) -> SimpleNamespace:
    """Write `dataset` as JSON and register it under `name`; return its paths."""
    from lucidet.data import DatasetCatalog, MetadataCatalog
    from lucidet.data.datasets import register_coco_instances

    path = folder / f"{name}.json"
    path.write_text(json.dumps(dataset))
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_coco_instances(name, {}, str(path), str(folder))
    classes = dataset["categories"]
    MetadataCatalog.get(name).thing_classes = [c["name"] for c in classes]
    MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id = {
        c["id"]: k for k, c in enumerate(classes)
    }
    return SimpleNamespace(name=name, path=path)
