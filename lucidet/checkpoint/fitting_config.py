"""Find the config that weights fill completely, by building it and running it once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lucidet.checkpoint.detection_checkpoint import load_weights
from lucidet.checkpoint.report import LoadReport
from lucidet.config import CfgNode

__all__ = ["Candidate", "first_that_fits"]

logger = logging.getLogger("lucidet.checkpoint")

#: height and width of the image that is run, pixels
_IMAGE = (128, 160)


class Candidate(NamedTuple):
    """A config, and where it is from."""

    cfg: CfgNode
    origin: str


def first_that_fits(weights: dict[str, Tensor], candidates: Iterable[Candidate]) -> CfgNode:
    """Return the first config whose model is filled completely, and whose model runs.

    Args:
        weights: under lucidet's names.
        candidates: in the order of trust.

    Raises:
        ValueError: there is none; says for each what is wrong.
    """
    reasons = []
    for candidate in candidates:
        try:
            _require_fit(weights, candidate.cfg)
        except ValueError as error:
            reasons.append(f"{candidate.origin}: {error}")
        else:
            return candidate.cfg
    raise ValueError(
        "no config goes with these weights, so nothing was written; name the one that they were "
        "trained with: --config-file FILE\n" + "\n".join(reasons)
    )


def _require_fit(weights: dict[str, Tensor], cfg: CfgNode) -> None:
    from lucidet.modeling import build_model

    trial = cfg.clone()
    trial.defrost()
    trial.MODEL.DEVICE = "cpu"
    trial.MODEL.TIMM.PRETRAINED = False
    with torch.random.fork_rng(devices=[]):
        model = build_model(trial).eval()
        report = load_weights(model, weights)
        if not report.complete:
            raise ValueError(_lacking(report))
        image = torch.randint(0, 255, (3, *_IMAGE), dtype=torch.uint8)
    try:
        with torch.no_grad():
            model([{"image": image, "height": _IMAGE[0], "width": _IMAGE[1]}])
    except RuntimeError as error:
        raise ValueError(f"the model that it builds does not run: {error}") from error
    except ValueError as error:  # values that diverge are the weights' own
        logger.warning("Run once on a random image, these weights diverge: %s", error)


def _lacking(report: LoadReport) -> str:
    return (
        f"{len(report.missing_keys)} tensors are missing in the file, "
        f"{len(report.incorrect_shapes)} have another shape, {len(report.unexpected_keys)} are "
        f"left over:\n{report.table(all_missing=True)}"
    )
