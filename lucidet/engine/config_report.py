"""What of a config the console shows: the values that differ from its base."""

from __future__ import annotations

from lucidet.config import CfgNode, get_cfg
from lucidet.config.values import to_yaml

__all__ = ["differences", "value_at"]

SHOWN = 12


def differences(cfg: CfgNode, config_file: str = "") -> list[str]:
    """Return ``KEY value`` of what a config file sets over its base, and what was set after it.

    Args:
        cfg: the config.
        config_file: what its bases say is not shown.

    Returns:
        At most `SHOWN` lines, what was set on the command line first, and one that counts the rest.
    """
    default = get_cfg()
    found: list[tuple[bool, str]] = []
    for key, node in cfg._leaves():
        name = key.rpartition(".")[2]
        origin, value = cfg.origin(key), node._raw(name)
        own = origin.rpartition(":")[0] == config_file if config_file else False
        if origin == "default" or not (own or ":" not in origin) or key == "VERSION":
            continue
        if value == value_at(default, key):
            continue
        found.append((own, f"{key} {to_yaml(value)}"))
    lines = [text for _, text in sorted(found, key=lambda item: item[0])]
    more = len(lines) - SHOWN
    if more > 0:
        return [*lines[:SHOWN], f"and {more} more: lucidet config show --changed {config_file}"]
    return lines


def value_at(cfg: CfgNode, key: str) -> object:
    """Return the value of a key, None where there is no such key; it does not count as read."""
    node: object = cfg
    for name in key.split("."):
        node = node._raw(name) if isinstance(node, CfgNode) else None
    return node
