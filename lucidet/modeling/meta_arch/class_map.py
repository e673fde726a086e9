"""Models whose classes are not those of the data set: torchvision's 91 for COCO's 80."""

# K classes of the model, D detections or objects of an image

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lucidet.structures import Instances

__all__ = ["checked_class_map", "inverse_class_map", "with_classes"]


def checked_class_map(class_map: Sequence[int], num_classes: int) -> Tensor:
    """Return the map as a tensor (K,) int64.

    Args:
        class_map: for each class of the model the class of the data set, or -1 where the data set
            has none.
        num_classes: K.

    Raises:
        ValueError: another number of entries than K, or an entry that is no class and not -1.

    >>> checked_class_map([0, -1, 1], 3).tolist()
    [0, -1, 1]
    """
    if len(class_map) != num_classes:
        raise ValueError(
            f"MODEL.CLASS_MAP has {len(class_map)} entries, but the model has {num_classes} "
            "classes; give one entry a class of the model, or MODEL.CLASS_MAP [] where the model's "
            "classes are those of the data set, as after training for it"
        )
    for index, entry in enumerate(class_map):
        if isinstance(entry, bool) or not isinstance(entry, int) or entry < -1:
            raise ValueError(
                f"MODEL.CLASS_MAP[{index}] is {entry!r}: must be a class of the data set, counted "
                "from 0, or -1 where the data set has no such class"
            )
    return torch.tensor(list(class_map), dtype=torch.int64)


def inverse_class_map(class_map: Tensor) -> Tensor | None:
    """Return for each class of the data set the model's class, int64.

    Args:
        class_map: (K,), see :func:`checked_class_map`.

    Returns:
        None where a class of the data set stands in the map not at all, or more than once, or
        there is none: such a map says what detections are, but not what objects are to the model.

    >>> inverse_class_map(torch.tensor([-1, 1, 0])).tolist()
    [2, 1]
    """
    own = (class_map >= 0).nonzero().flatten()
    classes, order = class_map[own].sort()
    if not len(own) or classes.tolist() != list(range(len(own))):
        return None
    return own[order]


def with_classes(instances: Instances, field: str, class_map: Tensor) -> Instances:
    """Return the instances with other classes.

    Args:
        instances: D of them; not changed.
        field: "pred_classes" or "gt_classes", (D,) int64.
        class_map: an entry for each old class.
    """
    old = instances.get(field)
    classes = class_map.to(old.device)[old]
    return Instances(instances.image_size, **{**instances.get_fields(), field: classes})
