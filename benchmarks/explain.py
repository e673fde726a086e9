"""What `lucidet explain` costs: the funnel of a dataset against AP and inference, a heat map.

    python benchmarks/explain.py [--images 5000] [--threads 1]

Detections are generated: 5000 images x 100 detections of 80 classes, 7 ground-truth boxes an image,
50 of the detections near one. The cost of the stages before the detections is measured on a
detector with random weights. All times are processor time, so that other work does not count.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from lucidet.config import get_cfg
from lucidet.config.names import find_config
from lucidet.evaluation.coco_ap import CocoTruth
from lucidet.explain.explain import explain_image
from lucidet.explain.funnel import Funnel
from lucidet.explain.heat_map import heat_map
from lucidet.explain.judging import add_detections, add_fates
from lucidet.explain.matching import GroundTruth
from lucidet.explain.record import Candidates, DetectionRecord, Explanation, ObjectRecord, Settings
from lucidet.modeling import build_model

CLASSES, BOXES, DETECTIONS, SIDE = 80, 7, 100, 640


def generated(images: int) -> tuple[list[GroundTruth], np.ndarray]:
    """Return annotations, and detections (images, 100, 6): XYXY, score, class."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, SIDE * 0.7, (images, BOXES, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(10, 190, corners.shape)], axis=2)
    labels = generator.integers(0, CLASSES, (images, BOXES))
    near = generator.integers(0, BOXES, (images, DETECTIONS))
    rows = np.take_along_axis(boxes, near[..., None], axis=1)
    rows = rows + generator.normal(0, 12, rows.shape)
    rows[:, DETECTIONS // 2 :] += generator.uniform(-200, 200, (images, DETECTIONS // 2, 1))
    rows[..., 2:] = np.maximum(rows[..., 2:], rows[..., :2] + 1)
    right = generator.uniform(size=near.shape) < 0.8
    found = np.where(right, np.take_along_axis(labels, near, axis=1), 0)
    scores = -np.sort(-generator.uniform(0.05, 1, near.shape), axis=1)
    detections = np.concatenate([rows, scores[..., None], found[..., None]], axis=2)
    truths = [GroundTruth.of(b, k) for b, k in zip(boxes, labels, strict=True)]
    return truths, detections


def seconds_of_ap(truths: list[GroundTruth], detections: np.ndarray) -> float:
    """Return the time of COCO's twelve numbers."""
    annotations = [
        {"id": i * BOXES + j + 1, "image_id": i, "category_id": int(k), "bbox": box.tolist()}
        for i, own in enumerate(truths)
        for j, (box, k) in enumerate(zip(own.xywh, own.labels, strict=True))
    ]
    content = {
        "images": [{"id": i} for i in range(len(truths))],
        "categories": [{"id": k} for k in range(CLASSES)],
        "annotations": annotations,
    }
    truth = CocoTruth(content)
    flat = detections.reshape(-1, 6)
    rows = np.zeros((len(flat), 7))
    rows[:, 0] = np.arange(len(truths)).repeat(DETECTIONS)
    rows[:, 1:3], rows[:, 3:5] = flat[:, :2], flat[:, 2:4] - flat[:, :2]
    rows[:, 5:] = flat[:, 4:]
    start = time.process_time()
    truth.curves(rows).twelve()
    return time.process_time() - start


def seconds_of_funnel(truths: list[GroundTruth], detections: np.ndarray) -> float:
    """Return the time of matching, verdicts, fates, counts and mended APs."""
    records = [_record(own, rows) for own, rows in zip(truths, detections, strict=True)]
    funnel = Funnel([str(k) for k in range(CLASSES)])
    start = time.process_time()
    for record, truth in zip(records, truths, strict=True):
        add_fates(record, *add_detections(record, truth))
        funnel.add(record)
    funnel.to_json()
    return time.process_time() - start


def _record(truth: GroundTruth, rows: np.ndarray) -> Explanation:
    count = len(rows)
    candidates = Candidates(
        box=rows[:, :4].tolist(),
        score=rows[:, 4].tolist(),
        label=rows[:, 5].astype(int).tolist(),
        row=list(range(count)),
        rank=list(range(count)),
        level=[0] * count,
        top_label=rows[:, 5].astype(int).tolist(),
        top_score=rows[:, 4].tolist(),
    )
    facts: dict[str, Any] = {
        "rows": [],
        "proposal": None,
        "before": None,
        "positives": 3,
        "best_iou": 0.4,
    }
    facts |= {"best_anchor_iou": 0.6}
    objects = [
        ObjectRecord(i, box, k, str(k), truth.size(i), 0.0, crowd=False, facts=facts)
        for i, (box, k) in enumerate(zip(truth.boxes.tolist(), truth.labels.tolist(), strict=True))
    ]
    return Explanation(
        image={"file_name": "a.jpg", "image_id": 0, "width": SIDE, "height": SIDE}
        | {"resized": [SIDE, SIDE]},
        architecture="generated",
        two_stage=True,
        levels=[],
        classes=[str(k) for k in range(CLASSES)],
        num_classes=CLASSES,
        class_map=[],
        settings=Settings(0.05, 0.5, 1000, 100, assign_iou=0.3),
        exact={"score_thresh": 0.0, "topk": 1000},
        objects=objects,
        candidates=candidates,
    )


def detector(name: str) -> torch.nn.Module:
    """Return a detector with random weights."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config(name))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    torch.manual_seed(0)
    return build_model(cfg).eval()


def seconds_of_image(name: str, truth: GroundTruth, rounds: int) -> tuple[float, float, float]:
    """Return the best times of inference, of inference explained, and of a heat map."""
    model = detector(name)
    image = torch.randint(0, 256, (3, 800, 1066), dtype=torch.uint8)
    entry = {"image": image, "height": SIDE, "width": SIDE}
    found = explain_image(model, entry, truth)
    # random weights are sure of nothing: the best candidate stands for a detection
    found.detections = [DetectionRecord(0, [0.0, 0, 1, 1], 0.5, 0, "0", candidate=0)]

    def best(run) -> float:
        times = []
        for _ in range(rounds):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return min(times)

    def infer() -> None:
        with torch.no_grad():
            model([entry])

    return (
        best(infer),
        best(lambda: explain_image(model, entry, truth, details=False)),
        best(lambda: heat_map(model, entry, found, 0)),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    truths, detections = generated(args.images)
    ap = seconds_of_ap(truths, detections)
    own = seconds_of_funnel(truths, detections)
    print(f"{args.images} images x {DETECTIONS} detections: AP {ap:.2f} s, funnel {own:.2f} s")
    for name in ("faster_rcnn_R_50_FPN_1x", "retinanet_R_50_FPN_1x"):
        plain, explained, heat = seconds_of_image(name, truths[0], args.rounds)
        whole = args.images * explained + own
        base = args.images * plain + ap
        print(
            f"{name}: inference {plain:.3f} s, explained {explained:.3f} s an image; "
            f"the dataset {whole / base:.2f} x (AP + inference), limit 3; "
            f"heat map {heat / plain:.2f} x the inference, limit 2"
        )
        if whole > 3 * base or heat > 2 * plain:
            raise SystemExit("above the limit")


if __name__ == "__main__":
    main()
