"""Ctrl-C ends a training between two iterations: it is saved, and no traceback is left."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lucidet.utils import comm

__all__ = ["EXIT_CODE", "TrainingInterrupted", "how_to_go_on", "interruptible"]

logger = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGINT  # what shells report


class TrainingInterrupted(SystemExit):
    """The user ended the training with Ctrl-C; as a SystemExit it leaves no traceback."""

    def __init__(self) -> None:
        super().__init__(int(EXIT_CODE))


@contextmanager
def interruptible(trainer: Any) -> Iterator[None]:
    """Let the first Ctrl-C call ``trainer.interrupt()``; the second raises KeyboardInterrupt.

    Nothing changes in other threads than the main one, where the program handles SIGINT itself, or
    where several processes train: they would not all stop after the same iteration.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    is_main = threading.current_thread() is threading.main_thread()
    if not (usual and is_main) or comm.get_world_size() > 1:
        yield
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.interrupt()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def how_to_go_on(output_dir: str) -> str:
    """Return what to do to continue the training in a folder."""
    last = Path(output_dir, "last_checkpoint")
    if not last.is_file():
        return "The training was interrupted before anything was saved"
    name = last.read_text(encoding="utf-8").strip()
    config = Path(output_dir, "config.yaml")
    command = f"lucidet train --config-file {config} --resume"
    own = "trainer.resume_or_load(resume=True)"
    how = f"{command} (in a program of your own: {own})" if config.is_file() else own
    return f"Interrupted; the last checkpoint is {Path(output_dir, name)}. To go on:\n  {how}"
