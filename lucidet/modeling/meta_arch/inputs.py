"""What happens to a batch before the first layer: checks on the host, then on to the device.

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

from lucidet.structures import ImageList, Instances

__all__ = ["check_inputs", "describe_input", "instances_on_device", "normalized_batch"]


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


def check_inputs(
    batched_inputs: Sequence[Mapping[str, Any]],
    *,
    num_channels: int,
    training: bool,
    num_classes: int | None = None,
) -> None:
    """Refuse a batch that could only fail, or spoil the training, further down.

    A box without area would turn into a NaN loss thousands of steps later; a class outside 0..K-1
    would be an index error on the GPU, without a name. Values on a GPU are not looked at, because
    that would make each step wait for it.

    Args:
        batched_inputs: one dict an image, with `image` (C, H, W) and, at training, `instances`.
        num_channels: C, that the model was built for.
        training: ground truth is needed.
        num_classes: K, where the model has classes.

    Raises:
        ValueError: as ``image 17 (a.jpg), gt_boxes[3] = [40, 10, 40, 90]: width must be > 0``.
    """
    if isinstance(batched_inputs, Mapping | Tensor) or not batched_inputs:
        _refuse_batch(batched_inputs)
    for index, record in enumerate(batched_inputs):
        image = record.get("image")
        if image is None or image.dim() != 3 or len(image) != num_channels:
            _refuse_image(record, index, num_channels)
        if training and not _is_sound(record.get("instances"), num_classes):
            _refuse_instances(record, index, num_classes)


def _is_sound(instances: Instances | None, num_classes: int | None) -> bool:
    """Return whether boxes are finite and have an area, and classes are in 0..K-1."""
    if instances is None:
        return False
    boxes, classes = instances.gt_boxes.tensor, getattr(instances, "gt_classes", None)
    if boxes.device.type == "cpu" and boxes.shape[1] == 4:
        sizes = boxes[:, 2:] - boxes[:, :2]
        if not (boxes.isfinite().all() and (sizes > 0).all()):
            return False
    if classes is None or num_classes is None or classes.device.type != "cpu" or not len(classes):
        return True
    return bool(classes.min() >= 0) and bool(classes.max() < num_classes)


def _refuse_batch(batched_inputs: Any) -> NoReturn:
    got = "an empty" if len(batched_inputs) == 0 else "a"
    raise ValueError(
        "a detector takes a list with one dict an image, "
        f"[{{'image': (C, H, W) tensor, ...}}]; got {got} {type(batched_inputs).__name__}"
    )


def _refuse_image(record: Mapping[str, Any], index: int, num_channels: int) -> NoReturn:
    name = describe_input(record, index)
    if "image" not in record:
        raise ValueError(f"{name}: the dict has no 'image'; its keys are {sorted(record)}")
    raise ValueError(
        f"{name}: expected an image tensor ({num_channels}, H, W), got "
        f"{tuple(record['image'].shape)}; MODEL.PIXEL_MEAN has one entry a channel, and channels "
        "come first"
    )


def _refuse_instances(record: Mapping[str, Any], index: int, num_classes: int | None) -> NoReturn:
    """Name the first ground-truth box, or class, for which `_is_sound` does not hold."""
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


def normalized_batch(
    images: Sequence[Tensor],
    mean: Tensor,
    std: Tensor,
    size_divisibility: int = 0,
    padding_constraints: dict[str, int] | None = None,
) -> ImageList:
    """Return (image - mean) / std of each image in one batch, with zeros around.

    Args:
        images: each (C, H_i, W_i), of any number type, on the device of `mean` or on another.
        mean, std: (C, 1, 1).
        size_divisibility, padding_constraints: as in :meth:`ImageList.from_tensors`.
    """
    padding = (size_divisibility, 0.0, padding_constraints)
    if mean.device.type != "cpu":
        return _normalized_there(images, mean, std, padding)
    dtype = torch.result_type(images[0], mean)
    batch = ImageList.from_tensors([im.to(mean.device) for im in images], *padding, dtype=dtype)
    for image, (height, width) in zip(batch.tensor, batch.image_sizes, strict=True):
        image[:, :height, :width].sub_(mean).div_(std)
    return batch


def _normalized_there(
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


def instances_on_device(
    instances: Sequence[Instances], device: torch.device, classes: Tensor | None = None
) -> list[Instances]:
    """Return each image's instances on a device; each field of all images is copied at once.

    Fields of the results are views of the batch's. A field whose type can't be concatenated, or
    that not every image has, is copied image by image.

    Args:
        instances: of each image.
        device: where to.
        classes: on the device: an entry for each class of `gt_classes`, by which it is replaced.
    """
    if device.type == "cpu" and classes is None:
        return [own.to(device) for own in instances]
    names = instances[0].get_fields()
    if any(own.get_fields().keys() != names.keys() for own in instances):
        moved = [own.to(device, non_blocking=True) for own in instances]
        for own in moved if classes is not None else ():
            own.gt_classes = classes[own.gt_classes]  # type: ignore[index]
        return moved
    results = [Instances(own.image_size) for own in instances]
    for name in names:
        values = [own.get(name) for own in instances]
        mapped = classes if name == "gt_classes" else None
        for result, value in zip(results, _column_on_device(values, device, mapped), strict=True):
            result.set(name, value)
    return results


def _column_on_device(values: list[Any], device: torch.device, classes: Tensor | None) -> list[Any]:
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
