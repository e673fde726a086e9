"""Hooks that look at time and memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lucidet.engine.trainer_base import HookBase

logger = logging.getLogger(__name__)


class TorchProfiler(HookBase):
    """Records iterations with `torch.profiler`, for chrome://tracing and TensorBoard.

    >>> hook = TorchProfiler(lambda trainer: 10 < trainer.iter < 20, "output")

    Args:
        enable_predicate: says, given the trainer before an iteration, whether to record it.
        output_dir: a file ``profiler_iter{N}.json`` is written there (or ``log/`` for
            TensorBoard) for each recorded iteration.
        activities: as for `torch.profiler.profile`.
        save_tensorboard: write for TensorBoard.
    """

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        activities: Sequence[torch.profiler.ProfilerActivity] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._output_dir = output_dir
        self._activities = activities
        self._save_tensorboard = save_tensorboard
        self._profiler: Any = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        on_ready = None
        if self._save_tensorboard:
            folder = os.path.join(self._output_dir, "log")
            on_ready = torch.profiler.tensorboard_trace_handler(
                folder, f"profiler_iter{self.trainer.iter}"
            )
        self._profiler = torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_ready,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
        )
        self._profiler.__enter__()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        if not self._save_tensorboard:
            os.makedirs(self._output_dir, exist_ok=True)
            name = f"profiler_iter{self.trainer.iter}.json"
            self._profiler.export_chrome_trace(os.path.join(self._output_dir, name))
        self._profiler = None


class AutogradProfiler(TorchProfiler):
    """A `TorchProfiler` by detectron2's older name: CPU and, with `use_cuda`, GPU, as JSON.

    Args:
        enable_predicate, output_dir: as for `TorchProfiler`.
        use_cuda: record the GPU too, where there is one.
    """

    def __init__(
        self, enable_predicate: Callable[[Any], bool], output_dir: str, *, use_cuda: bool = True
    ) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if use_cuda and torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        super().__init__(
            enable_predicate, output_dir, activities=activities, save_tensorboard=False
        )


class TorchMemoryStats(HookBase):
    """Logs the GPU memory in use, every `period` iterations and at most `max_runs` times.

    Args:
        period: iterations.
        max_runs: lines in all.
    """

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._runs >= self._max_runs or not torch.cuda.is_available():
            return
        if done % self._period and done != self.trainer.max_iter:
            return
        self._runs += 1
        sizes = {
            "reserved": torch.cuda.memory_reserved(),
            "max reserved": torch.cuda.max_memory_reserved(),
            "allocated": torch.cuda.memory_allocated(),
            "max allocated": torch.cuda.max_memory_allocated(),
        }
        text = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in sizes.items())
        logger.info("iter: %d  GPU memory: %s", self.trainer.iter, text)
        torch.cuda.reset_peak_memory_stats()
