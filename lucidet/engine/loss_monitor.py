"""Watch that losses stay finite, without making the GPU wait, and keep the batch that broke them.

On the CPU every step is checked before its gradients are computed. On a GPU the values travel to
the host while the next steps are queued: a bad loss is found as soon as its copy has arrived,
usually a step or two later, and at the latest when losses are written or a checkpoint is due.
Until then its batch (kept on the host by reference) is remembered, so the error names the right
one; and no checkpoint is written before all its steps were found good.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lucidet.checkpoint.writing import plain, save_torch
from lucidet.engine.odd_input import describe_images, odd_input

# steps whose values may be under way at once; more would keep too many batches alive
MAX_UNDER_WAY = 16


class NonFiniteLossError(FloatingPointError):
    """A loss was infinite or NaN. ``batch`` is what caused it, ``iteration`` when."""

    def __init__(self, message: str, batch: Any, iteration: int) -> None:
        super().__init__(message)
        self.batch = batch
        self.iteration = iteration


@dataclass
class StepValues:
    """What one finished step measured: plain numbers by name, losses apart from the rest."""

    iteration: int
    losses: dict[str, float]
    metrics: dict[str, float]


@dataclass
class _UnderWay:
    iteration: int
    loss_names: list[str]
    metric_names: list[str]  # of those metrics that are on the device
    values: torch.Tensor  # (len(loss_names) + len(metric_names),) on the host, maybe not there yet
    numbers: dict[str, float]  # metrics that never were on the device
    arrived: torch.cuda.Event | None
    batch: Any


class LossWatch:
    """Takes the losses of each step in as tensors and gives them out as numbers, checked.

    Args:
        output_dir: where the batch of a bad loss is saved; None: it is only in the error.
    """

    def __init__(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        self.output_dir = output_dir
        self._under_way: deque[_UnderWay] = deque()

    def add(
        self,
        iteration: int,
        losses: Mapping[str, torch.Tensor],
        metrics: Mapping[str, float | torch.Tensor],
        batch: Any,
    ) -> None:
        """Take in one step; nothing is waited for."""
        on_device = {k: v for k, v in metrics.items() if _is_remote(v)}
        numbers = {k: float(v) for k, v in metrics.items() if k not in on_device}
        tensors: list[Any] = [*losses.values(), *on_device.values()]
        scalars = [value.detach().float().reshape(()) for value in tensors]
        values = torch.stack(scalars) if scalars else torch.zeros(0)
        arrived = None
        if values.device.type == "cuda":
            values = values.to("cpu", non_blocking=True)  # torch takes pinned memory for this
            arrived = torch.cuda.Event()
            arrived.record()
        self._under_way.append(
            _UnderWay(iteration, list(losses), list(on_device), values, numbers, arrived, batch)
        )

    def collect(self, wait: bool) -> list[StepValues]:
        """Return the steps whose values are there, oldest first, each once.

        Args:
            wait: for all of them; else only take what has arrived.

        Raises:
            NonFiniteLossError: a loss is infinite or NaN; its batch has been saved.
        """
        done = []
        while self._under_way and (wait or self._is_there()):
            step = self._under_way.popleft()
            if step.arrived is not None:
                step.arrived.synchronize()
            numbers = step.values.tolist()
            names = len(step.loss_names)
            losses = dict(zip(step.loss_names, numbers[:names], strict=True))
            self._check(step, losses)
            metrics = dict(zip(step.metric_names, numbers[names:], strict=True))
            done.append(StepValues(step.iteration, losses, metrics | step.numbers))
        return done

    def _is_there(self) -> bool:
        if len(self._under_way) > MAX_UNDER_WAY:
            return True
        step = self._under_way[0]
        if step.arrived is not None:
            return step.arrived.query()
        return step.values.device.type == "cpu"

    def _check(self, step: _UnderWay, losses: Mapping[str, float]) -> None:
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if not bad:
            return
        self._under_way.clear()
        saved = self._save(step)
        terms = ", ".join(f"{name}={value:g}" for name, value in losses.items())
        images = ", ".join(describe_images(step.batch)) or "unknown"
        odd = odd_input(step.batch)
        cause = (
            f"Odd input: {'; '.join(odd)}. Repair it; if it is not the cause"
            if odd
            else "No degenerate box and no pixel that is not finite was found in them"
        )
        raise NonFiniteLossError(
            f"{bad[0]} is {losses[bad[0]]:g} at iteration {step.iteration} ({terms}). "
            f"Images of the batch: {images}.{saved} {cause}: lower SOLVER.BASE_LR, lengthen "
            f"SOLVER.WARMUP_ITERS or set SOLVER.CLIP_GRADIENTS.ENABLED True",
            step.batch,
            step.iteration,
        )

    def _save(self, step: _UnderWay) -> str:
        if self.output_dir is None:
            return ""
        path = Path(self.output_dir) / f"nonfinite_batch_iter{step.iteration}.pth"
        try:
            save_batch(step.batch, path)
        except OSError as error:  # the message below matters more than this file
            return f" (The batch could not be saved: {error}.)"
        return f" The batch is saved in {path}."


def _is_remote(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


def save_batch(batch: Any, path: str | os.PathLike[str]) -> None:
    """Save a batch as tensors and plain containers, loadable with ``weights_only=True``.

    `Instances` become ``{"image_size": (h, w), "fields": {name: value}}``, boxes their tensor,
    and what else there is the text of its repr.
    """
    save_torch({"batch": plain(batch, "batch", other=_taken_apart)}, path)


def _taken_apart(value: Any, where: str) -> Any:
    if hasattr(value, "get_fields") and hasattr(value, "image_size"):
        parts = {"image_size": tuple(value.image_size), "fields": value.get_fields()}
        return plain(parts, where, other=_taken_apart)
    if isinstance(getattr(value, "tensor", None), torch.Tensor):
        return value.tensor.detach()
    return repr(value)


def require_finite_weights(model: nn.Module) -> None:
    """Check a model before it is saved; this reads every parameter and waits for the device.

    Raises:
        FloatingPointError: a parameter is not finite; the first one is named.
    """
    named = [(n, p.detach()) for n, p in model.named_parameters() if p.is_floating_point()]
    if not named:
        return
    flags = torch.stack([p.isfinite().all() for _, p in named]).tolist()
    bad = [name for (name, _), good in zip(named, flags, strict=True) if not good]
    if bad:
        raise FloatingPointError(
            f"{len(bad)} parameters are not finite, first {bad[0]!r}: the checkpoint is not "
            f"written and the last good one stays. Lower SOLVER.BASE_LR or set "
            f"SOLVER.CLIP_GRADIENTS.ENABLED True, and go on with --resume"
        )
