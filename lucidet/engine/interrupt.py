"""Signals end a training between two iterations: it is saved, and no traceback is left."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lucidet.utils import comm
from lucidet.utils.terminations import handled

__all__ = [
    "EXIT_CODE",
    "SIGNALS",
    "TrainingInterrupted",
    "agreed_signal",
    "forwarding",
    "how_to_go_on",
    "interruptible",
]

logger = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGINT  # what shells report
#: Ctrl-C; a scheduler that needs the machine; SLURM's warning (``--signal=USR1@60``)
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)

_WARNING = getattr(signal, "SIGUSR1", None)  # may come more than once


class TrainingInterrupted(SystemExit):
    """A signal ended the training; as a SystemExit it leaves no traceback.

    Args:
        number: of the signal; the exit status is 128 + number: 130, 143 or 138.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(128 + int(number))


@contextmanager
def interruptible(trainer: Any) -> Iterator[None]:
    """Let the first signal of :data:`SIGNALS` call ``trainer.interrupt(number)``.

    The second SIGINT or SIGTERM ends at once: it raises KeyboardInterrupt, or, where several
    processes train and would wait for each other, leaves the process.

    Nothing changes in other threads than the main one, and for signals that the program handles
    itself.
    """

    def handle(number: int, frame: Any) -> None:
        if trainer.interrupted and number != _WARNING:
            if comm.get_world_size() > 1:
                os._exit(128 + number)
            raise KeyboardInterrupt
        trainer.interrupt(number)

    usual = (signal.SIG_DFL, signal.default_int_handler)
    with handled([n for n in SIGNALS if signal.getsignal(n) in usual], handle):
        yield


def agreed_signal(number: int) -> int:
    """Return the highest signal that a process has received; every process must call this.

    The numbers travel between the CPUs: no GPU is waited for.
    """
    received = torch.tensor([number])
    dist.all_reduce(received, dist.ReduceOp.MAX, group=comm._object_group())
    return int(received)


@contextmanager
def forwarding(processes: Sequence[Any]) -> Iterator[None]:
    """Send the signals that this process gets on to those it has started, and wait for these."""

    def handle(number: int, frame: Any) -> None:
        for process in processes:
            # a terminal has sent Ctrl-C to all of them already
            if process.is_alive() and not (number == signal.SIGINT and sys.stdin.isatty()):
                os.kill(process.pid, number)

    with handled(SIGNALS, handle):
        yield


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
