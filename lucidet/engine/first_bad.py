"""Find the first tensor of a step that is not finite, and the image and object it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.engine.odd_input import describe_images, odd_input
from lucidet.utils.probe import watching

__all__ = ["BadTensor", "first_bad"]


@dataclass
class BadTensor:
    """A tensor that is not finite.

    Attributes:
        where: a parameter, an output of a module, or a field of a stage.
        shape: of the tensor.
        bad: entries that are NaN or infinite.
        images: numbers of the images in the batch that it concerns, where it has an image
            dimension or its stage is that of one image.
    """

    where: str
    shape: tuple[int, ...]
    bad: int
    images: tuple[int, ...] = ()

    def text(self, names: Sequence[str]) -> str:
        """Return a sentence; `names`: of the images of the batch."""
        size = "x".join(str(n) for n in self.shape) or "one number"
        said = f"first not finite: {self.where} ({size}, {self.bad} bad entries)"
        if not self.images:
            return said
        if len(self.images) == len(names) > 1:
            return f"{said}, in all images of the batch: the weights rather than an image"
        shown = ", ".join(names[i] if i < len(names) else f"number {i}" for i in self.images)
        return f"{said}, in image {shown}"


@contextmanager
def first_bad(model: nn.Module, batch: Sequence[Any]) -> Iterator[list[BadTensor]]:
    """Collect, in the order in which they appear, the tensors of a step that are not finite.

    Parameters and pixels count first, then what modules return and stages show inside the block.

    Args:
        model: runs inside the block.
        batch: records, for the number of images.

    Yields:
        A list that is filled inside the block.
    """
    found: list[BadTensor] = [
        bad for name, value in _weights(model) if (bad := _bad(f"{name} of the model", value))
    ]
    for number, record in enumerate(batch):
        pixels = record.get("image") if isinstance(record, Mapping) else None
        if bad := _bad("the pixels", pixels):
            found.append(BadTensor(bad.where, bad.shape, bad.bad, (number,)))

    def look(where: str, value: Any, images: tuple[int, ...] = ()) -> None:
        for tensor in _tensors(value):
            if bad := _bad(where, tensor):
                bad.images = images or _rows(tensor, len(batch))
                found.append(bad)

    def watcher(name: str, values: dict[str, Any]) -> None:
        image = values.get("image")
        for field, value in values.items():
            look(f"{field!r} of stage {name}", value, (image,) if isinstance(image, int) else ())

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            own = f"{name} ({type(module).__name__})"
            before = partial(_look_at_input, look, f"the input of {own}")
            after = partial(_look_at_output, look, f"the output of {own}" if name else "the losses")
            if name:  # the model's own input are records
                hooks.callback(module.register_forward_pre_hook(before).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        hooks.enter_context(watching(watcher))
        yield found


def _look_at_input(look: Callable[..., None], where: str, _: nn.Module, arguments: Any) -> None:
    look(where, arguments)


def _look_at_output(
    look: Callable[..., None], where: str, _: nn.Module, _arguments: Any, output: Any
) -> None:
    look(where, output)


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers, but not those that a batch norm only writes."""
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for own, value in module.named_parameters(recurse=False):
            yield prefix + own, value
        if not (isinstance(module, nn.modules.batchnorm._NormBase) and module.training):
            for own, value in module.named_buffers(recurse=False):
                yield prefix + own, value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _bad(where: str, value: Any) -> BadTensor | None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    bad = int((~value.detach().isfinite()).sum())
    return BadTensor(where, tuple(value.shape), bad) if bad else None


def _rows(tensor: Tensor, images: int) -> tuple[int, ...]:
    """Return which images a tensor (N, ...) of a batch of N is not finite in; else ()."""
    if tensor.dim() < 2 or len(tensor) != images:
        return ()
    rows = (~tensor.detach().isfinite()).flatten(1).any(dim=1)
    return tuple(torch.nonzero(rows).flatten().tolist())


def explain(found: Sequence[BadTensor], batch: Sequence[Any]) -> list[str]:
    """Return sentences: the first bad tensor, its image, and what is odd about the input."""
    names = describe_images(batch) or [f"number {i}" for i in range(len(batch))]
    lines = [found[0].text(names)] if found else ["no tensor of the forward pass is not finite"]
    return [*lines, *(f"odd input: {odd}" for odd in odd_input(batch))]
