"""Configs: a tree of keys with defaults, YAML files and overrides on top, and `@configurable`."""

from lucidet._absent import absent
from lucidet.config.config import get_cfg, global_cfg, set_global_cfg
from lucidet.config.configurable import configurable
from lucidet.config.node import CfgNode
from lucidet.config.suggestions import UnknownKeyError
from lucidet.config.versions import downgrade_config, upgrade_config

CN = CfgNode

LazyCall = absent("LazyCall")
LazyConfig = absent("LazyConfig")
instantiate = absent("instantiate")

__all__ = [
    "CN",
    "CfgNode",
    "LazyCall",
    "LazyConfig",
    "UnknownKeyError",
    "configurable",
    "downgrade_config",
    "get_cfg",
    "global_cfg",
    "instantiate",
    "set_global_cfg",
    "upgrade_config",
]
