"""The config: every default in one tree, to change, merge files into and freeze.

The names of `detectron2.config.config`; :class:`CfgNode` itself is in `lucidet/config/node.py`.
"""

from __future__ import annotations

from lucidet.config import defaults
from lucidet.config.configurable import configurable
from lucidet.config.node import CfgNode
from lucidet.config.suggestions import UnknownKeyError

__all__ = [
    "CfgNode",
    "UnknownKeyError",
    "configurable",
    "get_cfg",
    "global_cfg",
    "set_global_cfg",
]

global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """Return a config with every default, to change, merge into and freeze."""
    cfg = defaults._C.clone()  # code may have replaced it
    cfg._close()
    return cfg


def set_global_cfg(cfg: CfgNode) -> None:
    """Let ``lucidet.config.global_cfg`` hold the values of `cfg`; for quick experiments."""
    dict.clear(global_cfg)
    for name, value in cfg._items():
        dict.__setitem__(global_cfg, name, value)
