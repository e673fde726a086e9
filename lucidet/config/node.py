"""A section of a config: yacs' CfgNode with detectron2's methods, and three traps of it closed.

A misspelt or misplaced key is an error that names the nearest real one, also on ``cfg.KEY = 1``;
each value knows where it was set (:meth:`CfgNode.origin`); keys that somebody set and nothing read
are known (:meth:`CfgNode.unread_keys`). docs/decisions/001-config.md says why it is so.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, Any

import yaml

from lucidet.config import safe_yaml
from lucidet.config.files import BASE_KEY, open_config, read_config
from lucidet.config.maskrcnn_benchmark import is_maskrcnn_benchmark, translate_and_log
from lucidet.config.suggestions import mistaken_for, unknown_key, unknown_keys
from lucidet.config.tracked_node import DEFAULT, TrackedNode, state_of
from lucidet.config.values import adapt, check_valid, coerce, decode, plain, to_yaml
from lucidet.config.versions import upgraded

__all__ = ["CfgNode"]

CODE = "code"
COMMAND_LINE = "command line"

# the field's habit for functions that bring keys of their own: add_detic_config(cfg)
_DECLARING_FUNCTION = re.compile(r"(add|extend|update)\w*_(config|cfg)")
_OWN_KEY_HINT = (
    "\nIf it is a key of your own, set it in a function named add_..._config(cfg), or put it in a "
    "section of your own (cfg.MINE = CfgNode()), or call cfg.set_new_allowed(True) first."
)
_FOREIGN_KEYS_HINT = (
    "\nTake what is not meant out of the file. Keys of your own code are declared before the file "
    "is read: in a function named add_..._config(cfg), or by cfg.set_new_allowed(True)."
)


class CfgNode(TrackedNode):
    """A section of a config: a dict whose keys are also attributes.

    >>> cfg = CfgNode({"SOLVER": {"BASE_LR": 0.02, "STEPS": (60000, 80000)}})
    >>> cfg.merge_from_list(["SOLVER.BASE_LR", "0.01"])
    >>> cfg.SOLVER.BASE_LR, cfg.origin("SOLVER.BASE_LR"), cfg.origin("SOLVER.STEPS")
    (0.01, 'command line', 'default')
    >>> cfg.merge_from_list(["SOLVER.BASE_LRR", "0.01"])
    Traceback (most recent call last):
    ...
    lucidet.config.suggestions.UnknownKeyError: command line: unknown config key \
'SOLVER.BASE_LRR'; did you mean 'SOLVER.BASE_LR'?

    Args:
        init_dict: values, nested; dictionaries become sections.
        key_list: path of this node, for yacs' messages.
        new_allowed: whether merging may bring keys that aren't here.
    """

    # ---- setting -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise ValueError(f"{name!r} is a name that the config uses itself")
        if name.startswith("COMPUTED_"):
            self._set_computed(name, value)
        else:
            self._set_from_code(name, value)

    def __setitem__(self, name: str, value: Any) -> None:
        self._set_from_code(name, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys of this section, as ``cfg.KEY = value`` does."""
        for name, value in dict(*args, **kwargs).items():
            self._set_from_code(name, value)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the value of a key; it is set to `default` first where there is no such key."""
        if name not in self:
            self._set_from_code(name, default)
        return self[name]

    def _set_from_code(self, name: str, value: Any) -> None:
        key = self._path(name)
        if not isinstance(value, CfgNode):
            value = self._adapted(name, value, key)
            if state_of(self).closed and isinstance(self._raw(name), CfgNode):
                raise ValueError(f"{key} is a section of the config, got the value {value!r}")
        if name in self:
            self._store(name, value, CODE)
            return
        declaring = not state_of(self).closed or self.is_new_allowed() or _in_declaring_function()
        if not declaring and not isinstance(value, CfgNode):
            known = self._root()._known()
            if mistaken_for(key, known):
                raise unknown_key(key, known, hint=_OWN_KEY_HINT)
        self._store(name, value, CODE)
        if declaring:
            state_of(self).declared.add(name)

    def _adapted(self, name: str, value: Any, key: str) -> Any:
        """Return a value set by code in the type of lucidet's key; other keys take any type.

        Raises:
            ValueError: another type; names the key, expected and got, and how to write it.
        """
        value = plain(value)
        check_valid(value, key)
        defaults = state_of(self).defaults
        if name not in defaults:
            return value
        try:
            return adapt(value, defaults[name], key)
        except ValueError:
            if _in_declaring_function():  # a project gives the key another meaning
                return value
            raise

    def _set_computed(self, name: str, value: Any) -> None:
        """Set a value derived from others: also when frozen, but never to two different values."""
        if name in self and self._raw(name) != value:
            raise KeyError(f"{self._path(name)} was computed before, with another value")
        dict.__setitem__(self, name, value)

    def _store(self, name: str, value: Any, origin: str) -> None:
        if self.is_frozen():
            raise AttributeError(
                f"{self._path(name)} cannot be set to {value!r}: the config is frozen; "
                f"call cfg.defrost() first"
            )
        state = state_of(self)
        dict.__setitem__(self, name, value)
        state.origins[name] = origin
        state.declared.discard(name)
        state.read.discard(name)
        self._adopt(name, value)

    # ---- merging -------------------------------------------------------------------------------

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        """Open a config file; subclasses may open others than files."""
        return open_config(filename)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Return the values of a file on top of those that its ``_BASE_`` names.

        Args:
            filename: path of a YAML file.
            allow_unsafe: accepted as in detectron2; nothing that a file says is ever run.
        """
        return read_config(str(filename), cls._open_cfg).values

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Set the keys that a YAML file, with its ``_BASE_`` chain, gives.

        A file in maskrcnn-benchmark's or the ATSS authors' names is translated first.

        Raises:
            ValueError: an unknown key, a value of another type, or YAML that is refused; the
                message begins with the file and line.
        """
        content = upgraded(read_config(str(cfg_filename), self._open_cfg), str(cfg_filename))
        if state_of(self).closed and is_maskrcnn_benchmark(content.values, self._known()):
            content = translate_and_log(content, str(cfg_filename))
        unknown = list(self._unknown(content.values))
        if unknown:
            where = {key: content.origins.get(key, str(cfg_filename)) for key in unknown}
            raise unknown_keys(where, self._known(), str(cfg_filename), _FOREIGN_KEYS_HINT)
        self._merge(content.values, lambda key: content.origins.get(key, str(cfg_filename)))

    def merge_from_other_cfg(self, cfg_other: CfgNode | Mapping[str, Any]) -> None:
        """Set the keys that another config holds, and copy their origins."""
        if not isinstance(cfg_other, CfgNode):
            cfg_other = CfgNode(cfg_other)
        if BASE_KEY in cfg_other:
            raise ValueError(f"{BASE_KEY} is read from files only: use merge_from_file")

        def origin(key: str) -> str:
            found = cfg_other.origin(key)
            return CODE if found == DEFAULT else found

        self._merge(cfg_other, origin)

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Set keys from ``["KEY", value, ...]``, as the command line gives them.

        Texts are read as Python literals: ``["INPUT.MIN_SIZE_TRAIN", "(600, 800)"]``.
        """
        if len(cfg_list) % 2:
            raise ValueError(
                f"overrides come in pairs KEY VALUE, got {len(cfg_list)} items: {list(cfg_list)}"
            )
        for key, value in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            if BASE_KEY in str(key).split("."):
                raise ValueError(f"{BASE_KEY} is read from files only, not from overrides")
            nested: Any = value
            for name in reversed(str(key).split(".")):
                nested = {name: nested}
            self._merge(nested, lambda _: COMMAND_LINE)

    def _merge(self, new: Mapping[str, Any], origin: Callable[[str], str], path: str = "") -> None:
        """Set the values of `new`; `path` is this node's place in the tree being merged."""
        for name, raw in new._items() if isinstance(new, CfgNode) else new.items():
            relative = f"{path}{name}"
            if not isinstance(name, str):
                raise ValueError(f"{origin(relative)}: a key must be a name, got {name!r}")
            if name not in self and not self._accepts(name, origin(relative)):
                continue
            old = self._raw(name)
            if isinstance(raw, Mapping):
                if not isinstance(old, CfgNode):
                    old = self._new_section(name, old, origin(relative))
                old._merge(raw, origin, f"{relative}.")
            elif isinstance(old, CfgNode):
                if raw is not None:  # `SOLVER:` with nothing below it sets nothing
                    raise ValueError(
                        f"{origin(relative)}: {self._path(name)} is a section, got {raw!r}"
                    )
            else:
                value = coerce(copy.deepcopy(raw), old, self._path(name), origin(relative))
                self._store(name, value, origin(relative))

    def _unknown(self, new: Mapping[Any, Any], path: str = "") -> Iterator[str]:
        """Yield the keys of `new` that merging it would refuse."""
        root = self._root()
        for name, value in new.items():
            below = self._raw(name)
            if name in self:
                if isinstance(value, Mapping) and isinstance(below, CfgNode):
                    yield from below._unknown(value, f"{path}{name}.")
            elif isinstance(name, str) and not self.is_new_allowed():
                key = self._path(name)
                if not root.key_is_deprecated(key) and not root.key_is_renamed(key):
                    yield f"{path}{name}"

    def _accepts(self, name: str, where: str) -> bool:
        """Return whether merging may bring the new key `name`; raise where it is unknown."""
        key, root = self._path(name), self._root()
        if self.is_new_allowed():
            return True
        if root.key_is_deprecated(key):
            return False
        if root.key_is_renamed(key):
            root.raise_key_rename_error(key)
        raise unknown_key(key, root._known(), where)

    def _new_section(self, name: str, old: Any, where: str) -> CfgNode:
        if name in self and old is not None:
            raise ValueError(f"{where}: {self._path(name)} is a value ({old!r}), got a section")
        section = type(self)(new_allowed=self.is_new_allowed())
        self._store(name, section, where)
        return section

    # ---- whole trees ---------------------------------------------------------------------------

    def dump(self, **kwargs: Any) -> str:
        """Return the config as YAML; loading it gives an equal config.

        Args:
            **kwargs: of `yaml.safe_dump`.
        """

        def plain(node: CfgNode) -> dict[str, Any]:
            return {
                name: plain(value) if isinstance(value, CfgNode) else to_yaml(value)
                for name, value in node._items()
            }

        return yaml.safe_dump(plain(self), **kwargs)

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        return cls(value) if isinstance(value, dict) else decode(value)

    @classmethod
    def _load_cfg_from_yaml_str(cls, str_obj: str) -> CfgNode:
        return cls(safe_yaml.load(str_obj).values)

    @classmethod
    def _load_cfg_py_source(cls, filename: str) -> CfgNode:
        raise ValueError(f"{filename}: Python files are not run to read a config; use YAML")


def _in_declaring_function() -> bool:
    """Return whether a function such as ``add_detic_config`` is among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _DECLARING_FUNCTION.match(frame.f_code.co_name):
            return True
        frame = frame.f_back
    return False
