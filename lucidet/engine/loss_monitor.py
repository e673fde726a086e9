"""Watch that losses and gradients stay finite, without making the GPU wait, and keep the step.

On the CPU every step is checked before its gradients are computed. On a GPU the values travel to
the host while the next steps are queued: a bad loss is found as soon as its copy has arrived,
usually a step or two later, and at the latest when losses are written or a checkpoint is due.
Until then its batch (kept on the host by reference) is remembered, so the error names the right
one; and no checkpoint is written before all its steps were found good.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lucidet.engine.black_box import BlackBox
from lucidet.engine.odd_input import describe_images, odd_input

# steps whose values may be under way at once; more would keep too many batches alive
MAX_UNDER_WAY = 16


class NonFiniteLossError(FloatingPointError):
    """A loss or gradient was infinite or NaN; ``batch`` is what caused it, ``iteration`` when."""

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
    check_names: list[str]  # checked, not written
    metric_names: list[str]  # of those metrics that are on the device
    values: torch.Tensor  # one for each name, on the host, maybe not there yet
    numbers: dict[str, float]  # metrics that never were on the device
    arrived: torch.cuda.Event | None
    batch: Any


class LossWatch:
    """Takes the losses of each step in as tensors and gives them out as numbers, checked.

    Args:
        black_box: keeps the step of a bad loss; None: its batch is only in the error.
    """

    def __init__(self, black_box: BlackBox | None = None) -> None:
        self.black_box = black_box
        self._under_way: deque[_UnderWay] = deque()

    def add(
        self,
        iteration: int,
        losses: Mapping[str, torch.Tensor],
        metrics: Mapping[str, float | torch.Tensor],
        batch: Any,
        checks: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Take in one step; nothing is waited for.

        Args:
            iteration: number of the step.
            losses: scalars, checked and given out.
            metrics: scalars, given out.
            batch: of the step.
            checks: further scalars, checked only.
        """
        checks = checks or {}
        on_device = {k: v for k, v in metrics.items() if _is_remote(v)}
        numbers = {k: float(v) for k, v in metrics.items() if k not in on_device}
        tensors: list[Any] = [*losses.values(), *checks.values(), *on_device.values()]
        scalars = [value.detach().float().reshape(()) for value in tensors]
        values = torch.stack(scalars) if scalars else torch.zeros(0)
        arrived = None
        if values.device.type == "cuda":
            values = values.to("cpu", non_blocking=True)  # torch takes pinned memory for this
            arrived = torch.cuda.Event()
            arrived.record()
        self._under_way.append(
            _UnderWay(
                iteration,
                list(losses),
                list(checks),
                list(on_device),
                values,
                numbers,
                arrived,
                batch,
            )
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
            numbers = iter(step.values.tolist())
            losses, checks, metrics = (
                dict(zip(names, numbers, strict=False))
                for names in (step.loss_names, step.check_names, step.metric_names)
            )
            self._check(step, losses | checks)
            done.append(StepValues(step.iteration, losses, metrics | step.numbers))
        return done

    def _is_there(self) -> bool:
        if len(self._under_way) > MAX_UNDER_WAY:
            return True
        step = self._under_way[0]
        if step.arrived is not None:
            return step.arrived.query()
        return step.values.device.type == "cpu"

    def _check(self, step: _UnderWay, values: Mapping[str, float]) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        self._under_way.clear()
        kept = self.black_box.write(step.iteration, values, step.batch) if self.black_box else ""
        terms = ", ".join(f"{name}={value:g}" for name, value in values.items())
        images = ", ".join(describe_images(step.batch)) or "unknown"
        odd = odd_input(step.batch)
        cause = (
            f"Odd input: {'; '.join(odd)}. Repair it; if it is not the cause"
            if odd
            else "No degenerate box and no pixel that is not finite was found in them"
        )
        raise NonFiniteLossError(
            f"{bad[0]} is {values[bad[0]]:g} at iteration {step.iteration} ({terms}). "
            f"Images of the batch: {images}.{kept} {cause}: lower SOLVER.BASE_LR, lengthen "
            f"SOLVER.WARMUP_ITERS or set SOLVER.CLIP_GRADIENTS.ENABLED True",
            step.batch,
            step.iteration,
        )


def _is_remote(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


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
