"""Configs of detectron2's versions 0 and 1: keys that have other names today."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from lucidet.config.files import ConfigContent
from lucidet.config.tracked_node import Node

__all__ = ["VERSION", "downgrade_config", "upgrade_config", "upgraded"]

logger = logging.getLogger(__name__)

VERSION = 2

# the names are detectron2's: version -> {name before it: name since}
_RENAMED: dict[int, dict[str, str]] = {
    1: {"MODEL.RPN_HEAD.NAME": "MODEL.RPN.HEAD_NAME"},
    2: {
        "MODEL.WEIGHT": "MODEL.WEIGHTS",
        "MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
        "MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE": "MODEL.RPN.LOSS_WEIGHT",
        "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE": "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT",
        "MODEL.PANOPTIC_FPN.COMBINE_ON": "MODEL.PANOPTIC_FPN.COMBINE.ENABLED",
        "MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD": (
            "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH"
        ),
        "MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT": (
            "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT"
        ),
        "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD": (
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH"
        ),
        "MODEL.ROI_HEADS.SCORE_THRESH": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        "MODEL.ROI_HEADS.NMS": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
        "MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD": "MODEL.RETINANET.SCORE_THRESH_TEST",
        "MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
        "MODEL.RETINANET.INFERENCE_NMS_THRESHOLD": "MODEL.RETINANET.NMS_THRESH_TEST",
        "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
        "TEST.AUG_ON": "TEST.AUG.ENABLED",
        "TEST.AUG_MIN_SIZES": "TEST.AUG.MIN_SIZES",
        "TEST.AUG_MAX_SIZE": "TEST.AUG.MAX_SIZE",
        "TEST.AUG_FLIP": "TEST.AUG.FLIP",
    },
}
# until version 1 each architecture had anchors of its own
_ANCHORS = {
    "ANCHOR_SIZES": "MODEL.ANCHOR_GENERATOR.SIZES",
    "ANCHOR_ASPECT_RATIOS": "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
}


def upgraded(content: ConfigContent, filename: str) -> ConfigContent:
    """Return a file's values in today's names.

    Raises:
        ValueError: a version that lucidet does not know; names file and line.
    """
    values, origins = content.values, dict(content.origins)
    version = values.get("VERSION", VERSION)
    if version == VERSION:
        return content
    if version not in (0, 1):
        raise ValueError(
            f"{origins.get('VERSION', filename)}: VERSION is {version!r}; lucidet reads "
            f"detectron2's versions 0 to {VERSION}: write VERSION: {VERSION}"
        )
    values = copy.deepcopy(values)
    moved = _upgrade(values, int(version))
    for old, new in moved.items():
        if old in origins:
            origins[new] = origins[old]
    logger.warning(
        "%s is of version %s: read with today's names (%s); write VERSION: %d and these",
        filename,
        version,
        ", ".join(f"{old} is {new}" for old, new in moved.items()) or "no key has another",
        VERSION,
    )
    return ConfigContent(values, origins)


def upgrade_config(cfg: Node, to_version: int | None = None) -> Node:
    """Return a copy of an older config in the names of a later version.

    Args:
        cfg: with ``VERSION``.
        to_version: default: today's.

    Raises:
        ValueError: `to_version` is before the config's, or not known.
    """
    target = VERSION if to_version is None else to_version
    start = cfg.VERSION
    if not 0 <= start <= target <= VERSION:
        raise ValueError(f"a config of VERSION {start} can't be upgraded to {target}")
    values = _plain(cfg)
    _upgrade(values, start, target)
    return type(cfg)(values)


def downgrade_config(cfg: Node, to_version: int) -> Node:
    """Return a copy of a config in the names of an earlier version.

    Args:
        cfg: with ``VERSION``.
        to_version: 0 or 1, at most the config's.

    Raises:
        ValueError: `to_version` is after the config's, or not known.
    """
    start = cfg.VERSION
    if not 0 <= to_version <= start <= VERSION:
        raise ValueError(f"a config of VERSION {start} can't be downgraded to {to_version}")
    values = _plain(cfg)
    for version in range(start, to_version, -1):
        for old, new in _RENAMED[version].items():
            _move(values, new, old)
        if version == 2:
            for name, new in _ANCHORS.items():
                found = _get(values, new)
                for section in ("RPN", "RETINANET"):
                    if found is not None:
                        _set(values, f"MODEL.{section}.{name}", copy.deepcopy(found))
                _move(values, new, f"MODEL.RPN.{name}")
            _set(values, "MODEL.RETINANET.ANCHOR_STRIDES", [])
        values["VERSION"] = version - 1
    return type(cfg)(values)


def _upgrade(values: dict[str, Any], start: int, target: int = VERSION) -> dict[str, str]:
    """Rename keys in place; return what became what."""
    moved = {}
    for version in range(start + 1, target + 1):
        for old, new in _names_until(version, values):
            if _move(values, old, new):
                moved[old] = new
        if version == 2:
            for name in (*_ANCHORS, "ANCHOR_STRIDES"):
                for section in ("RPN", "RETINANET"):
                    _take(values, f"MODEL.{section}.{name}")
        values["VERSION"] = version
    return moved


def _names_until(version: int, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _RENAMED[version].items()
    if version == 2:
        retina = _get(values, "MODEL.META_ARCHITECTURE") == "RetinaNet"
        section = "RETINANET" if retina else "RPN"
        yield from ((f"MODEL.{section}.{name}", new) for name, new in _ANCHORS.items())


def _plain(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values as dicts, without counting as their reader."""
    assert isinstance(cfg, dict)
    pairs: list[tuple[str, Any]] = list(dict.items(cfg))
    return {
        name: _plain(value) if isinstance(value, Mapping) else copy.deepcopy(value)
        for name, value in pairs
    }


def _get(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


def _take(values: Any, key: str) -> Any:
    """Remove a key, and sections that it leaves empty; return its value, None if it is absent."""
    section, _, rest = key.partition(".")
    if not isinstance(values, dict) or section not in values:
        return None
    if not rest:
        return values.pop(section)
    found = _take(values[section], rest)
    if values[section] == {}:
        del values[section]
    return found


def _move(values: dict[str, Any], old: str, new: str) -> bool:
    if _get(values, old) is None:
        return False
    _set(values, new, _take(values, old))
    return True
