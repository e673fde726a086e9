"""Hooks that let a resumed run go on as if it had not been interrupted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lucidet.engine.random_state import random_state, set_random_state
from lucidet.engine.trainer_base import HookBase
from lucidet.utils import comm

logger = logging.getLogger(__name__)


class RandomState(HookBase):
    """Stores the states of the random number generators, so that a resumed run draws on.

    Exact for one process that loads its own data. Worker processes and the other ranks of a
    distributed run start their generators anew.
    """

    def __init__(self) -> None:
        self._to_restore: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return random_state()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._to_restore = state_dict

    def before_step(self) -> None:
        if self._to_restore is None:
            return
        with suppress(AttributeError):
            # making the loader's iterator draws a number, which the first run did at its start
            _ = getattr(self.trainer, "_trainer", self.trainer)._data_loader_iter
        state, self._to_restore = self._to_restore, None
        if comm.get_world_size() == 1:
            set_random_state(state)


class DataPosition(HookBase):
    """Stores how far the order of the training images has been gone through.

    A resumed run begins with the next image, not with those that the first run began with.
    Images that waited to be grouped by aspect ratio, and those that workers had read ahead, are
    passed over.

    Args:
        data_loader: of training; one without a sampler that can ``go_to`` a position starts anew.
        images_per_iteration: of all processes together.
    """

    def __init__(self, data_loader: Any, images_per_iteration: int) -> None:
        self._sampler = find_sampler(data_loader)
        self._images_per_iteration = images_per_iteration

    def state_dict(self) -> dict[str, Any]:
        if self._sampler is None:
            return {}
        done = self.trainer.iter + 1 - self.trainer.start_iter
        return self._sampler.position(done * self._images_per_iteration)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if self._sampler is None:
            logger.warning("The data loader cannot go on where the checkpoint stopped")
        else:
            self._sampler.go_to(state_dict)


def find_sampler(loader: Any) -> Any:
    """Return the sampler with a ``go_to`` behind wrappers of loaders and data sets, or None."""
    while loader is not None:
        sampler = getattr(loader, "sampler", None)
        if hasattr(sampler, "go_to"):
            return sampler
        # no `or`: the truth of a loader is its length, and a training loader has none
        loader = getattr(loader, "dataset", getattr(loader, "batches", None))
    return None
