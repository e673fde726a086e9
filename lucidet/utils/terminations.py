"""SIGTERM and SIGUSR1 as Ctrl-C, for commands that keep what they have when they are ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "handled", "terminations_as_interrupts"]


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C; the command's exit status is `status`, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def handled(numbers: Iterable[int], handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Let `handle(number, frame)` answer these signals within the block.

    Only the main thread of a program may set handlers: in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Raise Terminated where SIGTERM or SIGUSR1 comes, in the main thread."""

    def handle(number: int, frame: Any) -> None:
        raise Terminated(number)

    names = ("SIGTERM", "SIGUSR1")
    with handled([getattr(signal, name) for name in names if hasattr(signal, name)], handle):
        yield
