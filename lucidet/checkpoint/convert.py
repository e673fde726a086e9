"""Turn weights of any known format into lucidet's names, with the config that goes with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lucidet.checkpoint.description import (
    KEY,
    Description,
    config_beside,
    describe_run,
    description_of_weights,
    zoo_config,
)
from lucidet.checkpoint.download import sha256_of
from lucidet.checkpoint.fitting_config import Candidate, first_that_fits
from lucidet.checkpoint.formats import rename_weights
from lucidet.checkpoint.formats.renamed import Renamed
from lucidet.checkpoint.formats.settings_detector import detector_settings, resnet_settings
from lucidet.checkpoint.reading import load_weights_file, local_weights_path
from lucidet.checkpoint.writing import atomic_file, save_torch
from lucidet.config import CfgNode, get_cfg

__all__ = ["Conversion", "convert", "read_renamed"]

#: torchvision's models whose norms have epsilon 0, by the first digits of the file's SHA-256
_EPSILON_ZERO = ("258fb6c6", "eeacb38b")
_FORMATS = ("safetensors", "pth")


@dataclass
class Conversion:
    """Files that :func:`convert` has written, and what it found."""

    weights: Path
    config: Path
    renamed: Renamed


def read_renamed(address: str | os.PathLike[str]) -> Renamed:
    """Return the weights of a file or address under lucidet's names, with their settings.

    Raises:
        FileNotFoundError, ValueError: see `load_weights_file`.
    """
    checkpoint = load_weights_file(address)
    weights = {k: v for k, v in checkpoint["model"].items() if isinstance(v, Tensor)}
    renamed = rename_weights(weights, bool(checkpoint.get("matching_heuristics")))
    if "MODEL.META_ARCHITECTURE" not in renamed.settings:
        seen = resnet_settings if renamed.anywhere else detector_settings
        renamed.settings = seen(renamed.weights) | renamed.settings
    if sha256_of(local_weights_path(address)).startswith(_EPSILON_ZERO):
        renamed.settings["MODEL.RESNETS.NORM_EPS"] = 0.0
    return renamed


def convert(
    address: str | os.PathLike[str],
    to: str = "safetensors",
    out: str | os.PathLike[str] | None = None,
    config_file: str = "",
    norm_eps: float | None = None,
) -> Conversion:
    """Write weights under lucidet's names, and the YAML that goes with them beside.

    Args:
        address: file or address, in any known format.
        to: "safetensors" or "pth".
        out: file to write; default: the input's name in the working folder.
        config_file: config of the weights, if you have it; else it is the one in the file, beside
            it or of the zoo, or its keys are read off the weights.
        norm_eps: epsilon of the backbone's norms, where it isn't what the file shows.

    Raises:
        FileNotFoundError, ValueError: see `load_weights_file`; another `to`; `out` is the input; or
            no config builds a model that the weights fill completely: then nothing is written.
    """
    if to not in _FORMATS:
        raise ValueError(f"--to {to!r} must be one of {', '.join(_FORMATS)}")
    source = local_weights_path(address)
    stem = Path(os.fspath(address).rpartition("/")[2]).stem
    target = Path(out) if out is not None else Path(f"{stem}.{to}")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target} is the input; name another file with --out")
    renamed = read_renamed(address)
    described = description_of_weights(address)
    if norm_eps is not None:
        mobile = renamed.settings.get("MODEL.BACKBONE.NAME") == "build_mobilenet_fpn_backbone"
        renamed.settings[f"MODEL.{'MOBILENET' if mobile else 'RESNETS'}.NORM_EPS"] = norm_eps
    candidates = list(_candidates(renamed, os.fspath(address), config_file, described))
    if renamed.anywhere:  # a backbone by itself fills no detector
        cfg = candidates[-1].cfg
    else:
        cfg = first_that_fits(renamed.weights, candidates)
    cfg.MODEL.WEIGHTS = os.fspath(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _save(renamed, target, to, None if renamed.anywhere else _description(cfg, described))
    config = target.with_suffix(".yaml")
    text = f"# The config of {target.name}, converted from {renamed.format}.\n" + yaml.safe_dump(
        _changed(cfg, get_cfg()), sort_keys=False, default_flow_style=None
    )
    with atomic_file(config) as file:
        file.write(text.encode())
    return Conversion(target, config, renamed)


def _save(renamed: Renamed, target: Path, to: str, description: Description | None) -> None:
    from safetensors.torch import save

    if to == "pth":
        more = {} if description is None else {KEY: description.as_dict()}
        save_torch({"model": renamed.weights, **more}, target)
        return
    # each by itself: the format knows no tensors that share memory
    weights = {k: v.detach().contiguous().clone() for k, v in renamed.weights.items()}
    metadata = {"format": "pt", "converted_from": renamed.format}
    if description is not None:
        metadata[KEY] = json.dumps(description.as_dict())
    with atomic_file(target) as file:
        file.write(save(weights, metadata=metadata))


def _description(cfg: CfgNode, described: Description | None) -> Description:
    """Return what the converted file says of itself: as the input, with the config that fits."""
    if described is None:
        return describe_run(cfg, {})
    return replace(described, config=cfg.dump())


def _candidates(
    renamed: Renamed, address: str, config_file: str, described: Description | None
) -> Iterator[Candidate]:
    """Yield the configs that the weights may be of, the one that is surest first."""
    if config_file:
        cfg = get_cfg()
        cfg.merge_from_file(config_file)
        yield Candidate(cfg, config_file)
        return
    if described is not None:
        yield Candidate(described.cfg(), "the config in the file")
    if (zoo := zoo_config(address)) is not None:
        yield Candidate(zoo, "the zoo's config")
        return
    if described is None and (beside := config_beside(address)) is not None:
        yield Candidate(beside, "the config beside the file")
    cfg = get_cfg()
    for key, value in renamed.settings.items():
        cfg.merge_from_list([key, value])
    yield Candidate(cfg, "the keys that the weights show")


def _changed(cfg: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the defaults, nested."""
    found: dict[str, Any] = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            inner = _changed(value, default[key])
            if inner:
                found[key] = inner
        elif key == "VERSION" or value != default[key]:
            found[key] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, torch.Tensor) else value
