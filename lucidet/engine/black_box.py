"""What is kept of a step whose losses or gradients are not finite, so that it can be repeated.

`SimpleTrainer` has a `BlackBox`: it notes what a step begins with, and writes a folder

- ``step.pth``: weights, batch, random state, losses, iteration (also a checkpoint of the model);
- ``config.yaml``, where the trainer has one;
- ``trace.safetensors``, ``trace.json``: what every stage showed when the step was repeated;
- ``report.txt``: the first tensor that went bad, its image, and the weights' sizes.

``lucidet replay FOLDER`` runs the step again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lucidet.checkpoint.writing import plain, save_torch
from lucidet.engine.first_bad import explain, first_bad
from lucidet.engine.saved_batch import taken_apart
from lucidet.inspection.trace import Trace, watch
from lucidet.modeling.sampling import current_step_key, keyed_step
from lucidet.utils import comm

__all__ = ["BlackBox", "Moment", "Repetition", "repeat_step"]

#: bytes of one tensor that a trace keeps: a batch has many
LARGEST = 2 * 2**20


@dataclass
class Moment:
    """What a step begins with, beside the weights.

    Attributes:
        iteration: number of the step.
        key: (seed, step) of the sampling, see `lucidet.modeling.sampling.keyed_step`.
        generators: states of Python's, NumPy's and torch's generators.
        running: values of the model's one-number buffers, such as moving normalizers.
    """

    iteration: int
    key: tuple[int, int] | None = None
    generators: dict[str, Any] = field(default_factory=dict)
    running: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def now(model: nn.Module | None, iteration: int) -> Moment:
        """Return the present one."""
        generators: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            generators["cuda"] = torch.cuda.get_rng_state()
        running = {
            name: buffer.detach().clone()
            for name, buffer in (model.named_buffers() if model is not None else ())
            if buffer.numel() == 1 and buffer.is_floating_point()
        }
        return Moment(iteration, current_step_key(), generators, running)

    def set_generators(self) -> None:
        """Bring the generators back to these states."""
        version, numbers, gauss = self.generators["python"]
        random.setstate((version, tuple(numbers), gauss))
        name, numbers, *rest = self.generators["numpy"]
        np.random.set_state((name, np.asarray(numbers), *rest))
        torch.set_rng_state(self.generators["torch"])
        if "cuda" in self.generators and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.generators["cuda"])


@dataclass
class Repetition:
    """What a repeated step gave.

    Attributes:
        losses: means over the batches of the step.
        trace: what every stage showed.
        report: sentences; the first names the first tensor that went bad.
        error: what the model refused, or None.
    """

    losses: dict[str, Tensor]
    trace: Trace
    report: list[str]
    error: str | None = None


def repeat_step(
    model: nn.Module,
    batches: Sequence[Any],
    moment: Moment,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Repetition:
    """Compute the losses of a step once more; weights and generators are as before afterwards.

    Args:
        model: with the weights that the step began with; in training mode.
        batches: one for each backward pass of the step.
        moment: what the step began with.
        precision: makes the context of the forward pass.
    """
    present = Moment.now(model, moment.iteration)
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    _set_running(model, moment.running)
    moment.set_generators()
    losses: dict[str, Tensor] = {}
    report: list[str] = []
    error = None
    try:
        keyed = keyed_step(*moment.key) if moment.key else nullcontext()
        with keyed, watch(largest=LARGEST) as trace:
            for batch in batches:
                records = batch if isinstance(batch, list | tuple) else [batch]
                with first_bad(model, records) as found, precision():
                    result = model(batch)
                if isinstance(result, Tensor):
                    result = {"total_loss": result}
                for name, loss in result.items():
                    losses[name] = losses.get(name, 0) + loss.detach() / len(batches)
                if found or not report:
                    report = explain(found, records)
                if found:
                    break
    except (ValueError, FloatingPointError) as refused:
        error = str(refused)
        report = [f"the model refuses the batch: {refused}"]
    finally:
        present.set_generators()
        _set_running(model, buffers)
    return Repetition(losses, trace, report, error)


def _set_running(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Set buffers by name; moving averages that `values` lacks have not begun."""
    for name, module in model.named_modules():
        averages = getattr(module, "moving_averages", None)
        if averages:
            prefix = f"{name}." if name else ""
            module.moving_averages = frozenset(own for own in averages if prefix + own in values)
    own = dict(model.named_buffers())
    with torch.no_grad():
        for name, value in values.items():
            owner, _, last = name.rpartition(".")
            module = model.get_submodule(owner)
            if last in getattr(module, "moving_averages", ()) or name not in own:
                module.set_moving_average(last, float(value))  # type: ignore[operator]
            else:
                own[name].copy_(value)


class BlackBox:
    """Notes what each step begins with, and writes a folder for the one that went wrong.

    Args:
        folder: the run's output; the new folder is in it.
        model: whose steps these are; None: only the batch is kept.
        precision: makes the context of the forward pass.

    Attributes:
        config: text of the run's config, for ``config.yaml``.
        dtype: of autocast, such as "bfloat16", or "".
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        model: nn.Module | None = None,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.folder = Path(folder)
        self.model = getattr(model, "module", model)
        self.config = ""
        self.dtype = ""
        self._precision = precision
        self._moment: Moment | None = None

    def before_step(self, iteration: int) -> None:
        """Note what the step begins with."""
        self._moment = Moment.now(self.model, iteration)

    def write(self, iteration: int, losses: Mapping[str, float], batches: Any) -> str:
        """Write the folder of a step; return a sentence that says so, with what was found.

        Args:
            iteration: number of the step.
            losses: what it gave, by name.
            batches: a list with one batch for each backward pass, or one batch.
        """
        if not isinstance(batches, list) or any(isinstance(item, Mapping) for item in batches):
            batches = [batches]
        rank = f"_rank{comm.get_rank()}" if comm.get_world_size() > 1 else ""
        folder = self.folder / f"bad_step_iter{iteration}{rank}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return self._write(folder, iteration, losses, batches)
        except OSError as error:  # the loss matters more than this folder
            return f" (The batch could not be saved: {error}.)"

    def _write(
        self, folder: Path, iteration: int, losses: Mapping[str, float], batches: Sequence[Any]
    ) -> str:
        moment = self._moment or Moment.now(self.model, iteration)
        exact = moment.iteration == iteration  # on a GPU, later steps may have begun already
        state = dict(self.model.state_dict()) if self.model is not None else {}
        if exact:
            state |= {name: value for name, value in moment.running.items() if name in state}
        content = {
            "model": state,
            "batches": plain(list(batches), "batches", other=taken_apart),
            "losses": dict(losses),
            "iteration": iteration,
            "exact": exact,
            "key": moment.key,
            "generators": moment.generators,
            "running": moment.running,
            "autocast": self.dtype,
        }
        save_torch(content, folder / "step.pth")
        if self.config:
            (folder / "config.yaml").write_text(self.config, encoding="utf-8")
        said = f" The step is kept in {folder}; `lucidet replay {folder}` runs it again."
        if not exact:
            said += f" Its weights are those of iteration {moment.iteration}, which had begun."
        report = self._report(folder, moment, batches)
        text = [f"iteration {iteration}", *(f"{n} = {v:g}" for n, v in losses.items()), *report]
        (folder / "report.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
        return said + "".join(f" {line[0].upper()}{line[1:]}." for line in report[:1])

    def _report(self, folder: Path, moment: Moment, batches: Sequence[Any]) -> list[str]:
        if self.model is None or not batches:
            return []
        lines = []
        if comm.get_world_size() == 1:  # the other processes would have to take part
            try:
                repeated = repeat_step(self.model, batches, moment, self._precision)
                repeated.trace.save(folder / "trace")
                lines += repeated.report
            except Exception as error:  # the step's own error must not be hidden by this one
                lines.append(f"the step could not be repeated ({type(error).__name__}: {error})")
        largest = [
            (float(value.detach().abs().max()), name)
            for name, value in self.model.named_parameters()
            if value.numel()
        ]
        lines += [f"largest weight: {size:g} in {name}" for size, name in sorted(largest)[-1:]]
        return lines
