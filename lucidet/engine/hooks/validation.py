"""The hook that computes losses on data that the model does not train on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lucidet.checkpoint.checkpointer import unwrap
from lucidet.engine.random_state import preserved_random_state
from lucidet.engine.trainer_base import HookBase
from lucidet.utils import comm

# layers that behave differently in training; for a validation they do as in inference
_TWO_FACED = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Run the block, then put back every module's mode, buffers and own attributes."""
    before = []
    for module in model.modules():
        own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        own = {k: _copy(v) for k, v in own.items()}
        buffers = {k: v.clone() for k, v in module._buffers.items() if v is not None}
        before.append((module, own, buffers))
    try:
        yield
    finally:
        with torch.no_grad():
            for module, own, buffers in before:
                vars(module).update(own)
                for name, value in buffers.items():
                    module._buffers[name].copy_(value)  # type: ignore[union-attr]


def _copy(value: Any) -> Any:
    """Copy what modules keep count in: tensors, and dicts such as ``metrics``."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return dict(value) if type(value) is dict else value


class ValidationLoss(HookBase):
    """Computes the training losses on other data, without a trace in the training.

    The model is in training mode, for it to compute losses, but its batch-norm and dropout
    layers are in the mode of inference. Neither gradients, nor statistics, nor random states
    change. Sampling draws the same random numbers every time, so values can be compared.

    Written: ``validation/{name}`` for each loss and ``validation/total_loss``, means over images.

    Args:
        period: iterations; 0: only at the end.
        model: returns a dict of losses in training mode.
        data_loader: finite, of known length, yields lists of records with annotations; in a
            distributed run this process's share.
    """

    repeated_on_resume = True

    def __init__(self, period: int, model: nn.Module, data_loader: Any) -> None:
        self._period = period
        self._model = unwrap(model)
        self._data_loader = data_loader

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        is_last = done == self.trainer.max_iter
        if is_last or (self._period > 0 and done % self._period == 0):
            self.compute()

    def compute(self) -> None:
        """Compute and write the losses now; every process must call this."""
        with preserved_random_state(seed=0), unchanged(self._model), torch.no_grad():
            for layer in self._model.modules():
                if isinstance(layer, _TWO_FACED):
                    layer.eval()
            sums, images = self._sums()
        everywhere = comm.gather((sums, images))
        total = sum(count for _, count in everywhere)
        if not total:
            return
        names = dict.fromkeys(name for others, _ in everywhere for name in others)
        losses = {n: sum(others.get(n, 0.0) for others, _ in everywhere) / total for n in names}
        losses["total_loss"] = sum(losses.values())
        for name, value in losses.items():
            self.trainer.storage.put_scalar(f"validation/{name}", value, smoothing_hint=False)
        self.trainer.storage.note_evaluation()

    def _sums(self) -> tuple[dict[str, float], int]:
        """Return name -> sum over this process's images, and their number.

        Losses may be normalised over all processes, so each must run the model equally often:
        a process with fewer batches repeats its last one, which is not counted.
        """
        batches = comm.all_gather(len(self._data_loader))
        if len(batches) > 1 and min(batches) == 0:
            raise ValueError(
                f"validation loss: the data set has fewer images than there are processes "
                f"({len(batches)}); use a larger one or set TEST.VAL_LOSS False"
            )
        sums: defaultdict[str, Any] = defaultdict(float)
        images = 0
        batch: Any = None
        loader = iter(self._data_loader)
        for _ in range(max(batches)):
            new = next(loader, None)
            batch = batch if new is None else new
            losses = self._model(batch)
            if new is not None:
                images += len(batch)
                for name, loss in losses.items():
                    sums[name] += loss * len(batch)
        return {name: float(value) for name, value in sums.items()}, images
