"""Save and load models with what belongs to them; names as `fvcore.common.checkpoint`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from lucidet.checkpoint.reading import load_weights_file, local_weights_path
from lucidet.checkpoint.report import LoadReport
from lucidet.checkpoint.writing import atomic_file, save_torch
from lucidet.utils.file_io import PathManager, PathManagerBase

LAST_CHECKPOINT = "last_checkpoint"  # a file that holds the name of the newest checkpoint


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a (distributed) data parallel wrapper."""
    return model.module if isinstance(model, (DataParallel, DistributedDataParallel)) else model


class Checkpointer:
    """Saves and loads a model, and objects that have ``state_dict`` and ``load_state_dict``.

    Files are replaced as a whole, so a crash leaves the last good one.

    Args:
        model: wrappers for data parallelism are left out of the names.
        save_dir: folder of the checkpoints; "" saves nothing.
        save_to_disk: False on processes that must not write.
        checkpointables: saved under their keyword, e.g. ``optimizer=optimizer``.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str | os.PathLike[str] = "",
        *,
        save_to_disk: bool = True,
        **checkpointables: Any,
    ) -> None:
        self.model = unwrap(model)
        self.save_dir = os.fspath(save_dir)
        self.save_to_disk = save_to_disk
        self.checkpointables: dict[str, Any] = {}
        self.logger = logging.getLogger("lucidet.checkpoint")
        self.path_manager: PathManagerBase = PathManager
        for key, checkpointable in checkpointables.items():
            self.add_checkpointable(key, checkpointable)

    def add_checkpointable(self, key: str, checkpointable: Any) -> None:
        """Save and load `checkpointable` under `key` from now on.

        Raises:
            KeyError: the key is taken.
            AttributeError: it lacks state_dict or load_state_dict.
        """
        if key in self.checkpointables or key == "model":
            raise KeyError(f"key {key!r} is used in the checkpoint already")
        for method in ("state_dict", "load_state_dict"):
            if not hasattr(checkpointable, method):
                raise AttributeError(
                    f"checkpointable {key!r} ({type(checkpointable).__name__}) has no {method}()"
                )
        self.checkpointables[key] = checkpointable

    # ---------------------------------------------------------------------------------- saving

    def save(self, name: str, **kwargs: Any) -> None:
        """Save everything as ``save_dir/name.pth`` and tag it as the last checkpoint.

        Args:
            name: without folder and suffix.
            kwargs: more to store, e.g. ``iteration=100``.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        data |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        data |= kwargs
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.path_manager.mkdirs(self.save_dir)
        self.logger.info("Saving checkpoint to %s", path)
        save_torch(data, path)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note that the file of this name, in `save_dir`, is where to resume."""
        with atomic_file(os.path.join(self.save_dir, LAST_CHECKPOINT)) as file:
            file.write(last_filename_basename.encode())

    # --------------------------------------------------------------------------------- finding

    def has_checkpoint(self) -> bool:
        """Return whether `save_dir` has a last checkpoint."""
        return os.path.isfile(os.path.join(self.save_dir, LAST_CHECKPOINT))

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint, "" where there is none."""
        try:
            text = Path(self.save_dir, LAST_CHECKPOINT).read_text(encoding="utf-8")
        except OSError:
            return ""
        return os.path.join(self.save_dir, text.strip())

    def get_all_checkpoint_files(self) -> list[str]:
        """Return the paths of all ``.pth`` files in `save_dir`, sorted by name."""
        return sorted(str(path) for path in Path(self.save_dir).glob("*.pth") if path.is_file())

    # --------------------------------------------------------------------------------- loading

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continue from the last checkpoint if `resume` is set and there is one; else load `path`.

        From `path` only the model is loaded, no checkpointables.

        Returns:
            As `load`; ``"iteration"`` in it is that of the last finished step.
        """
        if resume and self.has_checkpoint():
            return self.load(self.get_checkpoint_file())
        return self.load(path, checkpointables=[])

    def load(self, path: str, checkpointables: Iterable[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint.

        Args:
            path: file or address; "" or None loads nothing (training from scratch).
            checkpointables: which ones to load; all that are in the file by default.

        Returns:
            What of the file was not used, ``{"iteration": 99}`` for example.

        Raises:
            FileNotFoundError, ValueError: see `load_weights_file`.
        """
        if not path:
            self.logger.info("No checkpoint given: the model starts from its initialisation")
            return {}
        self.logger.info("Loading weights from %s", path)
        checkpoint = self._load_file(path)
        wanted = list(self.checkpointables if checkpointables is None else checkpointables)
        checkpoint = self._choose_weights(checkpoint, weights_only=not wanted)
        try:
            report = self._load_model(checkpoint)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        self._log_report(report, path)
        for key in wanted:
            if key not in checkpoint:
                self.logger.warning("%s has no %r; it keeps its present state", path, key)
                continue
            self.checkpointables[key].load_state_dict(checkpoint.pop(key))
        checkpoint.pop("model", None)
        return checkpoint

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read the file; `self.path_manager` resolves addresses."""
        if self.path_manager is not PathManager and not os.path.isfile(filename):
            filename = self.path_manager.get_local_path(filename)
        return load_weights_file(local_weights_path(filename))

    def _choose_weights(self, checkpoint: dict[str, Any], weights_only: bool) -> dict[str, Any]:
        """Return the checkpoint with the weights to use under "model"."""
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> LoadReport:
        """Fill the model with ``checkpoint["model"]``, as far as names and shapes agree."""
        weights = {name: as_tensor(value, name) for name, value in checkpoint["model"].items()}
        if weights and all(name.startswith("module.") for name in weights):
            weights = {name.removeprefix("module."): value for name, value in weights.items()}
        report = LoadReport.compare(self.model.state_dict(), weights)
        self.model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
        return report

    def _log_report(self, report: LoadReport, path: str) -> None:
        total = len(report.loaded) + len(report.missing_keys) + len(report.incorrect_shapes)
        message = f"Loaded {len(report.loaded)} of the model's {total} tensors from {path}"
        if report.origin is not None:
            message += f" ({report.origin.format})"
        message += f"\n{report.verdict()}"
        if report.complete:
            self.logger.info(message)
        elif report.expected:
            self.logger.info(f"{message}\n{report.table()}" if report.incorrect_shapes else message)
        else:
            self.logger.warning(f"{message}\nWhat differs:\n{report.table()}")


def as_tensor(value: Any, name: str) -> torch.Tensor:
    """Return a weight as a tensor.

    Raises:
        ValueError: it is neither a tensor nor an array.
    """
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"weight {name!r} is a {type(value).__name__}, expected a tensor")
    return value


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

    def _remove_old(self) -> None:
        if self.max_to_keep is None or not self.checkpointer.save_to_disk:
            return
        # by the folder, not by memory: a resumed run goes on removing what the first one wrote
        numbered = re.compile(rf"{re.escape(self.file_prefix)}_\d{{7,}}\.pth")
        files = self.checkpointer.get_all_checkpoint_files()
        mine = [f for f in files if numbered.fullmatch(os.path.basename(f))]
        for path in mine[: -self.max_to_keep]:
            self.checkpointer.path_manager.rm(path)
