"""The checkpointer of detectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lucidet.checkpoint.checkpointer import Checkpointer, as_tensor, unwrap
from lucidet.checkpoint.description import KEY, Description
from lucidet.checkpoint.formats import rename_weights
from lucidet.checkpoint.formats.key_matching import place
from lucidet.checkpoint.formats.renamed import Renamed
from lucidet.checkpoint.report import LoadReport
from lucidet.utils import comm


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], heuristics: bool = False
) -> LoadReport:
    """Fill a model with weights of any known format, as far as names and shapes agree.

    Args:
        model: a detector.
        weights: name -> tensor, a torchvision detector's ``state_dict()`` for example.
        heuristics: names are only ends of the model's names; see `rename_weights`.

    Raises:
        ValueError: the weights are of another architecture.
    """
    model = unwrap(model)
    state = model.state_dict()
    if weights.keys() == state.keys():
        renamed = Renamed("lucidet", dict(weights))
    else:
        renamed = rename_weights(weights, heuristics)
    placed = place(renamed, state)
    if renamed.anywhere:
        # timm's bodies in a detector keep the names that a ResNet of lucidet's doesn't have
        as_it_is = Renamed("a backbone by itself", dict(weights), anywhere=True)
        other = place(as_it_is, state)
        if len(other.keys() & state.keys()) > len(placed.keys() & state.keys()):
            renamed, placed = as_it_is, other
    report = LoadReport.compare(state, placed, renamed)
    report.require("backbone.")
    model.load_state_dict({name: placed[name] for name in report.loaded}, strict=False)
    return report


def incomplete(report: LoadReport, path: str) -> str:
    """Return the message for weights that don't fill the model, or fill more than it."""
    counts = {
        "missing in the file": len(report.missing_keys),
        "of another shape": len(report.incorrect_shapes),
        "left over": len(report.unexpected_keys),
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return (
        f"{path} does not fit this model: {len(report.loaded)} tensors were loaded, but {found}:\n"
        f"{report.table(all_missing=True)}\nResults would be those of other weights. Use the "
        "config that the weights were trained with, or --allow-partial "
        "(TEST.ALLOW_PARTIAL_WEIGHTS True)"
    )


class DetectionCheckpointer(Checkpointer):
    """A `Checkpointer` that writes on the main process only and refuses foreign architectures.

    Where only the weights are loaded (evaluation, prediction, a new training) and the file holds
    averaged weights ("ema"), these are taken: they are the ones that training evaluated.

    Args:
        model, save_dir, save_to_disk, checkpointables: as for `Checkpointer`.
        complete: a tensor of the model that the file lacks or has in another shape, or one that is
            left over, is an error when weights are loaded: for evaluation and prediction.

    Attributes:
        describe: returns what each checkpoint is to say of itself; None: nothing.

    >>> checkpointer = DetectionCheckpointer(nn.Linear(2, 2))
    >>> checkpointer.has_checkpoint()
    False
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str | os.PathLike[str] = "",
        *,
        save_to_disk: bool | None = None,
        complete: bool = False,
        **checkpointables: Any,
    ) -> None:
        self.complete = complete
        self.describe: Callable[[], Description] | None = None
        super().__init__(
            model,
            save_dir,
            save_to_disk=comm.is_main_process() if save_to_disk is None else save_to_disk,
            **checkpointables,
        )

    def save(self, name: str, **kwargs: Any) -> None:
        """Save as `Checkpointer.save` does, with the description under "lucidet"."""
        if self.describe is not None and self.save_dir and self.save_to_disk:
            kwargs.setdefault(KEY, self.describe().as_dict())
        super().save(name, **kwargs)

    def _log_report(self, report: LoadReport, path: str) -> None:
        if self.complete and not report.complete:
            raise ValueError(incomplete(report, path))
        foreign = report.origin is not None and bool(report.origin.unused)
        if report.complete and not foreign:  # the table is for the log file
            count = f"Loaded all {len(report.loaded)} tensors of the model from {path}"
            origin = f" ({report.origin.format})" if report.origin is not None else ""
            self.logger.info("%s%s", count, origin)
            self.logger.debug(report.verdict())
            return
        super()._log_report(report, path)

    def _choose_weights(self, checkpoint: dict[str, Any], weights_only: bool) -> dict[str, Any]:
        ema = checkpoint.get("ema")  # the state of a lucidet.solver.ModelEMA
        if not weights_only or not ema:
            return checkpoint
        self.logger.info("The file holds averaged weights (EMA); the model gets those")
        return {**checkpoint, "model": checkpoint["model"] | ema["averages"] | ema["buffers"]}

    def _load_model(self, checkpoint: dict[str, Any]) -> LoadReport:
        weights = {name: as_tensor(value, name) for name, value in checkpoint["model"].items()}
        return load_weights(self.model, weights, bool(checkpoint.get("matching_heuristics")))
