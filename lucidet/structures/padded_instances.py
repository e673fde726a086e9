"""The Instances of a whole batch in padded tensors, and each image's as views of them."""

# N images, P rows of an image, those that hold nothing included

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lucidet.structures.boxes import Boxes
from lucidet.structures.instances import Instances
from lucidet.structures.padded_boxes import PaddedBoxes, pad_rows, tensor_on

__all__ = ["PaddedInstances", "RowsOfImages", "pad_fields", "set_other_fields"]


def pad_fields(instances: Sequence[Instances], prefix: str = "") -> dict[str, Tensor]:
    """Return the fields that all images have as tensors, or as Boxes: name -> (N, P, ...).

    Args:
        instances: at least one.
        prefix: only of fields whose names begin with it.
    """
    fields = {}
    for name in instances[0].get_fields():
        kind = Boxes if name.endswith("boxes") else Tensor
        values: list[Any] = [own.get(name) if own.has(name) else None for own in instances]
        if name.startswith(prefix) and all(type(value) is kind for value in values):
            fields[name] = pad_rows([getattr(value, "tensor", value) for value in values])
    return fields


def set_other_fields(
    images: Sequence[Instances],
    sources: Sequence[Instances],
    index: Tensor,
    padded: Collection[str],
    prefix: str = "",
) -> None:
    """Copy rows of the fields that can't be padded, image by image: any type with an index.

    Args:
        images: that get the fields; L_i rows each.
        sources: of the same images, that have them. An image without rows, and with a `prefix`
            given, has nothing to copy.
        index: (N, P), of which the first L_i are rows of the source.
        padded: names of the other fields.
        prefix: only of fields whose names begin with it.
    """
    for image, (own, source) in enumerate(zip(images, sources, strict=True)):
        fields = source.get_fields().items()
        others = {n: v for n, v in fields if n.startswith(prefix) and n not in padded}
        if others and (len(source) > 0 or not prefix):
            chosen = Instances(source.image_size, **others)[index[image, : len(own)]]
            for name, value in chosen.get_fields().items():
                own.set(name, value)


@dataclass
class PaddedInstances:
    """Fields of N images, of which a GPU knows the lengths and the CPU perhaps not yet.

    Attributes:
        image_sizes: (height, width) of each image without padding.
        fields: name -> (N, P, ...); where the name ends in "boxes", XYXY pixels.
        count: (N,) int64; in each image the rows from `count` on hold nothing.
    """

    image_sizes: Sequence[tuple[int, int]]
    fields: dict[str, Tensor]
    count: Tensor

    @staticmethod
    def untouched(instances: Sequence[Instances]) -> PaddedInstances | None:
        """Return the batch that `instances` came from by :meth:`split`, if nobody looked at them.

        Where somebody did, they may have been changed: None, as for all other Instances.
        """
        first = instances[0] if instances else None
        if isinstance(first, _ViewOfBatch) and all(
            isinstance(own, _ViewOfBatch) and own.is_untouched(first, image)
            for image, own in enumerate(instances)
        ):
            return first.batch
        return None

    @classmethod
    def of(cls, instances: Sequence[Instances]) -> PaddedInstances:
        """Return the batch that `instances` are views of, or pad them: tensors and Boxes.

        Fields of other types are left out.
        """
        if (batch := cls.untouched(instances)) is not None:
            return batch
        fields = pad_fields(instances)
        lengths = [len(own) for own in instances]
        device = next(iter(fields.values())).device
        return cls([own.image_size for own in instances], fields, tensor_on(lengths, device))

    @cached_property
    def lengths(self) -> list[int]:
        """Rows of each image; the CPU waits for the GPU, once for all images."""
        return self.count.tolist()

    @property
    def valid(self) -> Tensor:
        """(N, P) bool; False where a row holds nothing."""
        rows = next(iter(self.fields.values())).shape[1]
        return torch.arange(rows, device=self.count.device) < self.count[:, None]

    def boxes(self, name: str) -> PaddedBoxes:
        """Return a field of boxes."""
        return PaddedBoxes(self.fields[name], self.valid)

    def split(self) -> list[Instances]:
        """Return each image's Instances; the CPU waits when the first field is looked at."""
        return [_ViewOfBatch(self, image) for image in range(len(self.image_sizes))]

    def rows(self, image: int) -> dict[str, Any]:
        """Return one image's fields, as views."""
        length = self.lengths[image]
        own = {name: values[image, :length] for name, values in self.fields.items()}
        return {
            name: Boxes(values) if name.endswith("boxes") else values
            for name, values in own.items()
        }

    def with_all_rows(self, name: str) -> list[Instances]:
        """Return a field of boxes with P rows for each image, so that the CPU need not wait.

        Rows that hold nothing are boxes of NaN.
        """
        boxes = self.fields[name].where(self.valid[..., None], torch.nan)
        return [
            Instances(size, **{name: Boxes(own)})
            for size, own in zip(self.image_sizes, boxes, strict=True)
        ]


class _ViewOfBatch(Instances):
    """One image of a batch; its fields are cut out when they are first looked at."""

    def __init__(self, batch: PaddedInstances, image: int) -> None:
        self._image_size = batch.image_sizes[image]
        self._batch = batch
        self._image = image
        self._cut: dict[str, Any] | None = None

    @property
    def _fields(self) -> dict[str, Any]:  # type: ignore[override]
        if self._cut is None:
            self._cut = self._batch.rows(self._image)
        return self._cut

    @property
    def batch(self) -> PaddedInstances:
        """The batch that this is a view of."""
        return self._batch

    def is_untouched(self, first: _ViewOfBatch, image: int) -> bool:
        """Return whether this is the given image of the same batch, and its fields are as cut."""
        return self._batch is first._batch and self._image == image and self._cut is None

    def __reduce__(self) -> Any:  # a copy, or what another process gets, is not tied to the batch
        return _restored, (self._image_size, dict(self._fields))


def _restored(image_size: tuple[int, int], fields: dict[str, Any]) -> Instances:
    return Instances(image_size, **fields)


class RowsOfImages(Sequence[Tensor]):
    """One tensor (m_i, ...) an image, views of a batch; the CPU waits when one is looked at."""

    def __init__(self, values: Tensor, batch: PaddedInstances) -> None:
        """
        Args:
            values: (N, P, ...).
            batch: has the lengths of the same images.
        """
        self._values = values
        self._batch = batch

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, image: Any) -> Any:
        if isinstance(image, slice):
            return list(self)[image]
        return self._values[image, : self._batch.lengths[image]]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[image] for image in range(len(self)))
