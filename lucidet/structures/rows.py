"""Rows of the fields of a batch: taken late where that saves work, and for all images at once.

Each sampled proposal has a row of every `gt_*` field, but heads for masks and keypoints look at the
foreground only. A copy of a mask for each of 512 proposals would be half a gigabyte an image.
"""

# N images, R_i rows of image i, R rows of all images, F chosen rows of all images

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lucidet.structures.instances import Instances, _choose

__all__ = ["gather_rows", "select_rows", "set_later", "source_and_rows"]


class _Late:
    """Rows `index` (on the host) of `source`."""

    def __init__(self, source: Any, index: Tensor) -> None:
        self.source, self.index = source, index


class _LateFields(dict[str, Any]):
    """Fields of Instances, of which some are taken from their source when first looked at."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, _Late):
            value = self[name] = _choose(value.source, value.index)
        return value

    def __iter__(self) -> Iterator[str]:  # copies of the dict then ask __getitem__
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if super().__contains__(name) else default

    def values(self) -> Any:
        return (self[name] for name in list(self))

    def items(self) -> Any:
        return ((name, self[name]) for name in list(self))


def set_later(instances: Instances, source: Instances, names: Sequence[str], rows: Tensor) -> None:
    """Set fields to rows of a source's fields, which are taken when they are first looked at.

    Args:
        instances: gets the fields.
        source: has them.
        names: of the fields.
        rows: int64 on the host, one for each row of `instances`.

    >>> few = Instances((8, 8))
    >>> set_later(few, Instances((8, 8), note=["a", "b"]), ["note"], torch.tensor([1, 1, 0]))
    >>> few.note
    ['b', 'b', 'a']
    """
    fields = _LateFields(instances.get_fields())
    for name in names:
        value, already = source_and_rows(source, name)
        dict.__setitem__(fields, name, _Late(value, rows if already is None else already[rows]))
    setattr(instances, "_cut" if "_cut" in vars(instances) else "_fields", fields)


def source_and_rows(instances: Instances, name: str) -> tuple[Any, Tensor | None]:
    """Return a field without taking its rows: the source, and which rows (None: all) it holds.

    >>> source_and_rows(Instances((8, 8), gt_masks=["a", "b"]), "gt_masks")
    (['a', 'b'], None)
    """
    value = dict.__getitem__(instances.get_fields(), name)
    return (value.source, value.index) if isinstance(value, _Late) else (value, None)


def select_rows(instances: Sequence[Instances], keep: Tensor) -> list[Instances]:
    """Return each image's rows where `keep` is True, in their order.

    Does what indexing each image does, with one wait for a GPU, and with a number of operators that
    does not depend on N.

    Args:
        instances: per image; one may lack fields that others have.
        keep: (R,) bool, for the rows of all images in order.

    >>> a, b = (Instances((8, 8), scores=torch.tensor(s)) for s in ([0.1, 0.9], [0.7]))
    >>> [found.scores.numel() for found in select_rows([a, b], torch.tensor([False, True, True]))]
    [1, 1]
    """
    on_host = keep.cpu().split([len(own) for own in instances])
    rows = [own.nonzero().squeeze(1) for own in on_host]
    results = [Instances(own.image_size) for own in instances]
    for name in dict.fromkeys(name for own in instances for name in own.get_fields()):
        having = [image for image, own in enumerate(instances) if own.has(name)]
        sources = [instances[image] for image in having]
        chosen = [rows[image] for image in having]
        found = [source_and_rows(own, name) for own in sources]
        values: list[Any] = [value for value, _ in found]
        if _tensors(values) is None or any(late is not None for _, late in found):
            for image, source in zip(having, sources, strict=True):
                set_later(results[image], source, [name], rows[image])
            continue
        parts = gather_rows(sources, name, chosen).split([len(own) for own in chosen])
        for image, value, part in zip(having, values, parts, strict=True):
            results[image].set(name, part if isinstance(value, Tensor) else type(value)(part))
    return results


def gather_rows(
    instances: Sequence[Instances], name: str, rows: Sequence[Tensor] | None = None
) -> Tensor:
    """Return one field of all images as one tensor (F, ...), without a wait for a GPU.

    Args:
        instances: per image, with a field of tensors, or of one kind that holds one `tensor`
            (Boxes, Keypoints), of equal shape behind the first dimension.
        name: of the field.
        rows: per image, int64 on the host: which; None: all.
    """
    found = [source_and_rows(own, name) for own in instances]
    tensors = _tensors([value for value, _ in found])
    assert tensors is not None, f"{name} can't be joined"
    index, start = [], 0
    for image, ((_, late), tensor) in enumerate(zip(found, tensors, strict=True)):
        own = torch.arange(len(tensor)) if late is None else late
        index.append(start + (own if rows is None else own[rows[image]]))
        start += len(tensor)
    return torch.cat(tensors)[torch.cat(index).to(tensors[0].device, non_blocking=True)]


def _tensors(values: Sequence[Any]) -> list[Tensor] | None:
    """Return the tensors of values of one kind that can be joined; None for other values."""
    kind = type(values[0])
    if kind is not Tensor and not (hasattr(kind, "cat") and len(vars(values[0])) == 1):
        return None
    tensors = [getattr(value, "tensor", value) for value in values]
    same = all(isinstance(t, Tensor) and t.shape[1:] == tensors[0].shape[1:] for t in tensors)
    return tensors if same and all(type(value) is kind for value in values) else None
