"""A training batch as a file, and back: records with images, boxes and other ground truth."""

from __future__ import annotations

from typing import Any

import torch

from lucidet import structures
from lucidet.checkpoint.writing import plain
from lucidet.structures import Instances

__all__ = ["batch_of", "taken_apart"]

#: classes that are one tensor, and are made from it
_OF_ONE_TENSOR = ("Boxes", "RotatedBoxes", "BitMasks", "Keypoints")


def taken_apart(value: Any, where: str) -> Any:
    """Return `value`, of another class than files may hold, from tensors and plain containers.

    `Instances` become ``{"image_size": (h, w), "fields": {name: value}, "types": {name: class}}``,
    boxes their tensor, and what else there is the text of its repr. See
    `lucidet.checkpoint.writing.plain`.
    """
    if hasattr(value, "get_fields") and hasattr(value, "image_size"):
        fields = value.get_fields()
        parts = {
            "image_size": tuple(value.image_size),
            "fields": fields,
            "types": {name: type(field).__name__ for name, field in fields.items()},
        }
        return plain(parts, where, other=taken_apart)
    if isinstance(getattr(value, "tensor", None), torch.Tensor):
        return value.tensor.detach()
    if hasattr(value, "polygons"):
        return plain(value.polygons, where, other=taken_apart)
    return repr(value)


def batch_of(value: Any) -> Any:
    """Return the records from which :func:`taken_apart` made `value`."""
    if isinstance(value, list | tuple):
        return [batch_of(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not {"image_size", "fields", "types"} <= value.keys():
        return {name: batch_of(item) for name, item in value.items()}
    found = Instances(tuple(value["image_size"]))
    for name, field in value["fields"].items():
        kind = value["types"].get(name)
        if kind in _OF_ONE_TENSOR:
            field = getattr(structures, kind)(field)
        elif kind == "PolygonMasks":
            field = structures.PolygonMasks([[p.numpy() for p in polygons] for polygons in field])
        found.set(name, field)
    return found
