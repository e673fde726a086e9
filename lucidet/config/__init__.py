"""Configs: a tree of keys with defaults, YAML files and overrides on top, and `@configurable`."""

from lucidet.config.config import CfgNode, UnknownKeyError, get_cfg, global_cfg, set_global_cfg
from lucidet.config.configurable import configurable

CN = CfgNode

__all__ = [
    "CN",
    "CfgNode",
    "UnknownKeyError",
    "configurable",
    "get_cfg",
    "global_cfg",
    "set_global_cfg",
]
