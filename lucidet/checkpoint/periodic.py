"""Checkpoints in regular intervals, and which of them are kept."""

from __future__ import annotations

import os
import re
from typing import Any

from lucidet.checkpoint.checkpointer import Checkpointer

__all__ = ["PeriodicCheckpointer"]


class PeriodicCheckpointer:
    """Saves every `period` iterations and at the end.

    Args:
        checkpointer: what saves.
        period: iterations between two checkpoints.
        max_iter: iteration ``max_iter - 1`` is the last and saved as ``{prefix}_final``; None: no
            such file.
        max_to_keep: periodic files beyond that number are removed, oldest first; None: all stay.
            ``_final`` is never removed.
        file_prefix: files are ``{prefix}_{iteration:07d}.pth``.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        period: int,
        max_iter: int | None = None,
        max_to_keep: int | None = None,
        file_prefix: str = "model",
    ) -> None:
        if max_to_keep is not None and max_to_keep <= 0:
            raise ValueError(f"max_to_keep must be positive or None, got {max_to_keep}")
        self.checkpointer = checkpointer
        self.period = int(period)
        self.max_iter = max_iter
        self.max_to_keep = max_to_keep
        self.file_prefix = file_prefix

    def step(self, iteration: int, **kwargs: Any) -> None:
        """Save if it is time to.

        Args:
            iteration: the one that has just been finished, in 0 .. max_iter - 1.
            kwargs: more to store.
        """
        state = {"iteration": int(iteration), **kwargs}
        if self.is_periodic(iteration):
            self.checkpointer.save(f"{self.file_prefix}_{iteration:07d}", **state)
            self._remove_old()
        if self.is_last(iteration):
            self.checkpointer.save(f"{self.file_prefix}_final", **state)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save now, as ``name.pth``."""
        self.checkpointer.save(name, **kwargs)

    def is_periodic(self, iteration: int) -> bool:
        """Return whether a period ends with this iteration."""
        return self.period > 0 and (iteration + 1) % self.period == 0

    def is_last(self, iteration: int) -> bool:
        """Return whether this is the last iteration."""
        return self.max_iter is not None and iteration >= self.max_iter - 1

    def _remove_old(self, newest: int | None = None) -> None:
        """Remove the oldest of the periodic files; `newest`: of those up to this iteration."""
        if self.max_to_keep is None or not self.checkpointer.save_to_disk:
            return
        # by the folder, not by memory: a resumed run goes on removing what the first one wrote
        numbered = re.compile(rf"{re.escape(self.file_prefix)}_(\d{{7,}})\.pth")
        mine = []
        for path in self.checkpointer.get_all_checkpoint_files():
            found = numbered.fullmatch(os.path.basename(path))
            if found and (newest is None or int(found[1]) <= newest):
                mine.append(path)
        for path in mine[: -self.max_to_keep]:
            self.checkpointer.path_manager.rm(path)
