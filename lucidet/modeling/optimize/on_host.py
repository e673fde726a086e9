"""Detections of a batch come back from a GPU in one copy."""

# N images, D detections of an image

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lucidet.structures import Boxes, Instances, PaddedInstances

__all__ = ["detections_on_host"]


def detections_on_host(outputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs of a detector on the host; the CPU waits for the GPU once.

    Tensors and boxes of all images travel as the bytes of one tensor, and become views of it.
    Fields of other types are copied by their own `to`.

    Args:
        outputs: N dicts whose `instances` (and other Instances) are on any device.
    """
    tables = [output.get("instances") if len(output) == 1 else None for output in outputs]
    batch = PaddedInstances.untouched(tables)
    if batch is not None:  # the counts are copied together with the boxes
        return [{"instances": table} for table in batch.on_host.split()]
    columns: list[tuple[int, str, str, Tensor]] = []
    for image, output in enumerate(outputs):
        for key, table in output.items():
            for name, value in table.get_fields().items() if isinstance(table, Instances) else ():
                tensor = value.tensor if type(value) is Boxes else value
                if isinstance(tensor, Tensor):
                    columns.append((image, key, name, tensor))
    # the widest type first: each part then starts at a multiple of its own width
    columns.sort(key=lambda column: -column[3].element_size())
    moved = _together([tensor for *_, tensor in columns])
    found = {column[:3]: tensor for column, tensor in zip(columns, moved, strict=True)}
    results = []
    for image, output in enumerate(outputs):
        result = dict(output)
        for key, table in output.items():
            if isinstance(table, Instances):
                result[key] = Instances(table.image_size)
                for name, value in table.get_fields().items():
                    result[key].set(name, _field(value, found.get((image, key, name))))
        results.append(result)
    return results


def _field(value: Any, moved: Tensor | None) -> Any:
    if moved is not None:
        return Boxes(moved) if type(value) is Boxes else moved
    return value.to("cpu") if hasattr(value, "to") else value


def _together(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors, the widest types first, on the host."""
    if not tensors:
        return []
    parts = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    flat = torch.cat(parts).cpu()
    pieces = flat.split([len(part) for part in parts])
    return [
        piece.view(tensor.dtype).view(tensor.shape)
        for piece, tensor in zip(pieces, tensors, strict=True)
    ]
