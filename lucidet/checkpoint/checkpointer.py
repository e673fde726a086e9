"""Save and load models with what belongs to them; names as `fvcore.common.checkpoint`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from lucidet.checkpoint.reading import load_weights_file, local_weights_path
from lucidet.checkpoint.report import LoadReport
from lucidet.checkpoint.resume_point import LAST_CHECKPOINT, checkpoint_files, resume_candidates
from lucidet.checkpoint.writing import atomic_file, save_torch
from lucidet.solver.optimizer_state import check_optimizer_state, load_optimizer_state
from lucidet.utils.file_io import PathManager, PathManagerBase


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a (distributed) data parallel wrapper."""
    return model.module if isinstance(model, (DataParallel, DistributedDataParallel)) else model


class Checkpointer:
    """Saves and loads a model, and objects that have ``state_dict`` and ``load_state_dict``.

    Files are replaced as a whole, so a crash leaves the last good one; each holds a checksum.

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

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> None:
        """Save everything as ``save_dir/name.pth`` and tag it as the last checkpoint.

        Args:
            name: without folder and suffix.
            tag: make it the checkpoint to resume from.
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
        if tag:
            self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note that the file of this name, in `save_dir`, is where to resume."""
        with atomic_file(os.path.join(self.save_dir, LAST_CHECKPOINT)) as file:
            file.write(last_filename_basename.encode())

    # --------------------------------------------------------------------------------- finding

    def has_checkpoint(self) -> bool:
        """Return whether `save_dir` has something to resume from, readable or not."""
        return bool(
            os.path.isfile(os.path.join(self.save_dir, LAST_CHECKPOINT))
            or checkpoint_files(self.save_dir)
        )

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint, "" where there is none.

        It is the one named in the file ``last_checkpoint``. Where that file is missing, or names
        none of this folder, it is the checkpoint of the highest iteration.
        """
        return next(resume_candidates(self.save_dir), "")

    def get_all_checkpoint_files(self) -> list[str]:
        """Return the paths of all ``.pth`` files in `save_dir`, sorted by name."""
        return sorted(str(path) for path in Path(self.save_dir).glob("*.pth") if path.is_file())

    # --------------------------------------------------------------------------------- loading

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continue from the last checkpoint if `resume` is set and there is one; else load `path`.

        Where the last one is damaged, the one before it is used. From `path` only the model is
        loaded, no checkpointables.

        Returns:
            As `load`; ``"iteration"`` in it is that of the last finished step.

        Raises:
            ValueError: there are checkpoints, but none is readable; or see `load`.
        """
        if resume and self.has_checkpoint():
            return self._resume()
        return self.load(path, checkpointables=[])

    def _resume(self) -> dict[str, Any]:
        damaged: list[str] = []
        for path in resume_candidates(self.save_dir):
            try:
                found = self._load_file(path)
            except (ValueError, OSError) as error:
                damaged.append(f"{os.path.basename(path)} ({error})")
                continue
            if damaged:
                self.logger.warning(
                    "%s cannot be used; resuming from the one before it, %s",
                    "; ".join(damaged),
                    path,
                )
            return self._use(found, path, list(self.checkpointables), whole=True)
        raise ValueError(
            f"{self.save_dir} has checkpoints, but none is readable: "
            f"{'; '.join(damaged) or 'none is named in last_checkpoint'}. Put a good one there, or "
            "start again without --resume"
        )

    def load(self, path: str, checkpointables: Iterable[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint.

        States of optimizers, and of objects with a ``check_state_dict``, are compared with what
        they are meant for before anything is loaded.

        Args:
            path: file or address; "" or None loads nothing (training from scratch).
            checkpointables: which ones to load; all that are in the file by default.

        Returns:
            What of the file was not used, ``{"iteration": 99}`` for example.

        Raises:
            FileNotFoundError, ValueError: see `load_weights_file`; or a state does not fit.
        """
        if not path:
            self.logger.info("No checkpoint given: the model starts from its initialisation")
            return {}
        wanted = list(self.checkpointables if checkpointables is None else checkpointables)
        return self._use(self._load_file(path), path, wanted)

    def _use(
        self, checkpoint: dict[str, Any], path: str, wanted: list[str], whole: bool = False
    ) -> dict[str, Any]:
        """Load what was read from `path`: model and `wanted` checkpointables.

        Args:
            whole: the model's tensors must all have the shapes of the file's.
        """
        self.logger.info("Loading weights from %s", path)
        checkpoint = self._choose_weights(checkpoint, weights_only=not wanted)
        try:
            self._check(checkpoint, wanted, whole)
            report = self._load_model(checkpoint)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        self._log_report(report, path)
        for key in wanted:
            if key not in checkpoint:
                self.logger.warning("%s has no %r; it keeps its present state", path, key)
                continue
            item, state = self.checkpointables[key], checkpoint.pop(key)
            if isinstance(item, torch.optim.Optimizer):
                load_optimizer_state(item, state)
            else:
                item.load_state_dict(state)
        checkpoint.pop("model", None)
        return checkpoint

    def _check(self, checkpoint: dict[str, Any], wanted: list[str], whole: bool) -> None:
        if whole:
            require_shapes(self.model, checkpoint["model"])
        for key in wanted:
            item = self.checkpointables[key]
            if key not in checkpoint:
                continue
            if isinstance(item, torch.optim.Optimizer):
                check_optimizer_state(item, checkpoint[key])
            elif hasattr(item, "check_state_dict"):
                item.check_state_dict(checkpoint[key])

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


def require_shapes(model: nn.Module, weights: dict[str, Any]) -> None:
    """Compare a model with the weights that its training is to go on from.

    Raises:
        ValueError: a tensor has another shape in the file; names and shapes are in the message.
    """
    own = model.state_dict()
    different = [
        f"{name}: file {tuple(value.shape)}, model {tuple(own[name].shape)}"
        for name, value in weights.items()
        if name in own and hasattr(value, "shape") and tuple(value.shape) != tuple(own[name].shape)
    ]
    if different:
        more = f" (and {len(different) - 3} more)" if len(different) > 3 else ""
        raise ValueError(
            f"the checkpoint is of a model of other sizes: {'; '.join(different[:3])}{more}. Set "
            "the config back to go on, or start with --weights FILE (MODEL.WEIGHTS) instead of "
            "--resume to take what fits"
        )
