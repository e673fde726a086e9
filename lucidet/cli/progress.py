"""How far a command is: a bar in a terminal, a line every ten seconds in a pipe or log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

#: between two lines
SECONDS = 10.0


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the number of units done since its last call.

    Args:
        what: shown in front.
        total: units in all.
        unit: in the plural, "images".
    """
    if sys.stdout.isatty():
        from rich.progress import Progress

        with Progress(transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    began = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= SECONDS and done < total:
            last = now
            rate = done / (now - began)
            left = (total - done) / rate if rate else 0
            print(
                f"{what}: {done} of {total} {unit}, {rate:.1f} a second, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    yield advance
