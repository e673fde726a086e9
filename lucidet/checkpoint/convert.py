"""Turn weights of any known format into lucidet's names, with the config that goes with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lucidet.checkpoint.download import sha256_of
from lucidet.checkpoint.formats import rename_weights
from lucidet.checkpoint.formats.renamed import Renamed
from lucidet.checkpoint.formats.settings_detector import detector_settings, resnet_settings
from lucidet.checkpoint.reading import load_weights_file, local_weights_path
from lucidet.checkpoint.writing import atomic_file, save_torch
from lucidet.config import CfgNode, get_cfg
from lucidet.config.files import get_config_file

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
        config_file: config of the weights, if you have it; else its keys are read off the weights,
            or for a model of detectron2's zoo taken from its config.
        norm_eps: epsilon of the backbone's norms, where it isn't what the file shows.

    Raises:
        FileNotFoundError, ValueError: see `load_weights_file`; another `to`; or `out` is the input.
    """
    if to not in _FORMATS:
        raise ValueError(f"--to {to!r} must be one of {', '.join(_FORMATS)}")
    source = local_weights_path(address)
    stem = Path(os.fspath(address).rpartition("/")[2]).stem
    target = Path(out) if out is not None else Path(f"{stem}.{to}")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target} is the input; name another file with --out")
    renamed = read_renamed(address)
    if norm_eps is not None:
        mobile = renamed.settings.get("MODEL.BACKBONE.NAME") == "build_mobilenet_fpn_backbone"
        renamed.settings[f"MODEL.{'MOBILENET' if mobile else 'RESNETS'}.NORM_EPS"] = norm_eps
    target.parent.mkdir(parents=True, exist_ok=True)
    if to == "safetensors":
        _save_safetensors(renamed, target)
    else:
        save_torch({"model": renamed.weights}, target)
    cfg = _config_of(renamed, os.fspath(address), config_file)
    cfg.MODEL.WEIGHTS = os.fspath(target)
    config = target.with_suffix(".yaml")
    text = f"# The config of {target.name}, converted from {renamed.format}.\n" + yaml.safe_dump(
        _changed(cfg, get_cfg()), sort_keys=False, default_flow_style=None
    )
    with atomic_file(config) as file:
        file.write(text.encode())
    return Conversion(target, config, renamed)


def _save_safetensors(renamed: Renamed, target: Path) -> None:
    from safetensors.torch import save

    # each by itself: the format knows no tensors that share memory
    weights = {k: v.detach().contiguous().clone() for k, v in renamed.weights.items()}
    with atomic_file(target) as file:
        file.write(save(weights, metadata={"format": "pt", "converted_from": renamed.format}))


def _config_of(renamed: Renamed, address: str, config_file: str) -> CfgNode:
    cfg = get_cfg()
    zoo = _zoo_config(address)
    if config_file or zoo:
        cfg.merge_from_file(config_file or zoo)
        return cfg
    for key, value in renamed.settings.items():
        cfg.merge_from_list([key, value])
    return cfg


def _zoo_config(address: str) -> str:
    """Return the config file of a published detector of detectron2 or torchvision, else ""."""
    folder = "torchvision" if address.startswith("torchvision://") else "COCO-Detection"
    _, _, name = address.partition("torchvision://" if folder == "torchvision" else f"{folder}/")
    if not name:
        return ""
    try:
        return get_config_file(f"{folder}/{name.split('/')[0].removesuffix('.yaml')}.yaml")
    except RuntimeError:
        return ""


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
