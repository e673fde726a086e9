"""A pickle reader for files of strangers: names, sizes, steps and keys are bounded.

A pickle is a program. Two hundred bytes of it can make a list of a billion names of one list, a key
whose hash takes years, or ask for a terabyte. Here it runs in Python's own reader, step by step,
after a first look at all its steps.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

from lucidet.checkpoint.seal import DamagedFileError
from lucidet.config.unfolded import check_unfolded

__all__ = ["Budget", "CarefulUnpickler", "RefusedPickle", "StandIns", "run_pickle"]

#: steps of one pickle; a detector's checkpoint has 50 000
_MAX_STEPS = 2_000_000
#: a memo entry beyond this is no model's, and would reserve memory before anything is read
_MAX_MEMO = 10_000_000
#: values of the result when each is written out where it is used
_MAX_VALUES = 1_000_000
_ENCODING = "latin1"  # arrays of Python 2 are strings whose characters are bytes
#: bytes that texts and arrays made by the program may have beside those of the file
_SLACK = 64 << 20

StandIns = Mapping[tuple[str, str], Any]


class RefusedPickle(ValueError):
    """A pickle that holds something other than arrays and plain containers."""


class Budget:
    """Bytes that a pickle may still make: a text of a megabyte can be encoded a million times.

    Args:
        file_size: bytes of the pickle.
    """

    def __init__(self, file_size: int) -> None:
        self._left = 4 * file_size + _SLACK

    def take(self, count: int) -> None:
        """Take `count` bytes off; raises RefusedPickle where none are left."""
        self._left -= count
        if self._left < 0:
            raise RefusedPickle("it makes far more bytes than it has")


class _Reader:
    """The bytes of a file from its present position; never asks it for more than it has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        start = file.tell()
        self.left = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    def read(self, count: int = -1) -> bytes:
        if count > self.left:
            raise EOFError(f"{count} bytes are announced, {self.left} are left")
        data = self._file.read(count)
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self._file.readline()
        self.left -= len(data)
        return data

    def tell(self) -> int:
        return self._file.tell()


def run_pickle(
    file: BinaryIO, stand_ins: StandIns, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return what one pickle makes, with stand-ins in the place of what it names.

    Args:
        file: at the pickle's first byte; afterwards behind its last.
        stand_ins: (module, name) -> object.
        persistent: takes the place of pointers to objects outside; None: they are refused.

    Raises:
        RefusedPickle: it names something else, makes too much, or uses a key that is no plain one.
        ValueError: it is truncated or no pickle.
    """
    start = file.tell()
    _scan(_Reader(file), stand_ins, persistent is not None)
    file.seek(start)
    try:
        content = CarefulUnpickler(_Reader(file), stand_ins, persistent).load()
    except (RefusedPickle, DamagedFileError):
        raise
    except (pickle.UnpicklingError, EOFError, MemoryError, RecursionError) as error:
        raise ValueError(f"truncated or damaged ({type(error).__name__}: {error})") from error
    except Exception as error:  # a hostile pickle can misuse the stand-ins in any way
        raise RefusedPickle(f"it does not describe arrays ({type(error).__name__})") from error
    try:
        check_unfolded(content, _MAX_VALUES)
    except ValueError as error:
        raise RefusedPickle(str(error)) from error
    return content


def _scan(reader: _Reader, stand_ins: StandIns, points_outside: bool) -> None:
    """Read all steps without running them; refuse names and sizes that no model needs."""
    refused = {"EXT1", "EXT2", "EXT4", "PERSID"} | (set() if points_outside else {"BINPERSID"})
    steps = 0
    try:
        for opcode, argument, _ in pickletools.genops(reader):  # type: ignore[arg-type]
            steps += 1
            if steps > _MAX_STEPS:
                raise RefusedPickle(f"it takes more than {_MAX_STEPS} steps")
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                _stand_in(module, name, stand_ins)
            elif opcode.name.endswith("PUT") and int(argument or 0) > _MAX_MEMO:
                raise RefusedPickle(f"memo entry {argument}")
            elif opcode.name in refused:
                raise RefusedPickle("it points to objects outside itself")
    except RefusedPickle:
        raise
    except (ValueError, EOFError, UnicodeDecodeError, MemoryError, IndexError) as error:
        raise ValueError(f"truncated or damaged ({error})") from error


def _stand_in(module: str, name: str, stand_ins: StandIns) -> Any:
    found = stand_ins.get((module, name))
    if found is None:
        raise RefusedPickle(f"it names {module}.{name}, which could run code")
    return found


def _check_key(key: Any, depth: int = 0) -> None:
    """Refuse keys whose hash could take for ever: tuples of tuples of one tuple."""
    if key is None or isinstance(key, (str, bytes, int, float)):
        return
    if not isinstance(key, tuple) or depth > 1 or len(key) > 16:
        raise RefusedPickle(f"a key that is a {type(key).__name__}")
    for part in key:
        _check_key(part, depth + 1)


class CarefulUnpickler(pickle._Unpickler):
    """Python's own reader with bounded keys, and no way into objects but `__setstate__`.

    Args:
        file: of the pickle.
        stand_ins: (module, name) -> object.
        persistent: takes the place of pointers to objects outside.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(
        self, file: Any, stand_ins: StandIns, persistent: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(file, encoding=_ENCODING)
        self._stand_ins = stand_ins
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        return _stand_in(module, name, self._stand_ins)

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise RefusedPickle("it points to objects outside itself")
        return self._persistent(pid)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def _set_items(self) -> None:
        self._put(self.pop_mark())  # type: ignore[attr-defined]

    def _put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise RefusedPickle(f"items that are put into a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key)
            target[key] = value

    def _dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append({})
        self._put(items)

    def _add_items(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        target = self.stack[-1]
        if type(target) is not set:
            raise RefusedPickle(f"items that are added to a {type(target).__name__}")
        for item in items:
            _check_key(item)
        target.update(items)

    def _frozen_set(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        for item in items:
            _check_key(item)
        self.stack.append(frozenset(items))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, type):
            raise RefusedPickle(f"it changes {target.__name__}")
        if type(target) in (dict, OrderedDict):
            return  # attributes such as `_metadata` of a state dict
        if not hasattr(type(target), "__setstate__"):
            raise RefusedPickle(f"it gives a state to a {type(target).__name__}")
        target.__setstate__(state)

    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.ADDITEMS[0]] = _add_items
    dispatch[pickle.FROZENSET[0]] = _frozen_set
    dispatch[pickle.BUILD[0]] = _build


def plain_set(items: Any = ()) -> set[Any]:
    """Stand in for set and frozenset."""
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise RefusedPickle(f"a set of a {type(items).__name__}")
    for item in items:
        _check_key(item)
    return set(items)


def ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    """Stand in for OrderedDict, of nothing or of pairs."""
    items = list(pairs.items()) if type(pairs) in (dict, OrderedDict) else pairs
    if not isinstance(items, (list, tuple)):
        raise RefusedPickle(f"an OrderedDict of a {type(pairs).__name__}")
    for key, _ in items:
        _check_key(key)
    return OrderedDict(items)


def encoder(budget: Budget) -> Callable[..., bytes]:
    """Return a stand-in for `_codecs.encode`: text to the bytes that Python 2 meant by it."""

    def encode(text: Any, encoding: Any = _ENCODING) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "bytes"):
            raise RefusedPickle(f"text encoded as {encoding!r:.40}")
        budget.take(len(text))
        return text.encode(_ENCODING)

    return encode
