"""A config node that knows its place, where its values were set, and which of them were read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from yacs.config import CfgNode as _YacsNode

from lucidet.config.suggestions import unknown_key

DEFAULT = "default"

_STATE = "__lucidet__"
_YACS_STATE = ("__immutable__", "__deprecated_keys__", "__renamed_keys__", "__new_allowed__")
Node = TypeVar("Node", bound="TrackedNode")


@dataclass
class _State:
    """What a node knows beside its values; all names are those of its own children."""

    parent: TrackedNode | None = None
    name: str = ""
    # a section of lucidet's own: new names are suspicious in it
    closed: bool = False
    # of such a section: the values it was closed with, whose types are expected
    defaults: dict[str, Any] = field(default_factory=dict)
    # where a value was set, unless it is the default
    origins: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    # keys that user code brought, with their first value
    declared: set[str] = field(default_factory=set)
    # the node that this one was cloned from: what is read here is read there
    source: TrackedNode | None = None


class TrackedNode(_YacsNode):
    """yacs' CfgNode with origins and reads; :class:`lucidet.config.CfgNode` adds setting rules."""

    def __init__(
        self,
        init_dict: Mapping[str, Any] | None = None,
        key_list: list[str] | None = None,
        new_allowed: bool = False,
    ) -> None:
        self.__dict__[_STATE] = _State()
        super().__init__(init_dict, key_list, new_allowed)
        for name, value in self._items():
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
        return self[name] if name in self else default  # noqa: SIM401 - self.get is this

    def origin(self, key: str) -> str:
        """Return where a value was set: "default", "FILE:LINE", "command line" or "code".

        Args:
            key: path from this node: ``SOLVER.BASE_LR``. For a section, the different origins of
                its values, sorted and joined by ", ".
        """
        node, name = self._find(key)
        value = node._raw(name)
        if isinstance(value, TrackedNode):
            return ", ".join(sorted({value.origin(below) for below, _ in value._leaves()}))
        return state_of(node).origins.get(name, DEFAULT)

    def unread_keys(self) -> list[str]:
        """Return the keys that were set (not the defaults) and that nothing has read since.

        Read means ``cfg.A.B``, ``cfg["A"]["B"]`` or ``cfg.A.get("B")``, here or on a clone made
        from this config; dumping, comparing and printing is not reading.
        """
        unread = []
        for key, node in self._leaves():
            state, name = state_of(node), key.rpartition(".")[2]
            if name in state.origins and name not in state.read | state.declared:
                unread.append(key)
        return sorted(unread)

    def mark_read(self, key: str) -> None:
        """Let a key, or all keys of a section, count as read."""
        node, name = self._find(key)
        value = node._raw(name)
        if isinstance(value, TrackedNode):
            for below, _ in value._leaves():
                value.mark_read(below)
        else:
            node._note_read(name)

    # ---- copies --------------------------------------------------------------------------------

    def clone(self: Node) -> Node:
        """Return a copy with the same values, origins and freezing."""
        return copy.deepcopy(self)

    def __deepcopy__(self: Node, memo: dict[int, Any]) -> Node:
        values = {name: copy.deepcopy(value, memo) for name, value in self._items()}
        return _rebuilt(type(self), values, _yacs_state(self), _kept(self, source=self))

    __copy__ = clone

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), dict(self._items()), _yacs_state(self), _kept(self))

    # ---- the tree around a node ----------------------------------------------------------------

    def _items(self) -> list[tuple[str, Any]]:
        """Return names and values, without counting as a reader of them."""
        return list(dict.items(self))

    def _raw(self, name: str) -> Any:
        """Return a value, or None where there is none, without counting as its reader."""
        return dict.get(self, name)

    def _adopt(self, name: str, value: Any) -> None:
        if isinstance(value, TrackedNode):
            state_of(value).parent, state_of(value).name = self, name

    def _path(self, name: str) -> str:
        """Return the dotted path of a key of this node, from the root."""
        state = state_of(self)
        return name if state.parent is None else f"{state.parent._path(state.name)}.{name}"

    def _root(self) -> TrackedNode:
        parent = state_of(self).parent
        return self if parent is None else parent._root()

    def _find(self, key: str) -> tuple[TrackedNode, str]:
        """Return the node that holds `key`, a path from here, and the key's name in it."""
        *sections, name = key.split(".")
        node: Any = self
        for section in sections:
            node = node._raw(section) if isinstance(node, TrackedNode) else None
        if not isinstance(node, TrackedNode) or name not in node:
            raise unknown_key(key, self._known())
        return node, name

    def _leaves(self) -> Iterator[tuple[str, TrackedNode]]:
        """Yield each value's path from here, and its node."""
        for name, value in self._items():
            if isinstance(value, TrackedNode):
                yield from ((f"{name}.{below}", node) for below, node in value._leaves())
            else:
                yield name, self

    def _known(self) -> list[str]:
        """Return the paths from here of all sections and values."""
        known: list[str] = []
        for name, value in self._items():
            known.append(name)
            if isinstance(value, TrackedNode):
                known.extend(f"{name}.{below}" for below in value._known())
        return known

    def _note_read(self, name: str) -> None:
        node: TrackedNode | None = self
        while node is not None:
            state_of(node).read.add(name)
            node = state_of(node).source

    def _close(self) -> None:
        """Make this tree lucidet's own: its values are the defaults, new keys are suspicious."""
        state = state_of(self)
        defaults = {}
        for name, value in self._items():
            if isinstance(value, TrackedNode):
                value._close()
            else:
                defaults[name] = copy.deepcopy(value)
        self.__dict__[_STATE] = _State(state.parent, state.name, closed=True, defaults=defaults)


def state_of(node: TrackedNode) -> _State:
    """Return what `node` knows beside its values."""
    return node.__dict__[_STATE]


def _yacs_state(node: TrackedNode) -> dict[str, Any]:
    return {name: copy.copy(node.__dict__[name]) for name in _YACS_STATE}


def _kept(node: TrackedNode, source: TrackedNode | None = None) -> _State:
    """Return the state of a copy of `node`, whose parent is not known yet."""
    state = state_of(node)
    return _State(
        closed=state.closed,
        defaults=state.defaults,
        origins=dict(state.origins),
        read=set(state.read),
        declared=set(state.declared),
        source=source,
    )


def _rebuilt(
    cls: type[Node], values: dict[str, Any], yacs_state: dict[str, Any], state: _State
) -> Node:
    node = cls()
    node.__dict__[_STATE] = state
    for name, value in values.items():
        dict.__setitem__(node, name, value)
        node._adopt(name, value)
    node.__dict__.update(yacs_state)
    return node
