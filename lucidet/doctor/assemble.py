"""Find data, config and weights of a command line, and examine them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lucidet.config import CfgNode
from lucidet.doctor.findings import Finding, Report, finding
from lucidet.doctor.material import Material, Split
from lucidet.doctor.reading import read_datasets, read_specification
from lucidet.doctor.rules import ERROR
from lucidet.doctor.run import Progress, examine

__all__ = ["doctor", "material_of"]

#: where reading says what it leaves out: the report says it
_LOGGERS = ("lucidet.data", "lucidet.engine.recipe")


def doctor(
    data: Sequence[str] = (),
    cfg: CfgNode | Callable[[], CfgNode] | None = None,
    *,
    held_out: Sequence[str] = (),
    quick: bool = False,
    progress: Progress | None = None,
) -> tuple[Report, Material]:
    """Examine data, config and weights together; return the report and what it is about.

    Args:
        data: specifications; without them the datasets of the config.
        cfg: the config, or a function that returns it: it may need the data to be readable, and
            is called once they have been read without an error.
        held_out: specifications for validation, where those of `data` are for training only.
        quick: what takes seconds: no decoding of images.
        progress: shows how far the decoding is.
    """
    with _quiet():
        material, found = _material(data, held_out, cfg)
        parts = list(data) or list(dict.fromkeys(split.name for split in material.splits))
        if material.cfg is not None and material.cfg.MODEL.WEIGHTS:
            parts.append(material.cfg.MODEL.WEIGHTS)
        subject = ", ".join([*parts, *held_out])
        report = examine(material, found, subject=subject, quick=quick, progress=progress)
        return report, material


def material_of(
    data: Sequence[str],
    cfg: CfgNode | Callable[[], CfgNode] | None,
    *,
    held_out: Sequence[str] = (),
) -> tuple[Material, list[Finding]]:
    """Return data and config, and what reading them found; arguments as of `doctor`."""
    with _quiet():
        return _material(data, held_out, cfg)


def _material(
    data: Sequence[str],
    held_out: Sequence[str],
    cfg: CfgNode | Callable[[], CfgNode] | None,
) -> tuple[Material, list[Finding]]:
    splits: list[Split] = []
    found: list[Finding] = []
    if data:
        splits, found = read_specification(data, held_out)
    if callable(cfg) and not isinstance(cfg, CfgNode):
        if any(one.severity == ERROR for one in found):
            cfg = None
        else:
            try:
                cfg = cfg()
            except (ValueError, OSError, KeyError) as error:
                text = str(error.args[0] if error.args else error)
                found.append(finding("config-refused", text))
                cfg = None
    if cfg is not None and not data:
        splits, found = read_datasets(cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
    return Material(splits, cfg), found


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
