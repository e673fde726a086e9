"""Batches for which the memory does not suffice: skipped, counted and named, if that is wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from lucidet.engine.faults import shapes_of_batch
from lucidet.utils import comm

__all__ = ["MAX_IN_A_ROW", "OutOfMemorySkipper"]

logger = logging.getLogger(__name__)

# more batches in a row than this are no exception: the settings do not fit the GPU
MAX_IN_A_ROW = 10


class OutOfMemorySkipper:
    """Runs steps; one whose forward or backward pass runs out of GPU memory is skipped.

    Its weights are not updated; the schedule goes on. In several processes nothing is skipped:
    the others wait for the gradients of this one.

    Args:
        enabled: ``SOLVER.SKIP_OUT_OF_MEMORY``; else an error is raised.

    Attributes:
        count: batches that were skipped.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled and comm.get_world_size() == 1
        if enabled and not self.enabled:
            logger.warning("SOLVER.SKIP_OUT_OF_MEMORY is without effect in several processes")
        self.count = 0
        self._in_a_row = 0

    def run(
        self, step: Callable[[], None], optimizer: torch.optim.Optimizer, iteration: int
    ) -> None:
        """Run one step.

        Args:
            step: forward and backward pass and update.
            optimizer: whose gradients are cleared where the step is skipped.
            iteration: number of the step.

        Raises:
            torch.OutOfMemoryError: skipping is off, too many were skipped in a row, or weights
                may already be updated.
        """
        try:
            step()
            self._in_a_row = 0
            return
        except torch.OutOfMemoryError as error:
            if not self.enabled or _was_updating(error) or self._in_a_row >= MAX_IN_A_ROW:
                raise
            self.count += 1
            self._in_a_row += 1
            logger.warning(
                "iteration %d is skipped, out of GPU memory on (channels, height, width; boxes): "
                "%s; skipped so far: %d (SOLVER.SKIP_OUT_OF_MEMORY)",
                iteration,
                "; ".join(shapes_of_batch(error)) or "not known",
                self.count,
            )
        # the error, and with it the tensors of its frames, is gone only here
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _was_updating(error: BaseException) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name == "update_weights":
            return True
        frame = frame.tb_next
    return False
