"""Name -> object tables, through which configs choose components.

Names and behaviour as `detectron2.utils.registry` (which re-exports fvcore's); an unknown name is
answered with the nearest one that exists.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

T = TypeVar("T")


class UnknownNameError(KeyError, ValueError):
    """A name that a registry doesn't hold. A KeyError, as callers of detectron2 expect.

    Args:
        message: what is wrong.
        name: the name.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


def nearest_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` of `known` that look like `name`, best first, ignoring case.

    >>> nearest_names("RetinaNett", ["RetinaNet", "FCOS"])
    ['RetinaNet']
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.6)
    return [by_lower[c] for c in close]


class Registry:
    """A table of named classes or functions.

    >>> HEADS = Registry("ROI_HEADS")
    >>> @HEADS.register()
    ... class TinyHeads: ...
    >>> HEADS.get("TinyHeads") is TinyHeads
    True
    >>> HEADS.get("TinyHead")
    Traceback (most recent call last):
    ...
    lucidet.utils.registry.UnknownNameError: unknown ROI_HEADS 'TinyHead'; did you mean 'TinyHeads'?

    Args:
        name: what the table holds, in the words of the config (``META_ARCH``, ``BACKBONE``).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What the table holds."""
        return self._name

    @overload
    def register(self, obj: None = None) -> Callable[[T], T]: ...

    @overload
    def register(self, obj: T) -> T: ...

    def register(self, obj: Any = None) -> Any:
        """Add `obj` under its ``__name__``; without `obj`, return a decorator that does so.

        Raises:
            ValueError: another object has that name already.
        """
        if obj is None:
            return self.register
        name = obj.__name__
        # an identical object is let pass: a module may be imported under two names
        if self._obj_map.setdefault(name, obj) is not obj:
            held = self._obj_map[name]
            raise ValueError(
                f"{self._name} has a {name!r} already, from {held.__module__}; "
                f"the one from {obj.__module__} needs another name"
            )
        return obj

    def get(self, name: str) -> Any:
        """Return the object registered under `name`.

        Raises:
            UnknownNameError: (a KeyError and ValueError) nothing has that name.
        """
        try:
            return self._obj_map[name]
        except KeyError:
            raise UnknownNameError(self._unknown(name), name) from None

    def _unknown(self, name: str) -> str:
        message = f"unknown {self._name} {name!r}"
        near = nearest_names(str(name), self._obj_map)
        if near:
            return f"{message}; did you mean {near[0]!r}?"
        if not self._obj_map:
            return f"{message}; nothing is registered: import the module that defines it first"
        return f"{message}; registered are: {', '.join(sorted(self._obj_map))}"

    def __contains__(self, name: str) -> bool:
        return name in self._obj_map

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._obj_map.items())

    def __len__(self) -> int:
        return len(self._obj_map)

    def __repr__(self) -> str:
        lines = [f"Registry of {self._name}:"]
        lines += [f"  {key}: {value}" for key, value in sorted(self._obj_map.items())]
        return "\n".join(lines)


def locate(name: str) -> Any:
    """Import and return the object at the dotted path `name`; nested attributes are followed.

    >>> locate("collections.OrderedDict.fromkeys").__name__
    'fromkeys'

    Raises:
        ImportError: no such module or attribute.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ImportError(f"cannot locate {name!r}: expected a dotted path such as 'package.Class'")
    for split in range(len(parts), 0, -1):
        module_name = ".".join(parts[:split])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # a missing import *inside* an existing module is its own problem, not a wrong path
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            continue
        for attribute in parts[split:]:
            if not hasattr(found, attribute):
                raise ImportError(f"cannot locate {name!r}: {found!r} has no {attribute!r}")
            found = getattr(found, attribute)
        return found
    raise ImportError(f"cannot locate {name!r}: there is no module {parts[0]!r}")
