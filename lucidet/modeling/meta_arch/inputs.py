"""How a batch gets to a GPU, and what is said of one that a detector can't take.

Images and ground truth go to a GPU in one copy each (from pinned memory), whatever the number of
images, and what is launched there does not depend on it either.
"""

# N images, C channels, H x W of the padded batch, M ground-truth boxes of an image, K classes

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from lucidet.structures import ImageList

__all__ = [
    "column_on_device",
    "describe_input",
    "normalized_on_gpu",
    "refuse_batch",
    "refuse_image",
    "refuse_instances",
]


def describe_input(record: Mapping[str, Any], index: int) -> str:
    """Name one image of a batch for an error message, by its id and file where they are known.

    >>> describe_input({"image_id": 17, "file_name": "a.jpg"}, 0)
    'image 17 (a.jpg)'
    >>> describe_input({}, 1)
    'image number 1 of the batch'
    """
    name = f"image {record['image_id']}" if "image_id" in record else ""
    if record.get("file_name"):
        name = f"{name or 'image'} ({record['file_name']})"
    return name or f"image number {index} of the batch"


def refuse_batch(batched_inputs: Any) -> NoReturn:
    got = "an empty" if len(batched_inputs) == 0 else "a"
    raise ValueError(
        "a detector takes a list with one dict an image, "
        f"[{{'image': (C, H, W) tensor, ...}}]; got {got} {type(batched_inputs).__name__}"
    )


def refuse_image(record: Mapping[str, Any], index: int, num_channels: int) -> NoReturn:
    name = describe_input(record, index)
    if "image" not in record:
        raise ValueError(f"{name}: the dict has no 'image'; its keys are {sorted(record)}")
    raise ValueError(
        f"{name}: expected an image tensor ({num_channels}, H, W), got "
        f"{tuple(record['image'].shape)}; MODEL.PIXEL_MEAN has one entry a channel, and channels "
        "come first"
    )


def refuse_instances(record: Mapping[str, Any], index: int, num_classes: int | None) -> NoReturn:
    """Name the first ground-truth box, or class, that a model can't be trained with."""
    name = describe_input(record, index)
    if "instances" not in record:
        raise ValueError(
            f"{name}: no 'instances' to train with; call model.eval() to infer, or map the "
            "data set with DatasetMapper(is_train=True)"
        )
    boxes = record["instances"].gt_boxes.tensor
    if boxes.device.type == "cpu" and boxes.shape[1] == 4:
        sizes = boxes[:, 2:] - boxes[:, :2]
        bad = ~(boxes.isfinite().all(dim=1) & (sizes > 0).all(dim=1))
        if bad.any():
            i = int(bad.int().argmax())
            values = ", ".join(f"{v:g}" for v in boxes[i].tolist())
            if not boxes[i].isfinite().all():
                problem = "every coordinate must be finite"
            else:
                problem = f"{'width' if sizes[i, 0] <= 0 else 'height'} must be > 0"
            raise ValueError(
                f"{name}, gt_boxes[{i}] = [{values}]: {problem} (XYXY pixels); "
                "repair or remove this annotation"
            )
    assert num_classes is not None
    classes = record["instances"].gt_classes
    i = int(((classes < 0) | (classes >= num_classes)).int().argmax())
    raise ValueError(
        f"{name}, gt_classes[{i}] = {int(classes[i])}: must be in 0..{num_classes - 1}, as "
        f"the model has {num_classes} classes; set NUM_CLASSES of the model to that of the "
        "data set"
    )


def normalized_on_gpu(
    images: Sequence[Tensor], mean: Tensor, std: Tensor, padding: tuple[Any, ...]
) -> ImageList:
    """Return the normalized batch on a GPU.

    Images on the host are put side by side there in their own type (8 bits, as a rule), in pinned
    memory, copied at once, and normalized together.
    """
    device = mean.device
    on_host = all(image.device.type == "cpu" for image in images)
    if not on_host:
        images = [image.to(device, non_blocking=True) for image in images]
    dtype = functools.reduce(torch.promote_types, [image.dtype for image in images])
    pinned = on_host and device.type == "cuda"
    batch = ImageList.from_tensors(images, *padding, dtype=dtype, pin_memory=pinned)
    tensor = (batch.tensor.to(device, non_blocking=True) - mean).div_(std)
    outside = _padding_mask(tensor, batch.image_sizes)
    if outside is not None:
        tensor.masked_fill_(outside, 0.0)
    return ImageList(tensor, batch.image_sizes)


def _padding_mask(batch: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor | None:
    """Return (N, 1, H, W), True in the padding; None where there is none."""
    height, width = batch.shape[-2:]
    if all(size == (height, width) for size in image_sizes):
        return None
    sizes = torch.tensor(image_sizes)
    if batch.device.type == "cuda":
        sizes = sizes.pin_memory()
    sizes = sizes.to(batch.device, non_blocking=True).view(-1, 2, 1, 1, 1)
    below = torch.arange(height, device=batch.device).view(-1, 1) >= sizes[:, 0]
    right = torch.arange(width, device=batch.device) >= sizes[:, 1]
    return below | right


def column_on_device(values: list[Any], device: torch.device, classes: Tensor | None) -> list[Any]:
    """Return one field of each image on the device."""
    joined = None if device.type == "cpu" else _joined_on_host(values)
    if joined is None:
        moved = [v.to(device, non_blocking=True) if hasattr(v, "to") else v for v in values]
        return moved if classes is None else [classes[value] for value in moved]
    column = joined.to(device, non_blocking=True)
    if classes is not None:
        column = classes[column]
    parts, start = [], 0
    for value in values:
        parts.append(column[start : start + len(value)])
        start += len(value)
    return parts


def _joined_on_host(values: list[Any]) -> Any:
    """Return the rows of all images in pinned memory; None where that can't be done."""
    kind = type(values[0])
    if any(type(value) is not kind or _is_elsewhere(value) for value in values):
        return None
    if kind is Tensor:
        if len({(value.dtype, value.shape[1:]) for value in values}) > 1:
            return None
        return torch.cat(values).pin_memory()
    if not (hasattr(kind, "cat") and hasattr(kind, "to")):
        return None
    joined = kind.cat(values)
    if isinstance(getattr(joined, "tensor", None), Tensor):
        joined.tensor = joined.tensor.pin_memory()
    return joined


def _is_elsewhere(value: Any) -> bool:
    device = getattr(value, "device", None)
    return device is not None and torch.device(device).type != "cpu"
