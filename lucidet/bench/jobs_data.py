"""Jobs at both ends: from JPEG files to a batch, and from detections to AP."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from lucidet.bench.measure import Job, Sides
from lucidet.bench.models import MEAN, STD, photo, targets
from lucidet.data import DatasetMapper
from lucidet.data import transforms as T
from lucidet.evaluation.coco_ap import CocoTruth
from lucidet.modeling.meta_arch.detector import normalized_batch
from lucidet.structures import BoxMode

__all__ = ["JOBS"]


def _ap(quick: bool) -> Sides:
    """The twelve numbers from tensors; pycocotools gets its list of dicts made in the time."""
    num_images, per_image, num_classes = (20, 10, 5) if quick else (5000, 100, 80)
    rng = np.random.default_rng(0)
    truth = _truth(rng, num_images, num_classes)
    found = torch.from_numpy(_detections(rng, truth, num_images, per_image, num_classes))

    def ours() -> list[float]:
        return list(CocoTruth(truth).curves(found.numpy()).twelve().values())

    def theirs() -> list[float]:
        return _pycocotools(truth, found)

    def check() -> str:
        mine, expected = np.array(ours()) / 100, np.array(theirs())
        difference = float(np.abs(mine - expected).max())
        assert difference < 1e-6, f"the twelve numbers differ by {difference}"
        return f"twelve numbers within {difference:.0e}, AP {100 * expected[0]:.1f}"

    return Sides(ours, theirs, check)


def _truth(rng: np.random.Generator, num_images: int, num_classes: int) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image in range(num_images):
        for _ in range(int(rng.integers(1, 15))):
            side = rng.uniform(8, 250, 2)
            corner = rng.uniform(0, 1, 2) * (np.array([640, 480]) - side)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": int(rng.integers(num_classes)) + 1,
                    "bbox": [*corner.tolist(), *side.tolist()],
                    "area": float(side.prod()),
                    "iscrowd": int(rng.random() < 0.01),
                }
            )
    return {
        "images": [{"id": i + 1, "width": 640, "height": 480} for i in range(num_images)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": annotations,
    }


def _detections(
    rng: np.random.Generator,
    truth: dict[str, Any],
    num_images: int,
    per_image: int,
    num_classes: int,
) -> np.ndarray:
    """Return (D, 7): image position, x, y, w, h, score, category position; half near objects."""
    objects: dict[int, list[Any]] = {}
    for a in truth["annotations"]:
        objects.setdefault(a["image_id"] - 1, []).append(a)
    rows = []
    for image in range(num_images):
        for n in range(per_image):
            near = objects[image][n % len(objects[image])]
            if n < per_image // 2:
                box = np.array(near["bbox"]) + rng.normal(0, 6, 4)
                box[2:] = box[2:].clip(1)
                category = near["category_id"] - 1
            else:
                box = np.concatenate([rng.uniform(0, 300, 2), rng.uniform(8, 200, 2)])
                category = int(rng.integers(num_classes))
            rows.append([image, *box, rng.random(), category])
    return np.array(rows)


def _pycocotools(truth: dict[str, Any], found: Tensor) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        results = [
            {
                "image_id": int(row[0]) + 1,
                "category_id": int(row[6]) + 1,
                "bbox": row[1:5],
                "score": row[5],
            }
            for row in found.tolist()
        ]
        judge = COCOeval(ground_truth, ground_truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats.tolist()


def _loading(quick: bool) -> Sides:
    """What one worker does: files to an augmented, normalised, padded batch of two."""
    height, width, short, count = (48, 64, 40, 2) if quick else (480, 640, 800, 4)
    folder = tempfile.TemporaryDirectory(prefix="lucidet-bench-")
    records = [_write_photo(Path(folder.name), i, height, width) for i in range(count)]
    ours = _our_loader(short)
    theirs = _torchvision_loader(short)
    batches = [records[i : i + 2] for i in range(0, count, 2)]

    def run(load: Callable[[list[dict[str, Any]]], Tensor]) -> list[Tensor]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a DataLoader's worker
        try:
            return [load(batch) for batch in batches]
        finally:
            torch.set_num_threads(threads)

    def check() -> str:
        for a, b in zip(run(ours), run(theirs), strict=True):
            # both may be mirrored or not; in the mean over columns that makes no difference
            assert abs(a.shape[2] - b.shape[2]) <= 32, f"{a.shape}, expected {b.shape}"
            difference = (a.mean().item() - b.mean().item()) * max(STD) / 255
            assert abs(difference) < 0.05, f"mean brightness differs by {difference}"
        return "batches of the same size and mean brightness"

    sides = Sides(lambda: run(ours), lambda: run(theirs), check)
    sides.folder = folder  # type: ignore[attr-defined]  # removed with the sides
    return sides


def _write_photo(folder: Path, index: int, height: int, width: int) -> dict[str, Any]:
    path = folder / f"{index}.jpg"
    noise = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(index)) * 4
    pixels = (photo(height, width, index).permute(1, 2, 0) + noise).clamp(0, 255).byte().numpy()
    Image.fromarray(pixels).save(path, quality=90)
    boxes, classes = targets(height, width, 7, 80, index)
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": k, "iscrowd": 0}
        for box, k in zip(boxes.tolist(), classes.tolist(), strict=True)
    ]
    return {
        "file_name": str(path),
        "height": height,
        "width": width,
        "image_id": index,
        "annotations": annotations,
    }


def _our_loader(short: int) -> Callable[[list[dict[str, Any]]], Tensor]:
    mapper = DatasetMapper(
        is_train=True,
        # what a config gives at training
        augmentations=[T.ResizeShortestEdge([short], 1333, "choice", fast=True), T.RandomFlip()],
        image_format="RGB",
    )
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)

    def load(records: list[dict[str, Any]]) -> Tensor:
        images = [mapper(record)["image"] for record in records]
        return normalized_batch(images, mean, std, 32).tensor

    return load


def _torchvision_loader(short: int) -> Callable[[list[dict[str, Any]]], Tensor]:
    augment = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)]
    )
    batch = GeneralizedRCNNTransform(
        short, 1333, [m / 255 for m in MEAN], [s / 255 for s in STD]
    ).train()

    def load(records: list[dict[str, Any]]) -> Tensor:
        images, labelled = [], []
        for record in records:
            image: Any = Image.open(record["file_name"]).convert("RGB")
            boxes = torch.tensor([a["bbox"] for a in record["annotations"]])
            images.append(augment(image))
            labelled.append({"boxes": boxes})
        return batch(images, labelled)[0].tensors

    return load


JOBS = [
    Job(
        "ap",
        "AP of 5000 images x 100 detections, from tensors to the twelve numbers",
        "pycocotools",
        50,
        _ap,
    ),
    Job(
        "loading",
        "loading: JPEG files to an augmented, normalised batch, one worker",
        "torchvision's reference transforms on PIL",
        2,
        _loading,
    ),
]
