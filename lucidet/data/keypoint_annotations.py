"""Keypoints of annotations: understood, and moved with their image."""

# K keypoints of an object

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucidet.data import transforms as T
from lucidet.data.catalog import MetadataCatalog, check_metadata_consistency
from lucidet.data.fields import as_box, shown
from lucidet.structures import Keypoints

__all__ = [
    "annotations_to_keypoints",
    "as_keypoints",
    "count_visible",
    "create_keypoint_hflip_indices",
    "transform_keypoint_annotations",
]


def as_keypoints(value: Any) -> np.ndarray:
    """Return keypoints as (K, 3) float64: x, y, visibility.

    Raises:
        ValueError: not finite numbers in threes.

    >>> as_keypoints([5, 6, 2, 0, 0, 0]).shape
    (2, 3)
    """
    if isinstance(value, np.ndarray) and value.dtype != object:
        numbers = value.reshape(-1)
    else:
        flat = value
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
            flat = [number for point in value for number in point]
        found = as_box(flat) if flat else []
        if found is None:
            raise ValueError(f"keypoints must be numbers x, y, visibility, ..., got {shown(value)}")
        numbers = np.array(found, dtype=np.float64)
    if numbers.size % 3:
        raise ValueError(
            f"keypoints must be numbers in threes (x, y, visibility), got {numbers.size} numbers"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"keypoints must be finite numbers, got {shown(value)}")
    return numbers.astype(np.float64).reshape(-1, 3)


def count_visible(annotation: dict[str, Any]) -> int:
    """Return how many keypoints of an annotation are labelled: their visibility is above 0."""
    keypoints = annotation.get("keypoints")
    if keypoints is None:
        return 0
    return int((as_keypoints(keypoints)[:, 2] > 0).sum())


def transform_keypoint_annotations(
    keypoints: Any,
    transforms: T.Transform,
    image_size: tuple[int, int],
    keypoint_hflip_indices: np.ndarray | None = None,
) -> np.ndarray:
    """Move one annotation's keypoints as its image was changed.

    Keypoints outside of the image become not labelled, and those that are not labelled lie at 0, 0.

    Args:
        keypoints: 3 K numbers x, y, visibility, pixels of the image before.
        transforms: what was done to the image. Where they mirror it, by whatever transform, left
            and right change places.
        image_size: (height, width) afterwards.
        keypoint_hflip_indices: (K,) of `create_keypoint_hflip_indices`; None: nothing changes
            places.

    Returns:
        (K, 3) float64.

    Raises:
        ValueError: not numbers in threes, or not as many as `keypoint_hflip_indices`.
    """
    points = as_keypoints(keypoints)
    if isinstance(transforms, (list, tuple)):
        transforms = T.TransformList(transforms)
    moved = np.concatenate([transforms.apply_coords(points[:, :2]), points[:, 2:]], axis=1)
    height, width = image_size
    inside = ((moved[:, :2] >= 0) & (moved[:, :2] <= (width, height))).all(axis=1)
    moved[~inside, 2] = 0
    if keypoint_hflip_indices is not None:
        if len(keypoint_hflip_indices) != len(moved):
            raise ValueError(
                f"an annotation has {len(moved)} keypoints, the dataset's metadata "
                f"(keypoint_names) {len(keypoint_hflip_indices)}"
            )
        if _mirrors(transforms):
            moved = moved[keypoint_hflip_indices]
    moved[moved[:, 2] == 0] = 0
    return moved


def annotations_to_keypoints(
    annos: Sequence[dict[str, Any]], count: int | None = None
) -> Keypoints:
    """Return the keypoints of annotations; all of an annotation without any are not labelled.

    Args:
        annos: with ``keypoints``, (K, 3) or 3 K numbers.
        count: K; None: that of the annotations.

    Raises:
        ValueError: they are not numbers in threes, or differ in number; names the annotation.
    """
    found: list[np.ndarray | None] = []
    for number, annotation in enumerate(annos):
        name = annotation.get("id", f"number {number}")
        try:
            value = annotation.get("keypoints")
            points = None if value is None else as_keypoints(value)
            if points is not None and len(points) != (count or len(points)):
                raise ValueError(f"expected {count} keypoints, got {len(points)}")
        except ValueError as error:
            raise ValueError(f"annotation {name}: {error}") from None
        count = count if points is None else len(points)
        found.append(points)
    none = np.zeros((count or 0, 3))
    rows = [none if points is None else points for points in found]
    return Keypoints(np.stack(rows) if rows else np.zeros((0, count or 0, 3)))


def _mirrors(transforms: T.Transform) -> bool:
    """Return whether a transform turns left into right: its determinant is negative."""
    origin, right, down = transforms.apply_coords(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    (a, b), (c, d) = right - origin, down - origin
    return bool(a * d - b * c < 0)


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> np.ndarray:
    """Return the keypoint that each one becomes when the image is mirrored.

    Args:
        dataset_names: registered, with ``keypoint_names`` and ``keypoint_flip_map`` (pairs of
            names that change places) in their metadata, the same in all.

    Returns:
        (K,) int64.

    Raises:
        AttributeError: the metadata are not set.
        ValueError: they differ, or the map has a name that is none of the keypoints'.
    """
    names = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    for key in ("keypoint_names", "keypoint_flip_map"):
        check_metadata_consistency(key, names)
    metadata = MetadataCatalog.get(names[0])
    partner = dict(metadata.keypoint_flip_map)
    partner.update({right: left for left, right in metadata.keypoint_flip_map})
    points = list(metadata.keypoint_names)
    unknown = sorted(set(partner) - set(points))
    if unknown:
        raise ValueError(
            f"keypoint_flip_map of {names[0]!r} names {unknown}, which keypoint_names lacks: "
            f"{points}"
        )
    return np.array([points.index(partner.get(name, name)) for name in points], dtype=np.int64)
