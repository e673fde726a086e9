"""Writers of a run's measurements: console line, metrics.json, TensorBoard, live progress bar.

Names as `detectron2.utils.events`. A writer is called every few iterations and reads the current
`EventStorage`.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from lucidet.utils.event_storage import (
    CLOCK,
    EventStorage,
    HistoryBuffer,
    get_event_storage,
    has_event_storage,
)

__all__ = [
    "get_event_storage",
    "has_event_storage",
    "EventStorage",
    "HistoryBuffer",
    "EventWriter",
    "JSONWriter",
    "TensorboardXWriter",
    "CommonMetricPrinter",
    "ProgressWriter",
]


class EventWriter:
    """Writes what is new in the current `EventStorage` to one place."""

    def write(self) -> None:
        """Write what came since the last call."""
        raise NotImplementedError

    def resume(self, iteration: int) -> None:
        """Take back what an interrupted run has written for `iteration` and later ones."""

    def write_between(self) -> None:
        """Show something, as `write` was not called for some seconds; only consoles do."""

    def close(self) -> None:
        """Finish; nothing is written afterwards."""


class JSONWriter(EventWriter):
    """Writes scalars to a file, one JSON object a line.

    Each line holds the values of one iteration and its number as ``iteration``; the file is
    appended to, so a resumed run continues it. Read with
    ``[json.loads(line) for line in open("metrics.json")]``.

    Args:
        json_file: path of the file.
        window_size: iterations over which noisy values are taken as their median.
    """

    def __init__(self, json_file: str | os.PathLike[str], window_size: int = 20) -> None:
        self._path = path = Path(json_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        storage = get_event_storage()
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, at) in storage.latest_with_smoothing_hint(self._window_size).items():
            if at > self._last_write:
                lines[at][name] = value
        for at in sorted(lines):
            self._file.write(json.dumps({**lines[at], "iteration": at}, sort_keys=True) + "\n")
        if lines:
            self._last_write = max(lines)
            self._file.flush()

    def resume(self, iteration: int) -> None:
        """Remove the lines of `iteration` and later ones, and a line that was cut off."""
        self._file.close()
        kept, last = [], -1
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                at = json.loads(line)["iteration"]
            except (ValueError, KeyError, TypeError):
                continue
            if at < iteration:
                kept.append(line + "\n")
                last = max(last, at)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        os.replace(temporary, self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._last_write = last

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars, images and histograms for TensorBoard.

    Args:
        log_dir: folder of the event files.
        window_size: iterations over which noisy values are taken as their median.
        kwargs: for `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str], window_size: int = 20, **kwargs: Any
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._make = lambda **more: SummaryWriter(str(log_dir), **kwargs, **more)
        self._writer = self._make()
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        storage = get_event_storage()
        newest = self._last_write
        for name, (value, at) in storage.latest_with_smoothing_hint(self._window_size).items():
            if at > self._last_write:
                self._writer.add_scalar(name, value, at)
                newest = max(newest, at)
        self._last_write = newest
        for name, image, at in storage._vis_data:
            self._writer.add_image(name, image, at)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def resume(self, iteration: int) -> None:
        """Let TensorBoard hide what was written for `iteration` and later ones."""
        self._writer.close()
        self._writer = self._make(purge_step=iteration)

    def close(self) -> None:
        self._writer.close()


def _number(value: float) -> str:
    """Three decimals, or three digits where those would show 0."""
    return f"{value:.3f}" if value == 0 or not abs(value) < 5e-4 else f"{value:.2e}"


def _losses(storage: EventStorage, window_size: int) -> dict[str, float]:
    """Return name -> median of every loss, validation losses too, `total_loss` first."""
    losses = {
        name: history.median(storage.count_samples(name, window_size))
        for name, history in storage.histories().items()
        if "loss" in name
    }
    return dict(sorted(losses.items(), key=lambda item: item[0] != "total_loss"))


def _others(storage: EventStorage, window_size: int) -> dict[str, float]:
    """Return name -> value of scalars of user code: no losses, no clocks, new since the last line.

    Noisy ones are shown by their median, as losses are.
    """
    latest = storage.latest_with_smoothing_hint(window_size)
    return {
        name: value
        for name, (value, at) in latest.items()
        if "loss" not in name
        and name not in (*CLOCK, "lr")
        and name not in storage.not_printed
        and at > storage.iter - window_size
    }


def _average(storage: EventStorage, name: str, window_size: int) -> float | None:
    if name not in storage.histories():
        return None
    return storage.histories()[name].avg(storage.count_samples(name, window_size))


class _Eta:
    """Estimates the seconds left from the mean time of an iteration."""

    def __init__(self, max_iter: int | None) -> None:
        self._max_iter = max_iter
        self._last: tuple[int, float] | None = None  # (iteration, clock) of the last call

    def seconds(self, storage: EventStorage) -> float | None:
        """Return the seconds left after the current iteration, None where nothing tells."""
        if self._max_iter is None:
            return None
        left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            return storage.histories()["time"].global_avg() * left
        # nobody measures: take the time that went by between two calls
        last, self._last = self._last, (storage.iter, time.perf_counter())
        if last is None or last[0] == storage.iter:
            return None
        return (self._last[1] - last[1]) / (storage.iter - last[0]) * left


class CommonMetricPrinter(EventWriter):
    """Logs one line: time left, iteration, losses, seconds an iteration, learning rate, memory.

    Values are medians (losses) or means (times, in seconds) over a window. Anything put into the
    storage with "loss" in its name is shown, so validation losses are too, and the scalars of user
    code that are new since the last line. After the last iteration nothing is logged.

    Args:
        max_iter: iterations of the whole run, for the time left; None: that is not shown.
        window_size: iterations of the window.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("lucidet.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._eta = _Eta(max_iter)

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return
        self.logger.info(self.line(storage))

    def write_between(self) -> None:
        self.write()

    def line(self, storage: EventStorage) -> str:
        """Return the line for the storage's current iteration."""
        parts: list[str] = []
        seconds = self._eta.seconds(storage)
        if seconds is not None:
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            parts.append(f"eta: {datetime.timedelta(seconds=int(seconds))}")
        parts.append(f"iter: {storage.iter}")
        losses = _losses(storage, self._window_size)
        losses |= _others(storage, self._window_size)
        parts += [f"{name}: {_number(value)}" for name, value in losses.items()]
        for name in ("time", "data_time"):
            average = _average(storage, name, self._window_size)
            if average is not None:
                parts.append(f"{name}: {average:.4f}")
        if "lr" in storage.histories():
            lr = storage.histories()["lr"].latest()
            # six decimals would show small rates as 0
            parts.append(f"lr: {lr:.6f}" if lr == 0 or lr >= 1e-5 else f"lr: {lr:.2e}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        return "  ".join(parts)


class ProgressWriter(EventWriter):
    """A live progress bar with the losses, for terminals.

    `write` may be called after every iteration: it costs a few microseconds, the screen is drawn
    ten times a second at most. Log lines appear above the bar. Where standard output is not a
    terminal (`available()` is false) nothing is drawn.

    Args:
        max_iter: iterations of the whole run.
        window_size: iterations over which losses are taken as their median.
        refresh_seconds: least time between two updates.
    """

    def __init__(self, max_iter: int, window_size: int = 20, refresh_seconds: float = 0.1) -> None:
        self._max_iter = max_iter
        self._window_size = window_size
        self._refresh_seconds = refresh_seconds
        self._next_update = 0.0
        self._progress: Any = None
        self._task: Any = None

    @staticmethod
    def available() -> bool:
        """Return whether standard output is a terminal."""
        return sys.stdout.isatty()

    def _start(self, done: int) -> None:
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("train"),
            progress.BarColumn(bar_width=None),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("eta"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[losses]}"),
        )
        self._task = self._progress.add_task("train", total=self._max_iter, losses="")
        # a resumed run starts where it stopped; those iterations must not count for the speed
        self._progress.update(self._task, completed=done)
        self._progress.start()

    def write(self) -> None:
        if not self.available() and self._progress is None:
            return
        storage = get_event_storage()
        if self._progress is None:
            self._start(storage.iter)
        done = min(storage.iter + 1, self._max_iter)
        now = time.monotonic()
        if now < self._next_update and done < self._max_iter:
            return
        self._next_update = now + self._refresh_seconds
        losses = _losses(storage, self._window_size)
        shown = "  ".join(f"{name} {_number(value)}" for name, value in list(losses.items())[:3])
        self._progress.update(self._task, completed=done, losses=shown)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
