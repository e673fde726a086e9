"""What a training run measures: named scalars with their history, images and histograms.

Public from `lucidet.utils.events`, beside the writers that read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean, median
from typing import Any

import torch

#: iterations whose values a checkpoint holds, for the windows of writers
RESUMED_WINDOW = 100
#: of the machine, not of the training: a resumed run measures its own
CLOCK = ("time", "data_time", "eta_seconds")

_storages: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """Return the storage of the innermost ``with EventStorage(...)`` block.

    Raises:
        RuntimeError: there is none.
    """
    if not _storages:
        raise RuntimeError(
            "there is no EventStorage here: wrap the code in `with EventStorage(start_iter):`, "
            "as the trainer does"
        )
    return _storages[-1]


def has_event_storage() -> bool:
    """Return whether the code runs inside a ``with EventStorage(...)`` block."""
    return bool(_storages)


class HistoryBuffer:
    """The last `max_length` values of one scalar, and the mean of all that ever came.

    >>> history = HistoryBuffer()
    >>> for value in (4.0, 1.0, 2.0): history.update(value)
    >>> history.latest(), history.median(3), history.avg(2), history.global_avg()
    (2.0, 2.0, 1.5, 2.3333333333333335)
    """

    def __init__(self, max_length: int = 1_000_000) -> None:
        self._data: deque[tuple[float, float]] = deque(maxlen=max_length)
        self._count = 0
        self._sum = 0.0

    def update(self, value: float, iteration: float | None = None) -> None:
        """Add `value`, produced at `iteration` (default: one per update, from 0)."""
        self._data.append((value, self._count if iteration is None else iteration))
        self._count += 1
        self._sum += value

    def drop_newest(self) -> None:
        """Forget the value added last."""
        value, _ = self._data.pop()
        self._count -= 1
        self._sum -= value

    def _last(self, window_size: int) -> list[float]:
        window_size = min(window_size, len(self._data))
        return [self._data[-i][0] for i in range(1, window_size + 1)]

    def latest(self) -> float:
        """Return the value added last; IndexError where there is none."""
        return self._data[-1][0]

    def median(self, window_size: int) -> float:
        """Return the median of the last `window_size` values, nan of none."""
        return median(self._last(window_size) or [float("nan")])

    def avg(self, window_size: int) -> float:
        """Return the mean of the last `window_size` values, nan of none."""
        return fmean(self._last(window_size) or [float("nan")])

    def global_avg(self) -> float:
        """Return the mean of all values, those no longer kept included; nan of none."""
        return self._sum / self._count if self._count else float("nan")

    def values(self) -> list[tuple[float, float]]:
        """Return the kept values as (value, iteration), oldest first."""
        return list(self._data)

    def count_since(self, iteration: float) -> int:
        """Return how many of the newest values in a row came after `iteration`."""
        count = 0
        for _, at in reversed(self._data):
            if at <= iteration:
                break
            count += 1
        return count

    def __len__(self) -> int:
        return len(self._data)


class EventStorage:
    """Collects the values of a run; reachable by `get_event_storage` inside its ``with`` block.

    >>> with EventStorage(start_iter=5) as storage:
    ...     get_event_storage().put_scalar("loss_cls", 0.5)
    ...     storage.step()
    >>> storage.latest(), storage.iter
    ({'loss_cls': (0.5, 5)}, 6)

    Args:
        start_iter: number of the first iteration.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self._iter = start_iter
        self._history: dict[str, HistoryBuffer] = {}
        self._smoothing_hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._current_prefix = ""
        self._restored: dict[str, int] = {}  # name -> iteration of its newest restored value
        self.evaluated_at = -1  # the last iteration with an evaluation
        # what the writers of pictures have not yet taken: (name, data, iteration)
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []
        self._write_late: Callable[[], None] | None = None
        #: many, and in the files: the line on the console leaves them out
        self.not_printed: set[str] = set()

    # ------------------------------------------------------------------------------ writing

    def put_scalar(
        self,
        name: str,
        value: float | torch.Tensor,
        smoothing_hint: bool = True,
        cur_iter: int | None = None,
    ) -> None:
        """Add a value of the scalar `name`.

        Args:
            name: joined to the current `name_scope`.
            value: a number or a tensor of one element (copied from its device).
            smoothing_hint: the value is noisy, so writers should show its median over a window;
                must stay the same for one name.
            cur_iter: iteration it belongs to, the storage's by default.

        Raises:
            ValueError: the hint differs from that of earlier values.
        """
        name = self._current_prefix + name
        at = self._iter if cur_iter is None else cur_iter
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise ValueError(
                f"scalar {name!r} was put with smoothing_hint={not smoothing_hint} before, "
                f"now with {smoothing_hint}; keep one of them"
            )
        number = float(value)
        history = self._history.setdefault(name, HistoryBuffer())
        if self._restored.pop(name, None) == at:  # measured again, after a resume
            history.drop_newest()
        history.update(number, at)
        self._latest[name] = (number, at)

    def put_scalars(
        self,
        *,
        smoothing_hint: bool = True,
        cur_iter: int | None = None,
        **kwargs: float | torch.Tensor,
    ) -> None:
        """Add several scalars by keyword: ``put_scalars(loss=my_loss, accuracy=0.5)``."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Add a picture: (3, H, W) RGB, uint8 in 0..255 or float in 0..1; kept until written."""
        self._vis_data.append((self._current_prefix + img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Add the histogram of a tensor's values in `bins` bins; kept until written."""
        values = hist_tensor.detach().float().flatten().cpu()
        if values.numel() == 0:
            raise ValueError(f"histogram {hist_name!r} of an empty tensor")
        low, high = values.min().item(), values.max().item()
        counts = torch.histc(values, bins=bins)
        edges = torch.linspace(low, high, bins + 1)
        self._histograms.append(
            {
                "tag": self._current_prefix + hist_name,
                "min": low,
                "max": high,
                "num": values.numel(),
                "sum": values.sum().item(),
                "sum_squares": values.square().sum().item(),
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": counts.tolist(),
                "global_step": self._iter,
            }
        )

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before every name inside the block."""
        outside = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outside

    def step(self) -> None:
        """Go on to the next iteration."""
        self._iter += 1

    def clear_images(self) -> None:
        """Forget the pictures; called by a writer that has written them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Forget the histograms; called by a writer that has written them."""
        self._histograms = []

    # ------------------------------------------------------------------------------ resuming

    def state_dict(self, window: int = RESUMED_WINDOW) -> dict[str, Any]:
        """Return the values of the last `window` iterations, as plain numbers."""
        since = self._iter - window
        return {
            name: {
                "smooth": self._smoothing_hints[name],
                "values": history.values()[-history.count_since(since) :],
            }
            for name, history in self._history.items()
            if history.count_since(since) and name not in CLOCK
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the values of a `state_dict` before those that come: windows reach back to them."""
        for name, saved in state.items():
            for value, at in saved["values"]:
                self._smoothing_hints[name] = bool(saved["smooth"])
                self._history.setdefault(name, HistoryBuffer()).update(value, at)
                self._latest[name] = (value, at)
            self._restored[name] = self._latest[name][1]

    def note_evaluation(self) -> None:
        """Ask the writers to write at this iteration, whatever their period."""
        self.evaluated_at = self._iter

    # ------------------------------------------------------------------------------ reading

    def on_reading(self, write_late: Callable[[], None] | None) -> None:
        """Let `write_late` put what is still on a device before a history is read; None: nothing.

        Args:
            write_late: called once, without arguments.
        """
        self._write_late = write_late

    def history(self, name: str) -> HistoryBuffer:
        """Return the history of the scalar `name`; KeyError where it was never put.

        Losses of a GPU that have not been written yet are waited for.
        """
        write_late, self._write_late = self._write_late, None
        if write_late is not None:
            write_late()
        if name not in self._history:
            raise KeyError(f"no scalar {name!r} was put; there are {sorted(self._history)}")
        return self._history[name]

    def histories(self) -> Mapping[str, HistoryBuffer]:
        """Return name -> history of every scalar, in order of first appearance."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return name -> (newest value, its iteration)."""
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As `latest`, with the median of a window in place of values that are noisy.

        Args:
            window_size: iterations over which the median is taken.
        """
        return {
            name: (
                self._history[name].median(self.count_samples(name, window_size))
                if self._smoothing_hints[name]
                else value,
                at,
            )
            for name, (value, at) in self._latest.items()
        }

    def smoothing_hints(self) -> dict[str, bool]:
        """Return name -> whether its values are noisy."""
        return self._smoothing_hints

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Return how many values of `name` came in the `window_size` iterations up to its newest.

        A scalar that is put every iteration gives `window_size`, one put every 10th a tenth of it.
        """
        newest = self._latest[name][1]
        return self.history(name).count_since(newest - window_size)

    @property
    def iter(self) -> int:
        """Number of the current iteration; inside a step the one that is being computed."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """The same as `iter`."""
        return self._iter

    def __enter__(self) -> EventStorage:
        _storages.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        popped = _storages.pop()
        assert popped is self
