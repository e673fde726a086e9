"""Hooks that look after weights and norm statistics: averages, precise batch norm."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lucidet.engine.hooks.resuming import find_order, go_to
from lucidet.engine.random_state import preserved_random_state
from lucidet.engine.trainer_base import HookBase
from lucidet.solver import ModelEMA

logger = logging.getLogger(__name__)


class EMAHook(HookBase):
    """Keeps an exponential moving average of the weights.

    The averages are in ``ema``; give that to the checkpointer as a checkpointable, and evaluate
    inside ``with ema.applied(model)``.

    Args:
        ema: the averages.
        model: whose weights are averaged.
    """

    def __init__(self, ema: ModelEMA, model: nn.Module) -> None:
        self.ema = ema
        self._model = model

    def before_train(self) -> None:
        if self.ema.updates == 0:  # made before weights were loaded: start from those
            fresh = ModelEMA(self._model, self.ema.decay)
            self.ema.load_state_dict(fresh.state_dict())

    def after_step(self) -> None:
        self.ema.update(self._model)


def norms_with_running_statistics(model: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    """Return the layers that normalise by the batch and track its mean and variance."""
    return [
        m
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats
    ]


class PreciseBN(HookBase):
    """Replaces running means and variances by true averages over `num_iter` batches.

    Running averages lag behind the weights; Wu and Johnson 2021 ("Rethinking Batch in BatchNorm"),
    section 3. Done every `period` iterations and after the last; must come before `EvalHook`.

    Args:
        period: iterations; 0: only at the end.
        model: layers in training mode with running statistics are updated.
        data_loader: yields training batches without end.
        num_iter: batches.
        seed: of the run, where the user has set it: it counts instead of a checkpoint's.
    """

    def __init__(
        self,
        period: int,
        model: nn.Module,
        data_loader: Iterable[Any],
        num_iter: int,
        seed: int | None = None,
    ) -> None:
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._batches: Iterator[Any] | None = None
        self._order, self._seed, self._used = find_order(data_loader), seed, 0
        self._disabled = not any(m.training for m in norms_with_running_statistics(model))
        if self._disabled:
            logger.info("PreciseBN is off: no layer has running statistics and trains")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        is_last = done == self.trainer.max_iter
        if is_last or (self._period > 0 and done % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Compute the averages now."""
        if self._disabled:
            return
        if self._batches is None:
            self._batches = iter(self._data_loader)
        layers = [m for m in norms_with_running_statistics(self._model) if m.training]
        logger.info("Running precise-BN for %d iterations", self._num_iter)
        update_norm_statistics(self._model, layers, itertools.islice(self._batches, self._num_iter))
        self._used += self._num_iter

    def state_dict(self) -> dict[str, Any]:
        if self._order is None or self._disabled:
            return {}
        return self._order.position(self._used * getattr(self._order, "total", 1))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue with the batches after those that an earlier run has used."""
        if self._order is not None:
            go_to(self._order, state_dict, self._seed)


@torch.no_grad()
def update_norm_statistics(
    model: nn.Module, layers: list[nn.modules.batchnorm._NormBase], batches: Iterable[Any]
) -> None:
    """Set the running statistics of `layers` to their averages over `batches`.

    The variance of all data is the mean of the batches' variances plus the variance of their
    means.
    """
    momenta = [layer.momentum for layer in layers]
    means = [torch.zeros_like(_buffer(layer.running_mean)) for layer in layers]
    squares = [torch.zeros_like(mean) for mean in means]  # sums of E[x^2]
    count = 0
    try:
        for layer in layers:
            layer.momentum = 1.0  # running statistics become those of the batch
        for batch in batches:
            with preserved_random_state():
                model(batch)
            count += 1
            for layer, mean, square in zip(layers, means, squares, strict=True):
                batch_mean = _buffer(layer.running_mean)
                mean += batch_mean
                square += _buffer(layer.running_var) + batch_mean.square()
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    for layer, mean, square in zip(layers, means, squares, strict=True):
        if count:
            _buffer(layer.running_mean).copy_(mean / count)
            _buffer(layer.running_var).copy_(square / count - (mean / count).square())


def _buffer(value: torch.Tensor | None) -> torch.Tensor:
    assert value is not None
    return value
