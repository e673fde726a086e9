"""Run code on the CPU as it would run on a GPU, and watch what it asks of the device.

While `pretended_gpu` is active every tensor says that it is on a GPU, so that code which asks takes
the path it takes there. Tensors on the host are told apart by their storage: those marked by
`put_on_host`, and those that were created without a device or computed from host tensors only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
#: the place of what runs, or whose forward pass ran, while the watchers were paused
UNCOUNTED = "uncounted"

#: where operators come from; frames of the instrument itself don't count
_INSTRUMENT = ("/pretended_gpu.py", "/operator_count.py", "/host_waits.py")
_PACKAGES = ("/lucidet/", "/torchvision/", "/torch/amp/", "/torch/optim/", "/tests/")


class Watcher:
    """Is called for what happens on the pretended device; the base class ignores it."""

    def function(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        """A torch function is about to be called, with the device that was asked for."""

    def operator(self, func: Any, args: Any, kwargs: dict[str, Any], on_host: bool) -> None:
        """An operator ran, in the forward or the backward pass; `on_host`: not on the device."""


class PretendedGPU:
    """Which tensors are on the host; all others are on the GPU."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers
        self.paused = False
        self.in_graph = False  # what runs would be part of a CUDA graph
        self.creates_on = GPU  # where an operator without tensor arguments makes its result
        self._host: dict[int, StorageWeakRef] = {}

    def device_of(self, tensor: Tensor) -> torch.device:
        """Return where `tensor` pretends to be."""
        if getattr(tensor, "on_host", False):
            return CPU
        reference = self._host.get(_storage_id(tensor))
        return GPU if reference is None or reference.expired() else CPU

    def mark(self, tensor: Tensor, device: torch.device) -> None:
        """Say where a tensor, and every view of it, is."""
        key = _storage_id(tensor)
        if device == CPU:
            # the weak reference keeps the address from being used again
            self._host[key] = StorageWeakRef(tensor.untyped_storage())
        else:
            self._host.pop(key, None)

    def mark_all(self, values: Any, device: torch.device) -> None:
        """Mark every tensor within `values`."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                self.mark(value, device)


def _storage_id(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # a layout without storage
        return 0


def _tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class _Operators(TorchDispatchMode):
    """Follows where each result is, and tells the watchers."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        gpu = self.gpu
        result = func(*args, **kwargs)
        sources = _tensors(args, kwargs)
        on_host = all(gpu.device_of(t) == CPU for t in sources) if sources else False
        if not sources or func is torch.ops.aten._to_copy.default:
            target = gpu.creates_on
            gpu.mark_all(result, target)
            on_host = target == CPU and (on_host or not sources)
        elif on_host:
            gpu.mark_all(result, CPU)
        if not gpu.paused:
            for watcher in gpu.watchers:
                watcher.operator(func, args, kwargs, on_host)
        return result


class _Functions(TorchFunctionMode):
    """Makes on the CPU what is asked for on the GPU, and notes where it would be."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("untyped_storage", "__get__"):
            return func(*args, **kwargs)
        gpu = self.gpu
        if not gpu.paused:
            for watcher in gpu.watchers:
                watcher.function(name, args, kwargs)
        before, gpu.creates_on = gpu.creates_on, self._target(name, args, kwargs)
        if isinstance(kwargs.get("device"), torch.device | str):
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        if name in ("to", "cpu", "cuda"):
            func, args, kwargs = self._move(args, kwargs if name == "to" else {})
        try:
            result = func(*args, **kwargs)
            if not _tensors(args, kwargs):
                gpu.mark_all(result, gpu.creates_on)
        finally:
            gpu.creates_on = before
        for value in _tensors(result):
            _note_place(value.grad_fn, UNCOUNTED if gpu.paused else "", gpu.in_graph)
        return result

    def _move(self, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return the call that copies a tensor where it would be moved to the other device."""
        tensor = args[0]
        rest = tuple(CPU if isinstance(arg, torch.device | str) else arg for arg in args[1:])
        if self.gpu.creates_on != self.gpu.device_of(tensor):
            kwargs = {**kwargs, "copy": True}
            rest = rest or (CPU,)
        return Tensor.to, (tensor, *rest), kwargs

    def _target(self, name: str, args: Any, kwargs: dict[str, Any]) -> torch.device:
        """Return where the function makes its result."""
        if name in ("cpu", "cuda"):
            return CPU if name == "cpu" else GPU
        asked = kwargs.get("device")
        if name == "to" and asked is None:
            asked = next((a for a in args[1:] if isinstance(a, torch.device | str)), None)
        if asked is not None:
            return torch.device(asked) if torch.device(asked).type == "cpu" else GPU
        devices = {self.gpu.device_of(tensor) for tensor in _tensors(args, kwargs)}
        return GPU if GPU in devices else CPU


def place() -> str:
    """Return "file:line function" of the innermost line of lucidet (or torch's optimizers)."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in _PACKAGES) and not name.endswith(_INSTRUMENT):
            parts = name.rsplit("/", 2)
            return f"{'/'.join(parts[-2:])}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def _note_place(node: Any, where: str, in_graph: bool) -> None:
    """Write into autograd's new nodes which line made them: their backward is its work too."""
    pending = [node]
    while pending:
        node = pending.pop()
        if node is None or "place" in node.metadata or node.name().startswith("torch::autograd"):
            continue
        where = where or place()
        node.metadata["place"], node.metadata["in_graph"] = where, in_graph
        pending.extend(following for following, _ in node.next_functions)


class _Event:
    """A `torch.cuda.Event` that has never happened yet."""

    def record(self) -> None: ...

    def query(self) -> bool:
        return False

    def synchronize(self) -> None: ...


def put_on_host(batch: Any) -> Any:
    """Mark the tensors of a batch as not yet on the GPU."""
    for record in batch:
        fields = record["instances"].get_fields().values() if "instances" in record else ()
        for value in (record["image"], *fields):
            tensor = getattr(value, "tensor", value)
            if isinstance(tensor, Tensor):
                tensor.on_host = True  # type: ignore[attr-defined]
    return batch


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, *watchers: Watcher) -> Iterator[PretendedGPU]:
    """Let every tensor of the block say that it is on a GPU, and tell the watchers what runs."""
    from lucidet.layers.fast import segment_nms
    from lucidet.modeling.meta_arch import detector

    gpu, check = PretendedGPU(*watchers), detector.check_inputs

    def check_on_host(*args: Any, **kwargs: Any) -> None:  # looks at values on the host only
        with _disable_current_modes():
            check(*args, **kwargs)

    def kernels(*args: Any) -> Tensor:  # the plain form stands in for two launches
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            return segment_nms.plain_segment_nms(*args)

    with monkeypatch.context() as patch:
        patch.setattr(segment_nms, "_launch", kernels)
        patch.setattr(import_module("lucidet.layers.nms"), "AVAILABLE", True)
        patch.setattr(torch.Tensor, "device", property(gpu.device_of), raising=False)
        is_cuda = property(lambda tensor: gpu.device_of(tensor) == GPU)
        patch.setattr(torch.Tensor, "is_cuda", is_cuda, raising=False)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor, raising=False)
        patch.setattr(detector, "check_inputs", check_on_host)
        functions, run_backward = _Functions(gpu), torch.autograd._engine_run_backward

        def watched_backward(*args: Any, **kwargs: Any) -> Any:
            with functions:  # off while `Tensor.backward` itself is called
                return run_backward(*args, **kwargs)

        patch.setattr(torch.autograd, "_engine_run_backward", watched_backward)
        with functions, _Operators(gpu):
            yield gpu
