"""Count where the host would wait for a GPU, on a machine that has none.

The operators run on the CPU. While they are counted every tensor says that it is on a GPU, so that
code which asks takes the path it takes there.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

GPU = torch.device("cuda", 0)

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


class HostWaits:
    """The places where the host waited: "operator, file:line"."""

    def __init__(self) -> None:
        self.places: list[str] = []

    def __len__(self) -> int:
        return len(self.places)

    def add(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if _is_of_interest(f.filename)]
        last = frames[-1] if frames else None
        where = f"{last.filename.rpartition('/')[2]}:{last.lineno} {last.name}" if last else "?"
        self.places.append(f"{what}, {where}")


def _is_of_interest(filename: str) -> bool:
    own = "/lucidet/" in filename or "/torchvision/" in filename or "/torch/amp/" in filename
    return own or "/torch/optim/" in filename


def _called_by_optimizer() -> bool:
    """Whether torch's optimisers call: they know the real device, from torch's C++ part."""
    caller = traceback.extract_stack(limit=4)[0].filename  # of the mode, of `_count`, of this
    return "/torch/optim/" in caller or "/torch/nn/utils/" in caller


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class _Operators(TorchDispatchMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in _WAITING:
            self.waits.add(name)
        elif name in _INDEXING and any(_is_mask(index) for index in args[1]):
            self.waits.add(f"{name} by a mask")
        elif func is torch.ops.aten.repeat_interleave.Tensor and not kwargs.get("output_size"):
            self.waits.add(name)
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """Makes on the CPU what is wanted on the GPU, and counts copies that are waited for."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        self._count(name, args, kwargs)
        if isinstance(kwargs.get("device"), torch.device | str):
            kwargs["device"] = torch.device("cpu")
        if name == "to":
            args = tuple(torch.device("cpu") if arg == GPU else arg for arg in args)
        return func(*args, **kwargs)

    def _count(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        if name in _FROM_DEVICE:
            self.waits.add(name)
        elif name in _TO_DEVICE and not isinstance(args[-1], Tensor):
            if name == "new_tensor" or kwargs.get("device") == GPU:
                self.waits.add(name)
        elif name == "to" and not kwargs.get("non_blocking", False):
            target = kwargs.get("device", args[1] if len(args) > 1 else None)
            moved = getattr(args[0], "on_host", False) and target == GPU
            fetched = target in ("cpu", torch.device("cpu")) and not _called_by_optimizer()
            if moved or fetched:
                self.waits.add(f"to({target})")
        elif name == "__getitem__":
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self.waits.add("index by a list")


class _Event:
    """A `torch.cuda.Event` that has never happened yet."""

    def record(self) -> None: ...

    def query(self) -> bool:
        return False

    def synchronize(self) -> None: ...


def put_on_host(batch: Any) -> Any:
    """Mark the tensors of a batch as not yet on the GPU."""
    for record in batch:
        instances = record["instances"]
        tensors = [record["image"], instances.gt_boxes.tensor, instances.gt_classes]
        for tensor in tensors:
            tensor.on_host = True
    return batch


@contextmanager
def counted_host_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostWaits]:
    """Count the waits within this block."""
    from lucidet.modeling.meta_arch import detector

    waits, check = HostWaits(), detector.check_inputs

    def check_on_host(*args: Any, **kwargs: Any) -> None:  # looks at values on the host only
        with _disable_current_modes():
            check(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "device", property(_pretended_device), raising=False)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(detector, "check_inputs", check_on_host)
        with _Functions(waits), _Operators(waits):
            yield waits


def _pretended_device(tensor: Tensor) -> torch.device:
    return torch.device("cpu") if getattr(tensor, "on_host", False) else GPU
