"""The config tree: yacs' CfgNode with detectron2's methods, and three traps of it closed.

A misspelt or misplaced key is an error that names the nearest real one, also on ``cfg.KEY = 1``;
each value knows where it was set (:meth:`CfgNode.origin`); keys that somebody set and nothing read
are known (:meth:`CfgNode.unread_keys`). docs/decisions/001-config.md says why it is so.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import yaml
from yacs.config import CfgNode as _YacsNode

from lucidet.config import safe_yaml
from lucidet.config.files import BASE_KEY, ConfigContent, read_config
from lucidet.config.suggestions import UnknownKeyError, mistaken_for, unknown_key
from lucidet.config.values import check_valid, coerce, decode, to_yaml

__all__ = ["CfgNode", "UnknownKeyError", "get_cfg", "global_cfg", "set_global_cfg"]

VERSION = 2
DEFAULT = "default"
CODE = "code"
COMMAND_LINE = "command line"

_STATE = "__lucidet__"
_YACS_STATE = ("__immutable__", "__deprecated_keys__", "__renamed_keys__", "__new_allowed__")
# the field's habit for functions that bring keys of their own: add_detic_config(cfg)
_DECLARING_FUNCTION = re.compile(r"(add|extend|update)\w*_(config|cfg)")
_OWN_KEY_HINT = (
    "\nIf it is a key of your own, set it in a function named add_..._config(cfg), or put it in a "
    "section of your own (cfg.MINE = CfgNode()), or call cfg.set_new_allowed(True) first."
)


@dataclass
class _State:
    """What a node knows beside its values; all names are those of its own children."""

    parent: CfgNode | None = None
    name: str = ""
    # a section of lucidet's own: new names are suspicious in it
    closed: bool = False
    # where a value was set, unless it is the default
    origins: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    # keys that user code brought, with their first value
    declared: set[str] = field(default_factory=set)
    # the node that this one was cloned from: what is read here is read there
    source: CfgNode | None = None


class CfgNode(_YacsNode):
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

    def __init__(
        self,
        init_dict: Mapping[str, Any] | None = None,
        key_list: list[str] | None = None,
        new_allowed: bool = False,
    ) -> None:
        self.__dict__[_STATE] = _State()
        super().__init__(init_dict, key_list, new_allowed)
        for name, value in dict.items(self):
            self._adopt(name, value)

    # ---- reading -------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name.startswith("_"):  # Python and its libraries ask for such names
            raise AttributeError(name)
        raise unknown_key(self._path(name), self._root()._known())

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise unknown_key(self._path(name), self._root()._known())
        self._note_read(name)
        return dict.__getitem__(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a key of this section, or `default` where there is no such key."""
        return self[name] if name in self else default

    def origin(self, key: str) -> str:
        """Return where a value was set: "default", "FILE:LINE", "command line" or "code".

        Args:
            key: path from this node: ``SOLVER.BASE_LR``. For a section, the different origins of
                its values, sorted and joined by ", ".
        """
        node, name = self._find(key)
        value = dict.__getitem__(node, name)
        if isinstance(value, CfgNode):
            return ", ".join(sorted({value.origin(below) for below, _ in value._leaves()}))
        return _state(node).origins.get(name, DEFAULT)

    def unread_keys(self) -> list[str]:
        """Return the keys that were set (not the defaults) and that nothing has read since.

        Read means ``cfg.A.B``, ``cfg["A"]["B"]`` or ``cfg.A.get("B")``, here or on a clone made
        from this config; dumping, comparing and printing is not reading.
        """
        unread = []
        for key, node in self._leaves():
            state, name = _state(node), key.rpartition(".")[2]
            if name in state.origins and name not in state.read | state.declared:
                unread.append(key)
        return sorted(unread)

    def mark_read(self, key: str) -> None:
        """Let a key, or all keys of a section, count as read."""
        node, name = self._find(key)
        value = dict.__getitem__(node, name)
        if isinstance(value, CfgNode):
            for below, _ in value._leaves():
                value.mark_read(below)
        else:
            node._note_read(name)

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
        key, state = self._path(name), _state(self)
        if not isinstance(value, CfgNode):
            check_valid(value, key)
            if isinstance(dict.get(self, name), CfgNode):
                raise ValueError(f"{key} is a section of the config, got the value {value!r}")
        known = name in self
        if not known and state.closed and not isinstance(value, CfgNode):
            self._check_new_key(key)
        self._store(name, value, CODE)
        if not known:
            state.declared.add(name)
            if state.closed and not self.is_new_allowed() and not _in_declaring_function():
                state.declared.discard(name)  # reported if nothing reads it

    def _check_new_key(self, key: str) -> None:
        """Refuse a new key in one of lucidet's sections that looks like one of lucidet's keys."""
        if self.is_new_allowed() or _in_declaring_function():
            return
        known = self._root()._known()
        if mistaken_for(key, known):
            raise unknown_key(key, known, hint=_OWN_KEY_HINT)

    def _set_computed(self, name: str, value: Any) -> None:
        """Set a value derived from others: also when frozen, but never to two different values."""
        if name in self and dict.__getitem__(self, name) != value:
            raise KeyError(f"{self._path(name)} was computed before, with another value")
        dict.__setitem__(self, name, value)

    def _store(self, name: str, value: Any, origin: str) -> None:
        if self.is_frozen():
            raise AttributeError(
                f"{self._path(name)} cannot be set to {value!r}: the config is frozen; "
                f"call cfg.defrost() first"
            )
        state = _state(self)
        dict.__setitem__(self, name, value)
        state.origins[name] = origin
        state.declared.discard(name)
        state.read.discard(name)
        self._adopt(name, value)

    # ---- merging -------------------------------------------------------------------------------

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        """Open a config file; subclasses may open others than files."""
        return open(filename, encoding="utf-8")

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
        from lucidet.config import dialect

        content = read_config(str(cfg_filename), self._open_cfg)
        if dialect.is_dialect(content.values):
            content = dialect.translate(content, str(cfg_filename)).content
        _check_version(content, str(cfg_filename))
        self._merge(content.values, lambda key: content.origins.get(key, str(cfg_filename)))

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        """Set the keys that another config holds; their origins come along."""
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
        for name, raw in dict.items(new):  # type: ignore[arg-type]
            relative = f"{path}{name}"
            if not isinstance(name, str):
                raise ValueError(f"{origin(relative)}: a key must be a name, got {name!r}")
            if name not in self and not self._accepts(name, origin(relative)):
                continue
            old = dict.get(self, name)
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
                for name, value in dict.items(node)
            }

        return yaml.safe_dump(plain(self), **kwargs)

    def clone(self) -> CfgNode:
        """Return a copy with the same values, origins and freezing."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> CfgNode:
        state = _state(self)
        values = {name: copy.deepcopy(value, memo) for name, value in dict.items(self)}
        return _rebuilt(type(self), values, _yacs_state(self), _kept(state, source=self))

    __copy__ = clone

    def __reduce__(self) -> tuple[Any, ...]:
        values = dict(dict.items(self))
        return _rebuilt, (type(self), values, _yacs_state(self), _kept(_state(self)))

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        return cls(value) if isinstance(value, dict) else decode(value)

    @classmethod
    def _load_cfg_from_yaml_str(cls, str_obj: str) -> CfgNode:
        return cls(safe_yaml.load(str_obj).values)

    @classmethod
    def _load_cfg_py_source(cls, filename: str) -> CfgNode:
        raise ValueError(f"{filename}: Python files are not run to read a config; use YAML")

    # ---- the tree around a node ----------------------------------------------------------------

    def _adopt(self, name: str, value: Any) -> None:
        if isinstance(value, CfgNode):
            _state(value).parent, _state(value).name = self, name

    def _path(self, name: str) -> str:
        """Return the dotted path of a key of this node, from the root."""
        state = _state(self)
        return name if state.parent is None else f"{state.parent._path(state.name)}.{name}"

    def _root(self) -> CfgNode:
        parent = _state(self).parent
        return self if parent is None else parent._root()

    def _find(self, key: str) -> tuple[CfgNode, str]:
        """Return the node that holds `key`, a path from here, and the key's name in it."""
        *sections, name = key.split(".")
        node: Any = self
        for section in sections:
            node = dict.get(node, section) if isinstance(node, CfgNode) else None
        if not isinstance(node, CfgNode) or name not in node:
            raise unknown_key(key, self._known())
        return node, name

    def _leaves(self) -> Iterator[tuple[str, CfgNode]]:
        """Yield each value's path from here, and its node."""
        for name, value in dict.items(self):
            if isinstance(value, CfgNode):
                yield from ((f"{name}.{below}", node) for below, node in value._leaves())
            else:
                yield name, self

    def _known(self) -> list[str]:
        """Return the paths from here of all sections and values."""
        known: list[str] = []
        for name, value in dict.items(self):
            known.append(name)
            if isinstance(value, CfgNode):
                known.extend(f"{name}.{below}" for below in value._known())
        return known

    def _note_read(self, name: str) -> None:
        node: CfgNode | None = self
        while node is not None:
            _state(node).read.add(name)
            node = _state(node).source

    def _close(self) -> None:
        """Make this tree lucidet's own: its values are the defaults, new keys are suspicious."""
        state = _state(self)
        self.__dict__[_STATE] = _State(state.parent, state.name, closed=True)
        for value in dict.values(self):
            if isinstance(value, CfgNode):
                value._close()


def _state(node: CfgNode) -> _State:
    return node.__dict__[_STATE]


def _yacs_state(node: CfgNode) -> dict[str, Any]:
    return {name: copy.copy(node.__dict__[name]) for name in _YACS_STATE}


def _kept(state: _State, source: CfgNode | None = None) -> _State:
    """Return a copy of `state` for a copy of its node, outside the tree."""
    return _State(
        closed=state.closed,
        origins=dict(state.origins),
        read=set(state.read),
        declared=set(state.declared),
        source=source,
    )


def _rebuilt(
    cls: type[CfgNode], values: dict[str, Any], yacs_state: dict[str, Any], state: _State
) -> CfgNode:
    node = cls()
    node.__dict__[_STATE] = state
    for name, value in values.items():
        dict.__setitem__(node, name, value)
        node._adopt(name, value)
    node.__dict__.update(yacs_state)
    return node


def _in_declaring_function() -> bool:
    """Return whether a function such as ``add_detic_config`` is among the callers."""
    frame = sys._getframe(1)
    while frame is not None:
        if _DECLARING_FUNCTION.match(frame.f_code.co_name):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _check_version(content: ConfigContent, filename: str) -> None:
    version = content.values.get("VERSION", VERSION)
    if version != VERSION:
        raise ValueError(
            f"{content.origins.get('VERSION', filename)}: VERSION is {version!r}; lucidet reads "
            f"detectron2's version {VERSION}, whose keys have other names: bring the file to it"
        )


global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """Return a config with every default, to change, merge into and freeze."""
    from lucidet.config.defaults import _C

    cfg = _C.clone()
    cfg._close()
    return cfg


def set_global_cfg(cfg: CfgNode) -> None:
    """Let ``lucidet.config.global_cfg`` hold the values of `cfg`; for quick experiments."""
    dict.clear(global_cfg)
    for name, value in dict.items(cfg):
        dict.__setitem__(global_cfg, name, value)
