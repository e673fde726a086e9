"""What is odd about the records of a batch, found without running the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

__all__ = ["describe_images", "odd_input"]


def describe_images(batch: Any) -> list[str]:
    """Return a name for each image record in a batch: file name and image id, as far as known.

    >>> describe_images([{"file_name": "a.jpg", "image_id": 7}, {"image_id": 8}])
    ['a.jpg (image_id 7)', 'image_id 8']
    """
    return [name for record in _records(batch) if (name := _name(record))]


def odd_input(batch: Any) -> list[str]:
    """Return a sentence for each image whose pixels or ground-truth boxes can break a loss.

    Args:
        batch: records, or lists of them; what has another form is not looked at.

    >>> odd_input([{"file_name": "a.jpg", "image": torch.full((3, 2, 2), torch.nan)}])
    ['a.jpg: 12 of 12 pixel values are not finite']
    """
    found = []
    for number, record in enumerate(_records(batch)):
        odd = [*_odd_pixels(record.get("image")), *_odd_boxes(record.get("instances"))]
        if odd:
            found.append(f"{_name(record) or f'image {number} of the batch'}: {', '.join(odd)}")
    return found


def _records(batch: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(batch, Mapping):
        yield batch
    elif isinstance(batch, (list, tuple)):
        for item in batch:
            yield from _records(item)


def _name(record: Mapping[str, Any]) -> str:
    number = f"image_id {record['image_id']}" if record.get("image_id") is not None else ""
    name = record.get("file_name")
    if name is None:
        return number
    return f"{name} ({number})" if number else str(name)


def _odd_pixels(image: Any) -> Iterator[str]:
    if not isinstance(image, torch.Tensor):
        return
    if not image.numel():
        yield f"the image is empty, {tuple(image.shape)}"
    elif image.is_floating_point() and (bad := int((~image.isfinite()).sum())):
        yield f"{bad} of {image.numel()} pixel values are not finite"


def _odd_boxes(instances: Any) -> Iterator[str]:
    """Yield what is odd about the boxes (M, 4), XYXY pixels, of an `Instances`."""
    boxes = getattr(getattr(instances, "gt_boxes", None), "tensor", None)
    if not isinstance(boxes, torch.Tensor) or boxes.dim() != 2 or boxes.shape[1] != 4:
        return
    height, width = getattr(instances, "image_size", (float("inf"), float("inf")))
    for m, (x1, y1, x2, y2) in enumerate(boxes.detach().double().tolist()):
        shown = f"gt_boxes[{m}] = [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
        if not all(abs(side) < float("inf") for side in (x1, y1, x2, y2)):
            yield f"{shown} is not finite"
        elif x2 <= x1 or y2 <= y1:
            yield f"{shown} has no area"
        elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            yield f"{shown} is outside of the image, {width:g} x {height:g}"
