"""Hooks that let a resumed run go on as if it had not been interrupted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lucidet.data.skipped_records import find_skipped
from lucidet.engine.trainer_base import HookBase
from lucidet.modeling.sampling import keyed_step
from lucidet.utils import comm
from lucidet.utils.keyed_random import STEP, seed_generators

logger = logging.getLogger(__name__)


class RandomState(HookBase):
    """Makes what is random about an iteration a function of (seed, iteration, process).

    Before each step it seeds the global generators of Python, NumPy and torch, and the sampling of
    anchors and proposals, which does not depend on the number of processes. So no random state has
    to be kept: a resumed run draws the same numbers, in any number of processes.

    Args:
        seed: of the run, >= 0, the same in all processes; None: drawn from torch's present state.
        fixed: the user has set it, so it counts instead of a checkpoint's; default: if it is given.
    """

    def __init__(self, seed: int | None = None, fixed: bool | None = None) -> None:
        self.seed = seed
        self._fixed = seed is not None if fixed is None else fixed
        self._step = ExitStack()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.seed is None else {"seed": self.seed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        stored = state_dict.get("seed")
        if stored is None:  # of an older version
            logger.warning("The checkpoint has no seed: what is random goes on from another one")
        elif not self._fixed:
            self.seed = int(stored)
        elif self.seed != stored:
            logger.info("SEED was %d and is %d now: the new one counts", stored, self.seed)

    def before_train(self) -> None:
        if self.seed is None:
            self.seed = comm.all_gather(int(torch.randint(2**31, ())))[0]

    def before_step(self) -> None:
        assert self.seed is not None
        with suppress(AttributeError):
            # the loader's iterator may draw when it is made, in the first step of this process
            _ = getattr(self.trainer, "_trainer", self.trainer)._data_loader_iter
        seed_generators(STEP, self.seed, self.trainer.iter, comm.get_rank())
        self._step.enter_context(keyed_step(self.seed, self.trainer.iter))

    def after_step(self) -> None:
        self._step.close()

    def after_train(self) -> None:
        self._step.close()  # where an error ended the step


class DataPosition(HookBase):
    """Stores how far the order of the training images has been gone through.

    A resumed run begins with the next image, not with those that the first run began with. At the
    end of a run, records that were skipped are counted in the log.

    Args:
        data_loader: of training; one without an order that can ``go_to`` a position starts again.
        images_per_iteration: of all processes together.
        seed: of the run, where the user has set it: it counts instead of a checkpoint's.
    """

    saves_state = True

    def __init__(
        self, data_loader: Any, images_per_iteration: int, seed: int | None = None
    ) -> None:
        self._order = find_order(data_loader)
        self._skipped = find_skipped(data_loader)
        self._images_per_iteration = images_per_iteration
        self._seed = seed

    def state_dict(self) -> dict[str, Any]:
        if self._order is None:
            return {}
        done = self.trainer.iter + 1 - self.trainer.start_iter
        return self._order.position(done * self._images_per_iteration)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if self._order is None:
            logger.warning("The data loader cannot go on where the checkpoint stopped")
        else:
            go_to(self._order, state_dict, self._seed)

    def after_train(self) -> None:
        if self._skipped is not None:
            self._skipped.report()


def go_to(order: Any, position: Mapping[str, Any], seed: int | None) -> None:
    """Let an order (or a sampler) begin at a position, with `seed` where it is not None."""
    if seed is not None and hasattr(order, "batch_size"):
        order.go_to(position, seed=seed)
    else:
        order.go_to(position)


def find_order(loader: Any) -> Any:
    """Return the `BatchOrder` or sampler with a ``go_to`` behind wrappers of loaders, or None."""
    while loader is not None:
        for name in ("order", "sampler"):
            found = getattr(loader, name, None)
            if hasattr(found, "go_to"):
                return found
        # no `or`: the truth of a loader is its length, and a training loader has none
        loader = getattr(loader, "dataset", getattr(loader, "batches", None))
    return None


class BeforeCheckpoint(HookBase):
    """Brings the processes to one state before a checkpoint and before an evaluation.

    Losses that were measured but not yet written are written. Running statistics, of which each
    process keeps its own, become those of process 0: they are what is saved, and what is evaluated.
    Every process needs one.

    Args:
        periods: iterations between two checkpoints or evaluations; 0: only at the end.
        models: modules, or others with ``state_dict()``, whose buffers are brought into line.
    """

    def __init__(self, periods: Sequence[int], models: Sequence[Any]) -> None:
        self._periods = [period for period in periods if period > 0]
        self._models = list(models)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or any(done % period == 0 for period in self._periods):
            self.trainer.flush()
            for model in self._models:
                share_buffers(model)


@torch.no_grad()
def share_buffers(model: Any) -> None:
    """Give every process the buffers of process 0; does nothing in a lone process."""
    if comm.get_world_size() == 1:
        return
    if isinstance(model, nn.Module):
        buffers = list(model.buffers())
    else:
        buffers = list(model.state_dict().get("buffers", {}).values())  # a ModelEMA
    for buffer in buffers:
        dist.broadcast(buffer, 0)
