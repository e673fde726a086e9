"""The boxes, and all other fields of Instances, of a whole batch in one tensor each.

Images have different numbers of boxes. Padding them once to the largest number lets every later
step (assignment, sampling, matching, losses) run once for all images.
"""

# N images, M boxes of the image that has most, P rows of an image with those that hold nothing

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.structures.boxes import Boxes
from lucidet.structures.instances import Instances
from lucidet.structures.rows import set_later

__all__ = [
    "PaddedBoxes",
    "PaddedInstances",
    "RowsOfImages",
    "clip_padded",
    "pad_fields",
    "pad_rows",
    "set_other_fields",
    "take_rows",
    "tensor_on",
]


def tensor_on(values: Sequence[object], device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device, without a wait: ``new_tensor`` would wait."""
    return torch.tensor(values).to(device, non_blocking=True)


def clip_padded(boxes: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return boxes (N, K, 4) with every corner moved into its image, 0 <= x <= width.

    Args:
        boxes: XYXY pixels, finite.
        image_sizes: (height, width) of each image.

    >>> clip_padded(torch.tensor([[[-5.0, 1, 30, 9]]]), [(8, 20)]).tolist()
    [[[0.0, 1.0, 20.0, 8.0]]]
    """
    limits = [[[width, height, width, height]] for height, width in image_sizes]
    upper = torch.tensor(limits, dtype=boxes.dtype).to(boxes.device, non_blocking=True)
    return torch.minimum(boxes.clamp(min=0), upper)


def pad_rows(rows: Sequence[Tensor]) -> Tensor:
    """Return tensors (m_i, ...) as one (N, M, ...), zeros after each tensor's own rows.

    The number of device operators does not depend on N.

    >>> pad_rows([torch.tensor([1, 2]), torch.tensor([3])]).tolist()
    [[1, 2], [3, 0]]
    """
    counts = [len(tensor) for tensor in rows]
    longest, total = max(counts), sum(counts)
    if total == longest * len(rows):
        return torch.stack(list(rows))
    index = torch.full((len(rows), longest), total)  # on the host; `total` is the row of zeros
    start = 0
    for image, count in enumerate(counts):
        index[image, :count] = torch.arange(start, start + count)
        start += count
    flat = torch.cat([*rows, rows[0].new_zeros((1, *rows[0].shape[1:]))])
    return flat[index.to(flat.device, non_blocking=True)]


def take_rows(padded: Tensor, index: Tensor) -> Tensor:
    """Return (N, R, ...): of each image's rows (N, M, ...) those at `index` (N, R); 0 if M is 0.

    >>> take_rows(torch.tensor([[7, 8], [5, 6]]), torch.tensor([[1, 1, 0], [0, 0, 1]])).tolist()
    [[8, 8, 7], [5, 5, 6]]
    """
    num_images, num_rows = padded.shape[:2]
    if num_rows == 0:
        return padded.new_zeros((*index.shape, *padded.shape[2:]))
    first = torch.arange(0, num_images * num_rows, num_rows, device=index.device)[:, None]
    return padded.flatten(0, 1)[index + first]


@dataclass(frozen=True)
class PaddedBoxes:
    """Boxes of N images, padded to the largest number of boxes.

    Attributes:
        tensor: (N, M, 4) XYXY pixels; zeros in padded places.
        valid: (N, M) bool; False in padded places.
        counts: boxes of each image, where the host knows them.
    """

    tensor: Tensor
    valid: Tensor
    counts: tuple[int, ...] | None = None

    @classmethod
    def from_boxes(cls, boxes: Sequence[Boxes]) -> PaddedBoxes:
        """Return the boxes of each image (Boxes with m_i rows) padded.

        >>> padded = PaddedBoxes.from_boxes([Boxes([[0, 0, 2, 2]]), Boxes(torch.zeros(0, 4))])
        >>> padded.tensor.shape, padded.valid.tolist()
        (torch.Size([2, 1, 4]), [[True], [False]])
        """
        tensor = pad_rows([own.tensor for own in boxes])
        counts = tuple(len(own) for own in boxes)
        lengths = torch.tensor(counts).to(tensor.device, non_blocking=True)
        valid = torch.arange(tensor.shape[1], device=tensor.device) < lengths[:, None]
        return cls(tensor, valid, counts)

    def __len__(self) -> int:
        """N."""
        return len(self.tensor)

    def flat(self) -> tuple[Tensor, Tensor]:
        """Return the boxes of all images without padding (T, 4), and where they were (T,).

        The places are int64 in 0..N*M-1; without `counts` the CPU waits for the GPU.

        >>> padded = PaddedBoxes.from_boxes([Boxes([[0, 0, 2, 2]]), Boxes([[1, 1, 3, 3]] * 2)])
        >>> padded.flat()[1].tolist()
        [0, 2, 3]
        """
        if self.counts is None:
            places = self.valid.flatten().nonzero().squeeze(1)
        else:
            valid = np.arange(self.tensor.shape[1]) < np.array(self.counts)[:, None]
            places = torch.from_numpy(np.flatnonzero(valid))
            places = places.to(self.tensor.device, non_blocking=True)
        return self.tensor.flatten(0, 1)[places], places

    def image(self, index: int) -> Boxes:
        """Return the boxes of one image, a view; without `counts` the CPU waits for the GPU."""
        count = int(self.valid[index].sum()) if self.counts is None else self.counts[index]
        return Boxes(self.tensor[index, :count])


def pad_fields(instances: Sequence[Instances], prefix: str = "") -> dict[str, Tensor]:
    """Return the fields that all images have as tensors, or as Boxes: name -> (N, P, ...).

    Args:
        instances: at least one.
        prefix: only of fields whose names begin with it.
    """
    fields = {}
    for name in instances[0].get_fields():
        kind = Boxes if name.endswith("boxes") else Tensor
        values: list[Any] = [own.get_fields().get(name) for own in instances]
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
    """Set rows of the fields that can't be padded: any type with an index.

    They are taken when a field is first looked at. The CPU waits for a GPU once, for the index.

    Args:
        images: that get the fields; L_i rows each.
        sources: of the same images, that have them. An image without rows, and with a `prefix`
            given, has nothing to copy.
        index: (N, P), of which the first L_i are rows of the source.
        padded: names of the other fields.
        prefix: only of fields whose names begin with it.
    """
    on_host: Tensor | None = None
    for image, (own, source) in enumerate(zip(images, sources, strict=True)):
        names = [n for n in source.get_fields() if n.startswith(prefix) and n not in padded]
        if names and (len(source) > 0 or not prefix):
            on_host = index.cpu() if on_host is None else on_host
            set_later(own, source, names, on_host[image, : len(own)])


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
    def untouched(instances: Sequence[Instances | None]) -> PaddedInstances | None:
        """Return the batch that `instances` came from by :meth:`split`, if they were not looked at.

        Where they were, they may have been changed: None, as for all other Instances.
        """
        views = [own for own in instances if isinstance(own, _ViewOfBatch) and own._cut is None]
        if len(views) < len(instances) or not views:
            return None
        batch = views[0]._batch
        places = [own._image for own in views if own._batch is batch]
        return batch if places == list(range(len(batch.image_sizes))) else None

    @classmethod
    def padded(cls, instances: Sequence[Instances]) -> PaddedInstances:
        """Return the tensors and Boxes of `instances`; fields of other types are left out."""
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

    @cached_property
    def on_host(self) -> PaddedInstances:
        """The batch on the CPU, copied from a GPU once and in one piece."""
        if self.count.device.type == "cpu":
            return self
        if self.valid.numel() == 0 or self.count.device.type == "mps":  # has no float64
            moved = {name: values.to("cpu") for name, values in self.fields.items()}
            return PaddedInstances(self.image_sizes, moved, self.count.to("cpu"))
        columns = [values.reshape(*values.shape[:2], -1) for values in self.fields.values()]
        columns.append(self.count[:, None, None].expand(-1, columns[0].shape[1], 1))
        # float64 holds every field exactly: boxes, scores, classes
        copied = torch.cat([own.double() for own in columns], dim=2).to("cpu")
        parts = copied.split([own.shape[2] for own in columns], dim=2)
        fields = {
            name: part.to(values.dtype).reshape(values.shape)
            for (name, values), part in zip(self.fields.items(), parts, strict=False)
        }
        return PaddedInstances(self.image_sizes, fields, parts[-1][:, 0, 0].long())

    def split(self) -> list[Instances]:
        """Return each image's Instances; the CPU waits when the first field is looked at."""
        return [_ViewOfBatch(self, image) for image in range(len(self.image_sizes))]

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
            length = self._batch.lengths[self._image]
            own = {n: values[self._image, :length] for n, values in self._batch.fields.items()}
            self._cut = {n: Boxes(v) if n.endswith("boxes") else v for n, v in own.items()}
        return self._cut

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """See :meth:`Instances.to`; the CPU gets the whole batch in one copy."""
        if self._cut is None and args in (("cpu",), (torch.device("cpu"),)) and not kwargs:
            return _ViewOfBatch(self._batch.on_host, self._image)
        return super().to(*args, **kwargs)

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
