"""One function as a CUDA graph: captured for one shape, and then launched at once.

A graph reads its inputs from, and writes its results to, memory that it was captured with. What a
capture returns is a `Replay`; autograd sees `run`, which copies inputs in and returns views of the
results. They hold until the next replay. `docs/decisions/006-cuda-graphs.md` says why so.
"""

# I inputs, O outputs, P parameters with gradients of the captured function

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Capture", "CudaGraphCapture", "FlatGradients", "Replay", "gradients_of", "run"]

#: runs on a side stream before a capture, so that libraries choose their algorithms outside of it
_WARM_UP = 3


@dataclass
class Replay:
    """A captured function: what it reads and writes, and how it is launched.

    Attributes:
        inputs: I tensors that `forward` reads.
        outputs: O tensors that `forward` writes.
        forward: launches the function.
        grad_outputs: gradients that `backward` reads; None where an output has none.
        grad_inputs: gradients that `backward` writes; None where an input has none.
        gradients: of the parameters, likewise.
        backward: launches the backward pass; None: the function is for inference.
        kept: what must stay in memory as long as the graph.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    forward: Callable[[], None]
    grad_outputs: list[Tensor | None] = field(default_factory=list)
    grad_inputs: list[Tensor | None] = field(default_factory=list)
    gradients: FlatGradients | None = None
    backward: Callable[[], None] | None = None
    kept: Any = None


#: (function, I inputs, P parameters: at training) -> Replay; inputs are copied if they are kept
Capture = Callable[[Callable[..., list[Tensor]], Sequence[Tensor], Sequence[Tensor] | None], Replay]


class FlatGradients:
    """The gradients of parameters in one tensor a type, so that one copy takes them out of a graph.

    A gradient that autograd keeps must not be the graph's memory: the next replay would overwrite
    it, also where it was to be added to (accumulation).
    """

    def __init__(self, parameters: Sequence[Tensor], used: Sequence[bool]) -> None:
        """
        Args:
            parameters: P of them.
            used: whether each has a gradient.
        """
        self._like = [p if u else None for p, u in zip(parameters, used, strict=True)]
        there = [p for p in self._like if p is not None]
        self._flat: dict[torch.dtype, Tensor] = {}
        for dtype in {p.dtype for p in there}:
            size = sum(p.numel() for p in there if p.dtype == dtype)
            self._flat[dtype] = there[0].new_zeros(size, dtype=dtype)
        self.views = self._views(self._flat)

    def fresh(self) -> list[Tensor | None]:
        """Return copies: views of one new tensor."""
        return self._views({dtype: flat.clone() for dtype, flat in self._flat.items()})

    def store(self, gradients: Sequence[Tensor | None]) -> None:
        """Copy P gradients in."""
        pairs = [(v, g) for v, g in zip(self.views, gradients, strict=True) if v is not None]
        if pairs:
            torch._foreach_copy_([view for view, _ in pairs], [grad for _, grad in pairs])  # type: ignore[misc]

    def _views(self, flats: dict[torch.dtype, Tensor]) -> list[Tensor | None]:
        starts = dict.fromkeys(flats, 0)
        views: list[Tensor | None] = []
        for p in self._like:
            if p is None:
                views.append(None)
                continue
            flat, start = flats[p.dtype], starts[p.dtype]
            starts[p.dtype] += p.numel()
            # with the parameter's own strides, as autograd would copy any others
            if p.is_contiguous() or (
                p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last)
            ):
                views.append(flat.as_strided(p.shape, p.stride(), start))
            else:
                views.append(flat[start : start + p.numel()].view(p.shape))
        return views


def run(replay: Replay, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Replay a graph with these inputs; gradients flow to inputs and parameters.

    Args:
        replay: of `Capture`.
        inputs: I tensors, of the shapes of the capture.
        parameters: P tensors, those of the capture.

    Returns:
        O tensors that hold until the next replay.
    """
    if replay.backward is None:
        _copy_in(replay.inputs, inputs)
        replay.forward()
        return replay.outputs
    return list(_Replayed.apply(replay, len(inputs), *inputs, *parameters))


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, replay: Replay, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        _copy_in(replay.inputs, tensors[:count])
        replay.forward()
        ctx.replay = replay
        outputs = tuple(output.detach() for output in replay.outputs)
        fixed = [o for o, g in zip(outputs, replay.grad_outputs, strict=True) if g is None]
        ctx.mark_non_differentiable(*fixed)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        replay: Replay = ctx.replay
        wanted = [(s, g) for s, g in zip(replay.grad_outputs, grads, strict=True) if s is not None]
        _copy_in([static for static, _ in wanted], [grad for _, grad in wanted])
        assert replay.backward is not None
        assert replay.gradients is not None
        replay.backward()
        back = [None if grad is None else grad.detach() for grad in replay.grad_inputs]
        return None, None, *back, *replay.gradients.fresh()


def _copy_in(static: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy what is not there already, in one launch."""
    pairs = [(a, b) for a, b in zip(static, given, strict=True) if a.data_ptr() != b.data_ptr()]
    if pairs:
        torch._foreach_copy_([a for a, _ in pairs], [b.detach() for _, b in pairs])


class CudaGraphCapture:
    """Captures functions as CUDA graphs; the graphs of one object share their memory.

    They may, as no two of them are between their forward and their backward pass at once, and what
    one leaves for later (its results) is kept.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._gradients: tuple[Any, FlatGradients | None] = (None, None)

    def __call__(
        self,
        function: Callable[..., list[Tensor]],
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor] | None,
    ) -> Replay:
        """See `Capture`. Must run on a CUDA device.

        Raises:
            RuntimeError: an operation of the function can't be captured.
        """
        static = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                outputs = function(*static)
                gradients = gradients_of(outputs, static, parameters)
        torch.cuda.current_stream().wait_stream(side)
        if parameters is None:
            del outputs, gradients
            graph, outputs = self._captured(lambda: function(*static))
            return Replay(static, outputs, graph.replay)
        flat = self._flat(parameters, [gradient is not None for gradient in gradients[1]])
        del outputs, gradients
        graph, outputs = self._captured(lambda: function(*static))
        grad_outputs = [torch.zeros_like(o) if o.requires_grad else None for o in outputs]

        def backward() -> list[Tensor | None]:
            for_inputs, for_parameters = gradients_of(outputs, static, parameters, grad_outputs)
            flat.store(for_parameters)
            return for_inputs

        backward_graph, grad_inputs = self._captured(backward)
        results = [output.detach() for output in outputs]
        return Replay(
            static, results, graph.replay, grad_outputs, grad_inputs, flat, backward_graph.replay
        )

    def _flat(self, parameters: Sequence[Tensor], used: list[bool]) -> FlatGradients:
        """Return where the gradients are put: the same for all shapes."""
        key = [(id(p), p.data_ptr(), u) for p, u in zip(parameters, used, strict=True)]
        made_of, flat = self._gradients
        if flat is None or made_of != key:
            flat = FlatGradients(parameters, used)
            self._gradients = key, flat
        return flat

    def _captured(self, function: Callable[[], Any]) -> tuple[Any, Any]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: loaders that pin memory in another thread don't spoil the capture
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = function()
        return graph, result


def gradients_of(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor] | None,
    grad_outputs: Sequence[Tensor | None] | None = None,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of inputs and of parameters, None where there is none."""
    everything = (*inputs, *(parameters or ()))
    pairs = [
        (o, torch.ones_like(o) if grad_outputs is None else grad_outputs[i])
        for i, o in enumerate(outputs)
        if o.requires_grad
    ]
    sources = [x for x in everything if x.requires_grad]
    if parameters is None or not pairs or not sources:
        return [None] * len(inputs), [None] * len(everything[len(inputs) :])
    results, starts = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(results, sources, starts, allow_unused=True))
    of_all = [next(found) if x.requires_grad else None for x in everything]
    return of_all[: len(inputs)], of_all[len(inputs) :]
