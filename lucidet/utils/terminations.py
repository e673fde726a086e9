"""SIGTERM and SIGUSR1 as Ctrl-C, for commands that keep what they have when they are ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "terminations_as_interrupts"]


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C; the command's exit status is `status`, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Raise Terminated where SIGTERM or SIGUSR1 comes, in the main thread."""

    def handle(number: int, frame: Any) -> None:
        raise Terminated(number)

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGUSR1")]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, handle) for number in numbers if number is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
