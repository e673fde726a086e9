"""Count where the host would wait for a GPU, on a machine that has none; see `pretended_gpu`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.modeling.pretended_gpu import (
    CPU,
    GPU,
    PretendedGPU,
    Watcher,
    place,
    pretended_gpu,
    put_on_host,
)

__all__ = ["HostWaits", "counted_host_waits", "put_on_host"]

#: operators whose result's size, or the result itself, the host has to know
_WAITING = {
    "aten::_local_scalar_dense",  # .item(), bool(), float(), int()
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
    "torchvision::nms",
}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
#: functions that copy numbers to the host or from it
_FROM_DEVICE = ("tolist", "numpy", "cpu")
_TO_DEVICE = ("tensor", "as_tensor", "new_tensor")


class HostWaits(Watcher):
    """The places where the host waited: "operator, file:line"."""

    gpu: PretendedGPU

    def __init__(self) -> None:
        self.places: list[str] = []

    def __len__(self) -> int:
        return len(self.places)

    def add(self, what: str) -> None:
        self.places.append(f"{what}, {place()}")

    def operator(self, func: Any, args: Any, kwargs: dict[str, Any], on_host: bool) -> None:
        if on_host:
            return
        name = func._schema.name
        if name in _WAITING:
            self.add(name)
        elif name in _INDEXING and any(_is_mask(index) for index in args[1]):
            self.add(f"{name} by a mask")
        elif func is torch.ops.aten.repeat_interleave.Tensor and not kwargs.get("output_size"):
            self.add(name)

    def function(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        if name in _FROM_DEVICE:
            if self.gpu.device_of(args[0]) == GPU:
                self.add(name)
        elif name in _TO_DEVICE and not isinstance(args[-1], Tensor):
            if name == "new_tensor" or kwargs.get("device") == GPU:
                self.add(name)
        elif name == "to" and not kwargs.get("non_blocking", False):
            target = kwargs.get("device", args[1] if len(args) > 1 else None)
            moved = self.gpu.device_of(args[0]) == CPU and target == GPU
            fetched = target in ("cpu", CPU) and self.gpu.device_of(args[0]) == GPU
            if moved or (fetched and not _called_by_optimizer()):
                self.add(f"to({target})")
        elif name == "__getitem__":
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self.add("index by a list")


def _called_by_optimizer() -> bool:
    """Whether torch's optimizers call: they know the real device, from torch's C++ part.

    How many frames of torch lie between depends on what it has compiled before in this process.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_code.co_filename
        if "/torch/optim/" in caller or "/torch/nn/utils/" in caller:
            return True
        if "/lucidet/" in caller:
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


@contextmanager
def counted_host_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostWaits]:
    """Count the waits within this block."""
    waits = HostWaits()
    with pretended_gpu(monkeypatch, waits) as waits.gpu:
        yield waits
