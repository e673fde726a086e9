"""A process that froze: the others notice after a limited time, and say which one it is."""

from __future__ import annotations

import os
import re
import time
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from lucidet.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "FrozenProcessError", "chosen_timeout", "explained_wait"]

DEFAULT_TIMEOUT = timedelta(minutes=10)
VARIABLE = "LUCIDET_DIST_TIMEOUT"

# seconds in which processes that waited for the same one notice it too
_TOGETHER = 3.0
_TIMED_OUT = re.compile(r"timed?[ -]?out", re.IGNORECASE)


class FrozenProcessError(RuntimeError):
    """Another process did not come to a common operation in time."""


def chosen_timeout(timeout: timedelta) -> timedelta:
    """Return how long processes wait for each other: the environment's, unless one is given.

    Raises:
        ValueError: LUCIDET_DIST_TIMEOUT is no number of seconds > 0.
    """
    text = os.environ.get(VARIABLE, "")
    if timeout is not DEFAULT_TIMEOUT or not text:
        return timeout
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise ValueError(f"{VARIABLE} must be a number of seconds > 0, got {text!r}")
    return timedelta(seconds=seconds)


def explained_wait(error: Exception, timeout: timedelta) -> Exception:
    """Return `error`, or, where another process was waited for in vain, one that names it.

    Every process calls this with the error that ends it: those that do not are the frozen ones.
    """
    try:
        store: Any = dist.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=_TOGETHER))
        store.set(f"lucidet/ended/{comm.get_rank()}", "1")
    except Exception:
        store = None
    if not isinstance(error, RuntimeError) or not _TIMED_OUT.search(str(error)):
        return error
    time.sleep(_TOGETHER)
    frozen = [str(r) for r in range(comm.get_world_size()) if not _has_ended(store, r)]
    who = f"process {', '.join(frozen)}" if frozen else "another process"
    return FrozenProcessError(
        f"{who} of {comm.get_world_size()} did not come within {timeout.total_seconds():g} "
        "seconds: it froze, or was busy with something of its own. Look what it does (py-spy dump "
        "--pid, its last lines in the log, its disk and network); where it only needs longer, set "
        f"--dist-timeout SECONDS or {VARIABLE}. lucidet train ... --resume goes on from the last "
        f"checkpoint ({str(error).splitlines()[0]})"
    )


def _has_ended(store: Any, rank: int) -> bool:
    if rank == comm.get_rank():
        return True
    try:
        return store is not None and bool(store.check([f"lucidet/ended/{rank}"]))
    except Exception:  # process 0 keeps the store: it does not answer
        return rank != 0
