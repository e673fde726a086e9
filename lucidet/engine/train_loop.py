"""One training step: batch, losses, gradients, update. `SimpleTrainer.run_step` is the loop.

Names as `detectron2.engine.train_loop`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lucidet.engine.acceleration import CompiledParts, GraphedParts
from lucidet.engine.black_box import BlackBox
from lucidet.engine.loss_monitor import LossWatch, StepValues
from lucidet.engine.trainer_base import HookBase, TrainerBase
from lucidet.solver import check_optimizer_state, load_optimizer_state
from lucidet.utils import comm
from lucidet.utils.events import get_event_storage, has_event_storage
from lucidet.utils.logger import log_first_n

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]


class SimpleTrainer(TrainerBase):
    """Trains a model that returns a dict of losses, with one optimiser.

    Every process of a distributed run has one, around a `DistributedDataParallel` model.

    Args:
        model: in training mode ``model(batch)`` returns ``{name: scalar loss}`` (or one loss).
        data_loader: yields batches without end.
        optimizer: updates the model.
        gather_metric_period: losses are written every so many iterations, and then those of all
            iterations since. On a GPU writing waits for the device, so choose 20 there.
        zero_grad_before_forward: accepted from detectron2's callers; gradients are cleared before
            the forward pass in either case, which needs less memory.
        async_write_metrics: on a GPU, leave losses that have not arrived yet to the next time
            instead of waiting for them.
        accumulate: batches whose gradients are averaged for one update.
        output_dir: where a step whose loss or gradient is not finite is kept; None: not at all.
        compiled: parts of `model` that run compiled, or as CUDA graphs, in these steps.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
        *,
        accumulate: int = 1,
        output_dir: str | None = None,
        compiled: CompiledParts | GraphedParts | None = None,
    ) -> None:
        super().__init__()
        if gather_metric_period < 1 or accumulate < 1:
            raise ValueError(
                f"gather_metric_period and accumulate must be at least 1, got "
                f"{gather_metric_period} and {accumulate}"
            )
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self.accumulate = accumulate
        self.compiled = compiled
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self.black_box = BlackBox(output_dir, model, self.precision_context) if output_dir else None
        self._watch = LossWatch(self.black_box)
        self._finished: list[StepValues] = []  # checked, not yet written
        self._prefix = ""  # of the name of the total loss
        self._modules_with_metrics: list[nn.Module] | None = None

    def run_step(self) -> None:
        """One iteration: losses and gradients of its batches, then one update of the weights."""
        assert self.model.training, "the model must be in training mode; call model.train()"
        self.optimizer.zero_grad()
        batches: list[Any] = []
        means: dict[str, torch.Tensor] = {}
        data_time = 0.0
        for part in range(self.accumulate):
            asked = time.perf_counter()
            batch = self._next_batch()
            data_time += time.perf_counter() - asked
            batches.append(batch)
            if self.black_box and part == 0:
                self.black_box.before_step(self.iter)
            with self._gradient_exchange(last=part == self.accumulate - 1):
                with self.precision_context(), self._compiled_parts():
                    losses = self._losses(batches)
                self.backward(sum(losses.values()) / self.accumulate)
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss.detach() / self.accumulate
        self.after_backward()
        self._write_metrics(means, data_time, batch=batches)
        self.update_weights()

    # ------------------------------------------------------------------------ parts of a step

    def precision_context(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        return nullcontext()

    def backward(self, loss: Any) -> None:
        """Add the gradients of `loss`."""
        loss.backward()

    def update_weights(self) -> None:
        """Take one optimiser step."""
        self.optimizer.step()

    def _losses(self, batches: list[Any]) -> dict[str, torch.Tensor]:
        """Return the losses of the last batch; the step is kept where the model refuses it."""
        try:
            return _as_dict(self.model(batches[-1]))
        except ValueError as refused:
            if self.black_box is None:
                raise
            kept = self.black_box.write(self.iter, {}, batches)
            raise ValueError(f"{refused}.{kept}") from refused

    def _compiled_parts(self) -> AbstractContextManager[Any]:
        return self.compiled.in_use() if self.compiled else nullcontext()

    def _gradient_exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients once an update, with its last batch."""
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return nullcontext()

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        # made at its first use: worker processes start then, not before
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def _next_batch(self) -> Any:
        """Return the next batch; a loader that ends after a pass begins another."""
        try:
            return next(self._data_loader_iter)
        except StopIteration:
            self._data_loader_iter_obj = None
        try:
            batch = next(self._data_loader_iter)
        except StopIteration:
            raise ValueError(
                f"the data loader ({type(self.data_loader).__name__}) gives no batch: are there "
                "fewer images than a batch has?"
            ) from None
        log_first_n(logging.INFO, "the data loader ends after a pass: it begins again", 1)
        return batch

    def reset_data_loader(self, data_loader_builder: Any) -> None:
        """Replace the data loader by what ``data_loader_builder()`` returns."""
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    # ------------------------------------------------------------------------------- measures

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
        batch: Any = None,
    ) -> None:
        """Take the losses of a step in, check them, and write them if the period is over.

        A trainer with its own `run_step` calls this once a step.

        Raises:
            NonFiniteLossError: a loss of this step (on a GPU: of an earlier one) is not finite.
        """
        iteration = self.iter if iter is None else iter
        self._prefix = prefix
        losses = {prefix + name: value.detach() for name, value in loss_dict.items()}
        metrics = {"data_time": data_time, **self._model_metrics()}
        self._watch.add(iteration, losses, metrics, batch, self._checks())
        due = (iteration + 1) % self.gather_metric_period == 0 or iteration + 1 == self.max_iter
        wait = due and not (self.async_write_metrics and comm.get_world_size() == 1)
        self._finished += self._watch.collect(wait)
        if due:
            finished, self._finished = self._finished, []
            write_steps(finished, prefix)
        if has_event_storage() and comm.get_world_size() == 1:
            # a reader of a history gets the losses of all steps; several processes must gather
            get_event_storage().on_reading(None if due and wait else self.flush)

    def _checks(self) -> dict[str, torch.Tensor]:
        """Return what must be finite beside the losses: the largest gradient."""
        gradients = [
            p.grad for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        if not gradients:
            return {}
        return {"largest gradient": torch.nn.utils.get_total_norm(gradients, float("inf"))}

    def _model_metrics(self) -> dict[str, Any]:
        """Return what the model's modules have measured: the dicts named ``metrics``."""
        if self._modules_with_metrics is None:  # looked for once: R101 has 500 modules
            self._modules_with_metrics = [
                m for m in self.model.modules() if isinstance(getattr(m, "metrics", None), dict)
            ]
        found: dict[str, Any] = {}
        for module in self._modules_with_metrics:
            found.update(module.metrics)  # type: ignore[arg-type]
        return found

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Write losses (means over the processes) at once; this waits for the device.

        Raises:
            NonFiniteLossError: a loss is infinite or NaN.
        """
        watch = LossWatch()
        losses = {prefix + name: value.detach() for name, value in loss_dict.items()}
        watch.add(cur_iter, losses, {"data_time": data_time}, None)
        write_steps(watch.collect(wait=True), prefix)

    def settle(self) -> None:
        """Wait for the losses of all steps so far and check them."""
        self._finished += self._watch.collect(wait=True)

    def flush(self) -> None:
        """Write the losses of all steps so far; every process must call this."""
        self.settle()
        finished, self._finished = self._finished, []
        write_steps(finished, self._prefix)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def check_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raise ValueError where the optimizer's state in `state_dict` does not fit."""
        check_optimizer_state(self.optimizer, state_dict["optimizer"])

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.check_state_dict(state_dict)
        super().load_state_dict(state_dict)
        load_optimizer_state(self.optimizer, state_dict["optimizer"])


def _as_dict(losses: Any) -> dict[str, torch.Tensor]:
    return {"total_loss": losses} if isinstance(losses, torch.Tensor) else dict(losses)


def write_steps(steps: list[StepValues], prefix: str = "") -> None:
    """Put finished steps into the storage of the main process; every process must call this.

    Losses and metrics are means over the processes, the data time is that of the slowest, and
    ``total_loss`` is the sum of the losses.
    """
    everywhere = comm.gather(steps)
    if not comm.is_main_process():
        return
    storage = get_event_storage()
    for at_step in zip(*everywhere, strict=False):
        iteration = at_step[0].iteration
        data_times = [s.metrics.pop("data_time") for s in at_step if "data_time" in s.metrics]
        if data_times:
            storage.put_scalar("data_time", max(data_times), cur_iter=iteration)
        losses = _means([s.losses for s in at_step])
        for name, value in _means([s.metrics for s in at_step]).items():
            storage.put_scalar(name, value, cur_iter=iteration)
            storage.not_printed.add(name)
        storage.put_scalar(f"{prefix}total_loss", sum(losses.values()), cur_iter=iteration)
        if len(losses) > 1:
            for name, value in losses.items():
                storage.put_scalar(name, value, cur_iter=iteration)


def _means(dicts: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each name over the dicts that have it."""
    names = dict.fromkeys(name for d in dicts for name in d)
    return {name: fmean(d[name] for d in dicts if name in d) for name in names}


class AMPTrainer(SimpleTrainer):
    """A `SimpleTrainer` whose forward pass runs in 16 bits where that is safe (autocast).

    Args:
        model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward,
            async_write_metrics, accumulate, output_dir, compiled: as for `SimpleTrainer`.
        grad_scaler: keeps float16 gradients from vanishing; made if None. bfloat16 needs none.
        precision: ``torch.float16`` (GPUs) or ``torch.bfloat16`` (CPU, GPUs since 2020).
        log_grad_scaler: write its scale at every step (waits for the device).
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
        *,
        accumulate: int = 1,
        output_dir: str | None = None,
        compiled: CompiledParts | GraphedParts | None = None,
    ) -> None:
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
            accumulate=accumulate,
            output_dir=output_dir,
            compiled=compiled,
        )
        if precision not in (torch.float16, torch.bfloat16):
            raise ValueError(f"precision must be torch.float16 or torch.bfloat16, got {precision}")
        self.precision = precision
        self.device_type = next(model.parameters()).device.type
        if grad_scaler is None:
            scales = precision == torch.float16 and self.device_type == "cuda"
            grad_scaler = torch.amp.GradScaler(self.device_type, enabled=scales)
        self.grad_scaler = grad_scaler
        if self.black_box:
            self.black_box.dtype = str(precision).removeprefix("torch.")
        self.log_grad_scaler = log_grad_scaler

    def precision_context(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device_type, dtype=self.precision)

    def backward(self, loss: Any) -> None:
        self.grad_scaler.scale(loss).backward()

    def after_backward(self) -> None:
        # hooks and gradient clipping see the gradients themselves, not their multiples
        self.grad_scaler.unscale_(self.optimizer)
        super().after_backward()

    def update_weights(self) -> None:
        if self.log_grad_scaler:
            get_event_storage().put_scalar("grad_scaler", self.grad_scaler.get_scale())
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
