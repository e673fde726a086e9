"""What a recipe needs to know about a dataset: counts, class names, sizes of images and boxes."""

# N images, M ground-truth boxes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucidet._regular_file import open_regular
from lucidet.data import DatasetCatalog, MetadataCatalog, dataset_names
from lucidet.data.image_files import open_image
from lucidet.data.specification import connect
from lucidet.structures import BoxMode

__all__ = ["DataFacts", "read_facts", "resize_scale"]

_NO_SIZES = np.zeros((0, 2))


@dataclass(frozen=True)
class DataFacts:
    """A summary of the training and validation data.

    Attributes:
        train, test: names as in ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        images: images that are trained on.
        empty: images of `train` without a ground-truth box, which training leaves out by default.
        val_images: images of `test`.
        classes: names, in the order of the class ids 0..K-1.
        boxes_per_class: ground-truth boxes of each class; crowd regions are not counted.
        image_sizes: (N, 2) width and height of the images, pixels of the file.
        box_sizes: (M, 2) width and height of the boxes, pixels of the file.
        box_images: (M, 2) width and height of the image that each box is in.
        most_boxes: boxes of the image that has most.
    """

    train: tuple[str, ...]
    test: tuple[str, ...] = ()
    images: int = 0
    empty: int = 0
    val_images: int = 0
    classes: tuple[str, ...] = ()
    boxes_per_class: tuple[int, ...] = ()
    image_sizes: np.ndarray = field(default_factory=_NO_SIZES.copy)
    box_sizes: np.ndarray = field(default_factory=_NO_SIZES.copy)
    box_images: np.ndarray = field(default_factory=_NO_SIZES.copy)
    most_boxes: int = 0

    def resized_boxes(self, shortest: int, longest: int) -> np.ndarray:
        """Return (M, 2) width and height of the boxes after resizing as ResizeShortestEdge does.

        Args:
            shortest: length of the shorter side of the image, pixels; 0 does not resize.
            longest: bound of the longer side, pixels.
        """
        if not shortest or not len(self.box_sizes):
            return self.box_sizes
        return self.box_sizes * resize_scale(self.box_images, shortest, longest)[:, None]

    def summary(self) -> dict[str, Any]:
        """Return plain numbers and names, as a checkpoint stores them."""
        return {
            "train": list(self.train),
            "test": list(self.test),
            "images": self.images,
            "val_images": self.val_images,
            "boxes_per_class": dict(zip(self.classes, self.boxes_per_class, strict=False)),
        }


def resize_scale(sizes: np.ndarray, shortest: int, longest: int) -> np.ndarray:
    """Return the factors (N,) by which ResizeShortestEdge resizes images.

    Args:
        sizes: (N, 2) width and height of the images, pixels, positive.
        shortest: length of the shorter side, pixels; 0 does not resize.
        longest: bound of the longer side, pixels.

    >>> resize_scale(np.array([[640, 480], [2000, 500]]), 960, 1333).tolist()
    [2.0, 0.6665]
    """
    if not shortest:
        return np.ones(len(sizes))
    return np.minimum(shortest / sizes.min(axis=1), longest / sizes.max(axis=1))


def read_facts(train: Sequence[str], test: Sequence[str] = ()) -> DataFacts:
    """Read the records of datasets and summarize them.

    Args:
        train, test: registered names or specifications.

    Raises:
        ValueError: no class names are known, or no image has a ground-truth box.
    """
    connect(train, test)
    names = dataset_names(train, "train")
    records = [record for name in names for record in DatasetCatalog.get(name)]
    classes = tuple(MetadataCatalog.get(names[0]).get("thing_classes", None) or ())
    if not classes:
        raise ValueError(
            f"dataset {train[0]!r} names no classes; set thing_classes in its metadata, or give "
            "--data a folder or file that names them"
        )
    image_sizes, box_sizes, box_images, per_image = [], [], [], []
    counts = [0] * len(classes)
    for record in records:
        boxes = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
        per_image.append(len(boxes))
        if not boxes:
            continue
        size = _image_size(record)
        image_sizes.append(size)
        for box in boxes:
            counts[box["category_id"]] += 1
            x1, y1, x2, y2 = BoxMode.convert(box["bbox"], box["bbox_mode"], BoxMode.XYXY_ABS)
            box_sizes.append((x2 - x1, y2 - y1))
            box_images.append(size)
    if not box_sizes:
        raise ValueError(f"datasets {list(train)}: none of {len(records)} images has a box")
    kept = sum(count > 0 for count in per_image)
    return DataFacts(
        train=tuple(train),
        test=tuple(test),
        images=kept,
        empty=len(records) - kept,
        val_images=sum(len(DatasetCatalog.get(name)) for name in dataset_names(test)),
        classes=classes,
        boxes_per_class=tuple(counts),
        image_sizes=np.asarray(image_sizes, float),
        box_sizes=np.asarray(box_sizes, float),
        box_images=np.asarray(box_images, float),
        most_boxes=max(per_image),
    )


def _image_size(record: dict[str, Any]) -> tuple[int, int]:
    """Return width and height of a record's image, from the file where the record lacks them."""
    width, height = record.get("width"), record.get("height")
    if width and height:
        return int(width), int(height)
    with open_regular(record["file_name"], "image") as file, open_image(file) as image:
        return image.size
