"""Configs: a tree of keys with defaults, YAML files and overrides on top, and `@configurable`."""

from lucidet._absent import absent
from lucidet.config.config import get_cfg, global_cfg, set_global_cfg
from lucidet.config.configurable import configurable
from lucidet.config.node import CfgNode
from lucidet.config.suggestions import UnknownKeyError

CN = CfgNode

_AS_YAML = "write the config as YAML, or build the model in Python"
LazyCall = absent("LazyCall", "lazy configs", _AS_YAML)
LazyConfig = absent("LazyConfig", "lazy configs", _AS_YAML)
instantiate = absent("instantiate", "lazy configs", _AS_YAML)

__all__ = [
    "CN",
    "CfgNode",
    "LazyCall",
    "LazyConfig",
    "UnknownKeyError",
    "configurable",
    "get_cfg",
    "global_cfg",
    "instantiate",
    "set_global_cfg",
]
