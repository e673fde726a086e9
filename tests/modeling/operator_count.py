"""Count the operators that a training step launches on a GPU, on a machine that has none.

From the command line (N images; `--top` lines of the code, most operators first)::

    python -m tests.modeling.operator_count faster_rcnn 8
    python -m tests.modeling.operator_count retinanet 2 --top 60 --amp --by operator

Counted: every operator of torch or torchvision that runs on a tensor of the (pretended) GPU, in the
forward pass, the backward pass and the fused optimizer's step; each copy from the host and to it.
Not counted: views, allocations, and what runs on host tensors only. An operator counts once, though
a GPU may need several kernels for it. An operator of the backward pass belongs to the line of the
forward pass that asks for it.

A hand-written kernel, which can't run here, is named in `KERNELS` with the number of its launches;
its plain form runs in its place, without being counted.

In a test: ``with counted_operators(monkeypatch) as counts: ...``, then `len(counts)`.
"""

from __future__ import annotations

import argparse
import importlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.config import get_cfg
from lucidet.modeling import build_model
from lucidet.solver import create_optimizer, get_default_optimizer_params
from lucidet.structures import Boxes, Instances
from tests.modeling.pretended_gpu import (
    GPU,
    UNCOUNTED,
    PretendedGPU,
    Watcher,
    place,
    pretended_gpu,
)
from tests.modeling.pretended_gpu import put_on_host as _put_on_host

CONFIGS = Path(__file__).resolve().parents[2] / "configs/COCO-Detection"
NAMES = ("faster_rcnn", "retinanet", "atss", "fcos")
SIZE = (96, 128)  # small: the number of operators does not depend on it
OBJECTS = 12

#: "module:function" of hand-written kernels -> launches of a call
KERNELS: dict[str, int] = {
    # both kernels and a fill; the operator itself counts for the conversion of its result
    "lucidet.layers.fast.segment_nms:_launch": 3,
}

_FREE = {
    "aten::_unsafe_view",
    "aten::_pin_memory",
    "aten::empty",
    "aten::empty_like",
    "aten::empty_permuted",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
    "aten::is_pinned",
    "aten::is_same_size",
    "aten::resize_",
    "aten::scalar_tensor",  # a number of the host, that is an argument of a kernel
    "aten::set_",
    "aten::squeeze_",
    "aten::sym_numel",
    "aten::sym_size",
    "aten::t_",
    "aten::transpose_",
    "aten::unsqueeze_",
}
_COPIES = {"aten::_local_scalar_dense", "aten::_to_copy", "aten::copy_"}


@dataclass
class Operators(Watcher):
    """The counted operators: (phase, operator, place, in a graph) -> times."""

    counts: Counter[tuple[str, str, str, bool]] = field(default_factory=Counter)
    phase: str = "forward"
    gpu: PretendedGPU = field(default_factory=PretendedGPU)
    graphs: int = 0  # passes that a CUDA graph launches as one

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def outside_of_graphs(self) -> int:
        """Operators left where backbone and head are CUDA graphs, each of them one."""
        return self.graphs + sum(n for key, n in self.counts.items() if not key[-1])

    def add(self, name: str, where: str, launches: int = 1) -> None:
        """Count an operator of the current phase."""
        self.counts[self.phase, name, where, self.gpu.in_graph] += launches

    def operator(self, func: Any, args: Any, kwargs: dict[str, Any], on_host: bool) -> None:
        name = func._schema.name
        if on_host or func.is_view or name in _FREE:
            return
        node = torch._C._current_autograd_node()
        if node is None:
            self.add(name, place())
            return
        where = node.metadata.get("place") or node.name()
        if where != UNCOUNTED:
            self.counts["backward", name, where, node.metadata.get("in_graph", False)] += 1

    def function(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        # numbers that are copied one by one into a tensor of the GPU
        made = name in ("tensor", "as_tensor") and kwargs.get("device") == GPU
        if (made or name == "new_tensor") and not isinstance(args[-1], Tensor):
            self.add("copy of numbers", place())
        elif name == "__getitem__" and self.gpu.device_of(args[0]) == GPU:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self.add("copy of an index", place())

    def by(self, *columns: str) -> list[tuple[int, tuple[str, ...]]]:
        """Return the counts by some of "phase", "operator", "place", "function", "graph"."""
        found: Counter[tuple[str, ...]] = Counter()
        for (phase, operator, where, in_graph), count in self.counts.items():
            line, _, function = where.partition(" ")
            filename = line.partition(":")[0]
            row = {
                "phase": phase,
                "operator": operator,
                "place": where,
                "function": f"{filename} {function}",
                "graph": "in a graph" if in_graph else "outside",
            }
            found[tuple(row[column] for column in columns)] += count
        return [(count, key) for key, count in found.most_common()]


@contextmanager
def counted_operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operators]:
    """Count the operators of this block."""
    operators = Operators()
    with pretended_gpu(monkeypatch, operators) as gpu, monkeypatch.context() as patch:
        operators.gpu = gpu
        for name, launches in KERNELS.items():
            module, _, function = name.partition(":")
            target = importlib.import_module(module)
            patch.setattr(target, function, _kernel(operators, getattr(target, function), launches))
        yield operators


@contextmanager
def uncounted(operators: Operators) -> Iterator[None]:
    """Let the block run without being counted."""
    before, operators.gpu.paused = operators.gpu.paused, True
    try:
        yield
    finally:
        operators.gpu.paused = before


def _kernel(operators: Operators, plain: Any, launches: int) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        operators.add(plain.__name__, place(), launches)
        with uncounted(operators):
            return plain(*args, **kwargs)

    return call


# ---------------------------------------------------------------------------- a step to be counted


def detector(name: str) -> nn.Module:
    """Return an R50-FPN detector of the zoo's config, in training mode, with random weights."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{name}_R_50_FPN_1x.yaml"))
    narrow = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_BOX_HEAD.FC_DIM", 64]
    widths = ["MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32]
    cfg.merge_from_list([*narrow, *widths, "MODEL.RESNETS.WIDTH_PER_GROUP", 8])
    cfg.merge_from_list(["MODEL.FPN.OUT_CHANNELS", 32])
    torch.manual_seed(0)
    return build_model(cfg).train()


def batch(images: int, objects: int = OBJECTS, seed: int = 0) -> list[dict[str, Any]]:
    """Return noise images on the host, with random ground-truth boxes."""
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE
    records = []
    for _ in range(images):
        low = torch.rand(objects, 2, generator=generator) * torch.tensor([width, height]) * 0.6
        high = low + 4 + torch.rand(objects, 2, generator=generator) * 30
        instances = Instances(SIZE)
        instances.gt_boxes = Boxes(torch.cat([low, high], dim=1))
        instances.gt_classes = torch.randint(0, 80, (objects,), generator=generator)
        image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
        records.append({"image": image, "instances": instances})
    return _put_on_host(records)


def counted_steps(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, *images: int, amp: bool = False
) -> list[Operators]:
    """Return the operators of steps: gradients cleared, forward, backward, fused SGD.

    Another step comes before, so that what is made once (the optimizer's state) is there.

    Args:
        monkeypatch: of the test.
        model: in training mode.
        images: N of each step.
        amp: with autocast to bfloat16.
    """
    optimizer = create_optimizer(get_default_optimizer_params(model), lr=1e-9)
    steps = []
    for seed, count in enumerate((2, *images)):
        data = batch(count, seed=seed)
        with counted_operators(monkeypatch) as operators, ExitStack() as stack:
            for part in graphed_parts(model):
                stack.enter_context(_in_graph(operators, part))
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                losses = model(data)
            sum(losses.values()).backward()
            operators.phase = "optimizer"
            optimizer.step()
        steps.append(operators)
    return steps[1:]


def graphed_parts(model: nn.Module) -> list[nn.Module]:
    """Return the modules that are captured in CUDA graphs."""
    modules = dict(model.named_modules())
    names = ("backbone", "head", "proposal_generator.rpn_head")
    return [modules[name] for name in names if name in modules]


@contextmanager
def _in_graph(operators: Operators, part: nn.Module) -> Iterator[None]:
    """Note what belongs to a CUDA graph: both passes of `part`."""
    plain, gpu = part.forward, operators.gpu

    def forward(*args: Any, **kwargs: Any) -> Any:
        operators.graphs += 2
        gpu.in_graph = True
        try:
            return plain(*args, **kwargs)
        finally:
            gpu.in_graph = False

    part.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del part.forward


def main() -> None:
    """Print where the operators of a step come from."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("images", type=int)
    parser.add_argument("--by", default="function", choices=["function", "place", "operator"])
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--amp", action="store_true", help="with autocast to bfloat16")
    arguments = parser.parse_args()
    with pytest.MonkeyPatch.context() as patch:
        model = detector(arguments.name)
        (counted,) = counted_steps(patch, model, arguments.images, amp=arguments.amp)
    outside = f"{counted.outside_of_graphs} outside of CUDA graphs"
    print(f"{arguments.name}, {arguments.images} images: {len(counted)} operators, {outside}")
    for count, (phase,) in counted.by("phase"):
        print(f"{count:7d}  {phase}")
    for count, key in counted.by("graph", "phase", arguments.by)[: arguments.top]:
        print(f"{count:7d}  {key[0]:10s} {key[1]:9s} {key[2]}")


if __name__ == "__main__":
    main()
