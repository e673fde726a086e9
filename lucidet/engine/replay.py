"""Run a step again that a training kept because it went wrong."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lucidet.checkpoint.reading import load_weights_file
from lucidet.config import get_cfg
from lucidet.engine.black_box import Moment, Repetition, repeat_step
from lucidet.engine.saved_batch import batch_of
from lucidet.engine.setup import on_available_device
from lucidet.modeling import build_model

__all__ = ["Replay", "replay_step"]


@dataclass
class Replay:
    """A kept step, and what it gave when it ran again.

    Attributes:
        iteration: number of the step.
        before: losses in the training, by name, with further numbers that were checked.
        exact: the kept weights are those that the step began with.
        repetition: losses, trace and report of now.
    """

    iteration: int
    before: dict[str, float]
    exact: bool
    repetition: Repetition

    @property
    def same(self) -> bool:
        """Whether all losses are the same to the bit, or the model refuses the batch again."""
        if not self.before:
            return self.repetition.error is not None
        return all(
            name in self.before and _same(self.before[name], value)
            for name, value in self.losses.items()
        ) and bool(self.losses)

    @property
    def losses(self) -> dict[str, float]:
        """The losses of now."""
        return {name: float(value) for name, value in self.repetition.losses.items()}

    def text(self) -> str:
        """Return a table of the losses then and now, and the report."""
        lines = [f"iteration {self.iteration}"]
        for name, value in self.losses.items():
            then = self.before.get(name, math.nan)
            lines.append(f"{name:24} {then:<16.9g} {value:<16.9g}")
        lines.append(
            "the same to the bit"
            if self.same
            else "NOT the same"
            + ("" if self.exact else ": the kept weights are those of a later iteration")
        )
        return "\n".join([*lines, *self.repetition.report])


def replay_step(folder: str | os.PathLike[str]) -> Replay:
    """Run the step in a folder ``bad_step_iter...`` again.

    Args:
        folder: holds ``step.pth`` and ``config.yaml``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: ``step.pth`` is no kept step, or does not fit the config.
    """
    path = Path(folder)
    content = load_weights_file(path / "step.pth")
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{path / 'config.yaml'} is missing: the model of the step is built from it. Trainers "
            "without a config write none; call lucidet.engine.black_box.repeat_step with the model"
        )
    cfg = get_cfg()
    cfg.merge_from_file(str(path / "config.yaml"))
    cfg = on_available_device(cfg)
    model = build_model(cfg)
    model.train()
    try:
        model.load_state_dict(content["model"])
        moment = Moment(
            int(content["iteration"]),
            None if content["key"] is None else tuple(content["key"]),
            content["generators"],
            {name: value.to(cfg.MODEL.DEVICE) for name, value in content["running"].items()},
        )
        batches = batch_of(content["batches"])
        before, exact, dtype = dict(content["losses"]), content["exact"], content["autocast"]
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path / 'step.pth'} is no kept step of this config: {error}") from error

    def precision() -> AbstractContextManager[Any]:
        if not dtype:
            return nullcontext()
        device = torch.device(cfg.MODEL.DEVICE).type
        return torch.autocast(device, dtype=getattr(torch, dtype))

    return Replay(moment.iteration, before, exact, repeat_step(model, batches, moment, precision))


def _same(one: float, two: float) -> bool:
    return one == two or (math.isnan(one) and math.isnan(two))
