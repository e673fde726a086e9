"""What every detector checks where data enter it, once and before anything goes to a GPU."""

# M objects of an image, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lucidet.structures import Instances


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
        training: objects are needed.
        num_classes: K, where the model has classes.

    Raises:
        ValueError: naming the image, the object and what is wrong.
    """
    if isinstance(batched_inputs, Mapping | Tensor) or not batched_inputs:
        got = "an empty" if len(batched_inputs) == 0 else "a"
        raise ValueError(
            "a detector takes a list with one dict an image, "
            f"[{{'image': (C, H, W) tensor, ...}}]; got {got} {type(batched_inputs).__name__}"
        )
    for index, record in enumerate(batched_inputs):
        name = describe_input(record, index)
        if "image" not in record:
            raise ValueError(f"{name}: the dict has no 'image'; its keys are {sorted(record)}")
        shape = tuple(record["image"].shape)
        if len(shape) != 3 or shape[0] != num_channels:
            raise ValueError(
                f"{name}: expected an image tensor ({num_channels}, H, W), got {shape}; "
                "MODEL.PIXEL_MEAN has one entry a channel, and channels come first"
            )
        if training:
            if "instances" not in record:
                raise ValueError(
                    f"{name}: no 'instances' to train with; call model.eval() to infer, or map the "
                    "data set with DatasetMapper(is_train=True)"
                )
            check_instances(record["instances"], name, num_classes)


def check_instances(instances: Instances, name: str, num_classes: int | None) -> None:
    """Refuse boxes that are not finite or have no area, and classes outside 0..K-1.

    Raises:
        ValueError: as ``image 17 (a.jpg), gt_boxes[3] = [40, 10, 40, 90]: width must be > 0``.
    """
    boxes = instances.gt_boxes.tensor
    if boxes.device.type == "cpu" and boxes.shape[1] == 4:
        sizes = boxes[:, 2:] - boxes[:, :2]
        good = boxes.isfinite().all(dim=1) & (sizes > 0).all(dim=1)
        if not good.all():
            i = int(good.int().argmin())
            values = ", ".join(f"{v:g}" for v in boxes[i].tolist())
            if not boxes[i].isfinite().all():
                problem = "every coordinate must be finite"
            else:
                problem = f"{'width' if sizes[i, 0] <= 0 else 'height'} must be > 0"
            raise ValueError(
                f"{name}, gt_boxes[{i}] = [{values}]: {problem} (XYXY pixels); "
                "repair or remove this annotation"
            )
    if num_classes is None or not instances.has("gt_classes"):
        return
    classes = instances.gt_classes
    if classes.device.type == "cpu":
        outside = ((classes < 0) | (classes >= num_classes)).nonzero()
        if len(outside):
            i = int(outside[0])
            raise ValueError(
                f"{name}, gt_classes[{i}] = {int(classes[i])}: must be in 0..{num_classes - 1}, as "
                f"the model has {num_classes} classes; set NUM_CLASSES of the model to that of the "
                "data set"
            )
