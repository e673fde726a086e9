"""The convolutional parts of a detector as CUDA graphs, one for each shape of their inputs."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from lucidet.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from lucidet.layers.fast.frozen_norm import constants_in_use
from lucidet.modeling.meta_arch.detector import Detector
from lucidet.modeling.optimize.cuda_graphs import Capture, CudaGraphCapture, Replay, run

__all__ = ["CONVOLUTIONAL_PARTS", "GraphedParts"]

logger = logging.getLogger(__name__)

#: modules of convolutions only, of one-stage and of two-stage detectors; what lies between them
#: has sizes that depend on values
CONVOLUTIONAL_PARTS = ("backbone", "head", "proposal_generator.rpn_head")
#: images are padded to multiples of this at training, so that there are few shapes
BUCKET = 128


class GraphedParts:
    """Backbone and head of a detector, launched as CUDA graphs within the block `in_use`.

    A shape is captured when it comes for the third time (later ones: for the 6th, 9th ...), since a
    capture takes about as long as ten steps. At most `max_shapes` are kept; the one that was not
    used for longest goes first. What can't be captured runs as it is, and the log says why, once.

    The model stays as it is: outside of the block its modules run their own forward, and its state
    dict and its copies know nothing of this.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        training: bool,
        capture: Callable[[], Capture] = CudaGraphCapture,
        max_shapes: int = 8,
        bucket: int = 0,
    ) -> None:
        """
        Args:
            model: a detector.
            training: the backward pass is captured too.
            capture: makes what captures the graphs of one part.
            max_shapes: graphs that are kept of each part.
            bucket: images are padded to multiples of this (and of what the backbone needs).
        """
        self.model = model
        self.bucket = bucket
        modules = dict(model.named_modules())
        self.parts = [
            _Part(name, modules[name], training, capture(), max_shapes)
            for name in CONVOLUTIONAL_PARTS
            if name in modules
        ]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the graphs run in the block: one forward pass of the model."""
        with ExitStack() as stack:
            if isinstance(self.model, Detector) and self.bucket:
                stack.enter_context(self._padding(self.model))
            for part in self.parts:
                stack.enter_context(part.in_use())
            yield

    @contextmanager
    def _padding(self, model: Detector) -> Iterator[None]:
        before, model.padding_multiple = model.padding_multiple, self.bucket
        try:
            yield
        finally:
            model.padding_multiple = before


class _Part:
    """Called like the forward of `module`."""

    def __init__(
        self, name: str, module: nn.Module, training: bool, capture: Capture, max_shapes: int
    ) -> None:
        self.name = name
        self.module = module
        self.plain = module.forward
        self.training = training
        self.capture = capture
        self.max_shapes = max_shapes
        self.seen: Counter[Any] = Counter()
        self.replays: OrderedDict[Any, tuple[Replay, Any]] = OrderedDict()
        self.failed = ""  # why nothing is captured any more
        self._said: set[str] = set()
        self._called = False
        self._captures = self._uses = 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let calls of the module come here in the block."""
        self._called = False
        before = self.module.__dict__.get("forward")
        self.plain = self.module.forward
        self.module.forward = self  # found before the class's; hooks run around it as ever
        try:
            yield
        finally:
            del self.module.forward
            if before is not None:
                self.module.forward = before

    def __call__(self, *args: Any) -> Any:
        reason = self.failed or self.why_not()
        if reason:
            self._say(reason)
            return self.plain(*args)
        self._called = True
        inputs, structure = tree_flatten(args)
        if not all(isinstance(x, Tensor) for x in inputs):
            self._say("its inputs are not tensors only")
            return self.plain(*args)
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        key = (str(structure), self._key(inputs))
        found = self._find(key, inputs, structure, parameters if self.training else None)
        if found is None:
            return self.plain(*args)
        replay, out_structure = found
        self._uses += 1
        return tree_unflatten(run(replay, inputs, parameters), out_structure)

    def why_not(self) -> str:
        """Return why the next call must be a plain one; "" where it needn't."""
        if self._called:
            return "it is called more than once a step"
        if self.module.training != self.training or torch.is_grad_enabled() != self.training:
            return f"it is {'not ' if self.training else ''}being trained"
        if "forward" in self.module.__dict__ and self.module.__dict__["forward"] is not self:
            return "its forward was replaced"
        for part in self.module.modules():
            if part is not self.module and "forward" in part.__dict__:
                return f"the forward of a {type(part).__name__} in it was replaced"
            if any(getattr(part, hooks) for hooks in _HOOKS) and part is not self.module:
                return f"a hook watches a {type(part).__name__} in it"
            if isinstance(part, nn.SyncBatchNorm | NaiveSyncBatchNorm) and self.training:
                return "its norms exchange statistics between processes"
            if getattr(part, "checkpoint_stages", None) and self.training:
                return "MODEL.BACKBONE.CHECKPOINT_STAGES computes parts of it again"
        return ""

    def _key(self, inputs: list[Any]) -> Any:
        """Return all that a graph is bound to: shapes, types, modes, and the weights' addresses."""
        kind = inputs[0].device.type
        autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        shapes = [(x.shape, x.stride(), x.dtype, x.requires_grad) for x in inputs]
        weights = [(p.data_ptr(), p.requires_grad) for p in self.module.parameters()]
        # what was computed from frozen tensors once is part of the graph
        frozen = [p._version for p in self.module.parameters() if not p.requires_grad]
        for part in self.module.modules():
            if isinstance(part, FrozenBatchNorm2d):
                frozen += [buffer._version for buffer in part.buffers()]
        modes = autocast, torch.is_inference_mode_enabled()
        return str(shapes), modes, hash(tuple(weights)), hash(tuple(frozen))

    def _find(
        self, key: Any, inputs: list[Any], structure: Any, parameters: Sequence[Tensor] | None
    ) -> tuple[Replay, Any] | None:
        """Return the graph of this key; None where the call has to be plain, as most first ones."""
        if key in self.replays:
            self.replays.move_to_end(key)
            return self.replays[key]
        self.seen[key] += 1
        # the more was captured, the more often a shape has to come
        if self.seen[key] < 3 * (1 + self._captures // self.max_shapes):
            return None
        if self._captures >= 4 * self.max_shapes and self._uses < 20 * self._captures:
            self.failed = f"images come in too many shapes ({len(self.seen)} so far)"
            self._say(self.failed)
            self.replays.clear()
            return None
        while len(self.replays) >= self.max_shapes:
            self.replays.popitem(last=False)
        try:
            self.replays[key] = self._captured(inputs, structure, parameters)
        except Exception as error:
            # an error of the model's own comes back below, from its plain form
            self.failed = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self._say(self.failed)
            self.replays.clear()
            return None
        self._captures += 1
        return self.replays[key]

    def _captured(
        self, inputs: list[Any], structure: Any, parameters: Sequence[Tensor] | None
    ) -> tuple[Replay, Any]:
        out_structure: Any = None
        kind = inputs[0].device.type
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def function(*tensors: Tensor) -> list[Tensor]:
            nonlocal out_structure
            # no cache: a weight that was cast outside would not follow the weights
            with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False):
                outputs = self.plain(*tree_unflatten(list(tensors), structure))
            leaves, out_structure = tree_flatten(outputs)
            if not all(isinstance(leaf, Tensor) for leaf in leaves):
                raise TypeError("its outputs are not tensors only")
            return leaves

        # the runs before the capture count in no statistics; frozen ones keep their versions
        changing = [
            buffer
            for part in self.module.modules()
            if not isinstance(part, FrozenBatchNorm2d)
            for buffer in part.buffers(recurse=False)
        ]
        held = [buffer.clone() for buffer in changing]
        replay = self.capture(function, inputs, parameters)
        with torch.no_grad():
            for buffer, before in zip(changing, held, strict=True):
                buffer.copy_(before)
        replay.kept = constants_in_use(self.module)
        return replay, out_structure

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            logger.info("%s runs without CUDA graphs: %s", self.name, reason)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
