"""What COCO's protocol measures, and pycocotools' names for it.

Symbols: T IoU thresholds, R recall points, K categories, M limits, D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from lucidet.data.segmentation import as_rle

__all__ = ["Curves", "SIZES"]

SIZES = ("all", "small", "medium", "large")
# square pixels; from pycocotools
_AREAS = {
    "all": [0.0, 1e10],
    "small": [0.0, 32.0**2],
    "medium": [32.0**2, 96.0**2],
    "large": [96.0**2, 1e10],
}
_TITLES = {"AP": "Average Precision", "AR": "Average Recall"}


@dataclass(frozen=True)
class Curves:
    """What COCO's protocol measures, before it is averaged.

    Attributes:
        precision: (T, R, K, S, M) in 0..1; -1 where a category has no object. S sizes: 4, of
            keypoints 3, as COCO labels none on small objects.
        recall: (T, K, S, M) in 0..1; -1 where a category has no object.
        limits: M numbers: how many detections an image may use.
        scores: (T, R, K, 4, M) score of the detection at each point; None where it is not known.
        judge: the COCOeval of hotcoco or pycocotools that matched, where there is one.
        truth: the CocoTruth of the annotations, where they are known.
        images: positions of the images that count; None: all.
        rows: (D, 7) the detections, as for `CocoTruth.curves`.
        iou_type: what was compared: "bbox", "segm" or "keypoints".
        shapes: D masks or keypoints of the detections.
    """

    precision: np.ndarray
    recall: np.ndarray
    limits: tuple[int, ...]
    scores: np.ndarray | None = None
    judge: Any = field(default=None, repr=False)
    truth: Any = field(default=None, repr=False)
    images: tuple[int, ...] | None = None
    rows: np.ndarray | None = field(default=None, repr=False)
    iou_type: str = "bbox"
    shapes: Any = field(default=(), repr=False)

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the S sizes."""
        return ("all", "medium", "large") if self.iou_type == "keypoints" else SIZES

    def ap(self, size: str = "all", iou: float | None = None, category: int | None = None) -> float:
        """Return the mean precision in percent, NaN where there is nothing to find.

        Args:
            size: of the objects: ``all``, ``small`` (< 32^2), ``medium``, ``large`` (>= 96^2).
            iou: one threshold, 0.50 ... 0.95; the mean over all ten without it.
            category: index of one category; the mean over all without it.
        """
        values = self.precision[..., self.sizes.index(size), -1]  # (T, R, K)
        if iou is not None:
            values = values[[round((iou - 0.5) / 0.05)]]
        return _mean_percent(values if category is None else values[..., category])

    def ar(self, size: str = "all", limit: int = -1) -> float:
        """Return the mean recall in percent; `limit` is an index into `limits`."""
        return _mean_percent(self.recall[:, :, self.sizes.index(size), limit])

    def twelve(self) -> dict[str, float]:
        """Return COCO's twelve numbers in percent, in COCO's order; of keypoints there are fewer.

        The recalls have a dash in their names, as per-category APs do: detectron2's one-line
        summary leaves such names out.
        """
        numbers = {
            "AP": self.ap(),
            "AP50": self.ap(iou=0.5),
            "AP75": self.ap(iou=0.75),
        }
        numbers |= {f"AP{size[0]}": self.ap(size) for size in self.sizes[1:]}
        numbers |= {f"AR-{limit}": self.ar(limit=i) for i, limit in enumerate(self.limits)}
        return numbers | {f"AR-{size}": self.ar(size) for size in self.sizes[1:]}

    # the names of pycocotools' COCOeval, for evaluators that look into it

    @property
    def stats(self) -> np.ndarray:
        """The twelve numbers in 0..1; -1 where there is nothing to find."""
        numbers = np.array(list(self.twelve().values()))
        return np.where(np.isnan(numbers), -1.0, numbers / 100.0)

    @property
    def eval(self) -> dict[str, Any]:
        """`precision`, `recall`, `scores`, their common shape `counts`, and `params`."""
        found = {
            "params": self.params,
            "counts": list(self.precision.shape),
            "precision": self.precision,
            "recall": self.recall,
        }
        return found if self.scores is None else {**found, "scores": self.scores}

    @property
    def params(self) -> SimpleNamespace:
        """The axes of `precision`, and the ids of images and categories as the JSON has them."""
        shared = SimpleNamespace(
            iouThrs=np.linspace(0.5, 0.95, 10),
            recThrs=np.linspace(0.0, 1.0, self.precision.shape[1]),
            areaRng=[list(_AREAS[size]) for size in self.sizes],
            areaRngLbl=list(self.sizes),
            maxDets=list(self.limits),
            iouType=self.iou_type,
            useCats=1,
        )
        if self.truth is not None:
            shared.catIds = [c["id"] for c in self.truth.categories]
            shared.imgIds = [self.truth.image_ids[i] for i in self._positions]
        return shared

    @property
    def _positions(self) -> list[int]:
        assert self.truth is not None
        return list(range(len(self.truth.image_ids)) if self.images is None else self.images)

    @cached_property
    def _matches(self) -> dict[tuple[int, int, tuple[float, ...]], dict[str, Any]]:
        """The matches of each image, category and range of areas that has boxes."""
        found = getattr(self.judge, "evalImgs", None) or []
        return {
            (int(e["image_id"]), int(e["category_id"]), tuple(map(float, e["aRng"]))): e
            for e in found
            if e is not None
        }

    @property
    def evalImgs(self) -> list[dict[str, Any] | None]:
        """Matches by category, range of areas and image, in pycocotools' order; ids are the JSON's.

        Ids of annotations and detections count from 1, in the order of the file and of `rows`.
        """
        truth = self._known_truth("evalImgs")
        found: list[dict[str, Any] | None] = []
        for category, entry in enumerate(truth.categories):
            for area in (_AREAS[size] for size in self.sizes):
                for image in self._positions:
                    match = self._matches.get((image, category, tuple(area)))
                    if match is None:
                        found.append(None)
                        continue
                    arrays = {
                        k: np.asarray(match[k])
                        for k in ("dtMatches", "gtMatches", "dtIgnore", "gtIgnore")
                    }
                    ids = {"image_id": truth.image_ids[image], "category_id": entry["id"]}
                    found.append({**match, **arrays, **ids})
        return found

    @property
    def ious(self) -> dict[tuple[Any, Any], np.ndarray]:
        """(image id, category id) -> (D, G) IoUs, detections from the highest score down."""
        from hotcoco import mask

        truth = self._known_truth("ious")
        if self.iou_type == "keypoints":
            raise AttributeError("ious: of keypoints only pycocotools' COCOeval has them")
        rows = np.zeros((0, 7)) if self.rows is None else self.rows
        found = {}
        for image in self._positions:
            for category, entry in enumerate(truth.categories):
                own = np.flatnonzero((rows[:, 0] == image) & (rows[:, 6] == category))
                own = own[np.argsort(-rows[own, 5], kind="stable")][: self.limits[-1]]
                objects = (truth.image == image) & (truth.category == category)
                shape = (len(own), int(objects.sum()))
                values = np.zeros(shape)
                if all(shape):
                    crowd = truth.crowd[objects].tolist()
                    found_side: Any
                    true_side: Any
                    if self.iou_type == "segm":
                        chosen = np.flatnonzero(objects).tolist()
                        size = truth.image_size(image)
                        masks = [as_rle(truth.masks[i], *size) for i in chosen]
                        found_side, true_side = [self.shapes[i] for i in own], masks
                    else:
                        found_side, true_side = rows[own, 1:5], truth.boxes[objects]
                    values = np.asarray(mask.iou(found_side, true_side, crowd))
                found[truth.image_ids[image], entry["id"]] = values.reshape(shape)
        return found

    @property
    def cocoGt(self) -> Any:
        """pycocotools' COCO of the annotations, with the JSON's ids."""
        return self._known_truth("cocoGt").as_coco_api()

    def summarize(self) -> None:
        """Print the twelve numbers, one a line."""
        for name, stat in zip(self.twelve(), self.stats, strict=True):
            size = {"s": "small", "m": "medium", "l": "large"}.get(name[2:3], "")
            size = size or (name[3:] if name[3:] in SIZES else "all")
            iou = f"0.{name[2:]}" if name[2:].isdigit() else "0.50:0.95"
            limit = name[3:] if name.startswith("AR-") and name[3:].isdigit() else self.limits[-1]
            print(
                f" {_TITLES[name[:2]]:<17} ({name[:2]}) @[ IoU={iou:<9} | area={size:>6} | "
                f"maxDets={limit:>3} ] = {stat:0.3f}"
            )

    def _known_truth(self, name: str) -> Any:
        if self.truth is None:
            raise AttributeError(f"{name}: these curves were made without the annotations")
        return self.truth


def _mean_percent(values: np.ndarray) -> float:
    defined = values[values > -1]
    return 100.0 * float(defined.mean()) if defined.size else float("nan")
