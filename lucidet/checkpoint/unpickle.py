"""Read pickles of arrays and plain containers without running anything that they name.

detectron2's and Detectron's ``.pkl`` files are pickles of numpy arrays. A pickle is a program that
may call any function it names; here it gets stand-ins for the few that arrays need, and whatever
else it names is refused before the first step runs.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RefusedPickle", "load_pickle"]

#: kinds of dtype that are plain numbers: bool, integers, floats, complex
_NUMBERS = "biufc"
#: a memo entry beyond this is no model's, and would reserve memory before anything is read
_MAX_MEMO = 10_000_000
_ENCODING = "latin1"  # arrays of Python 2 are strings whose characters are bytes


class RefusedPickle(ValueError):
    """A pickle that names something other than arrays and plain containers."""


class _Dtype:
    """Stands in for numpy.dtype: keeps what the pickle says, makes the dtype when asked."""

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        dtype = np.dtype(str(code))  # numbers and the like only: text cannot name a class
        if dtype.kind not in _NUMBERS:
            raise RefusedPickle(f"an array of dtype {code!r}; only numbers are admitted")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray: bytes, a shape and a dtype that have to fit each other."""

    def __init__(self) -> None:
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedPickle("an array whose state is not (version, shape, dtype, order, bytes)")
        _, shape, dtype, fortran, raw = state
        self.array = _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise RefusedPickle("an array without a dtype")
    data = raw.encode(_ENCODING) if isinstance(raw, str) else raw
    if not isinstance(data, (bytes, bytearray)):
        raise RefusedPickle(f"an array whose content is a {type(raw).__name__}, not bytes")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise RefusedPickle(f"an array of shape {shape!r}")
    expected = math.prod(sizes) * dtype.dtype.itemsize
    if expected != len(data):
        raise RefusedPickle(
            f"an array of shape {sizes} and {dtype.dtype} needs {expected} bytes, has {len(data)}"
        )
    array = np.frombuffer(data, dtype.dtype).reshape(sizes, order="F" if order == "F" else "C")
    return array.astype(dtype.dtype.newbyteorder("="))


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _from_bytes(raw, dtype, shape, order)


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    return _from_bytes(raw, dtype, ())[()].item()


def _encode(text: Any, encoding: Any = _ENCODING) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "bytes"):
        raise RefusedPickle(f"text encoded as {encoding!r}")
    return text.encode(_ENCODING)


def _bytes(*content: Any) -> bytes:
    if content:
        raise RefusedPickle("bytes made of other objects")
    return b""


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[(f"{_core}.multiarray", "_reconstruct")] = _reconstruct
    _STAND_INS[(f"{_core}.multiarray", "scalar")] = _scalar
    _STAND_INS[(f"{_core}.numeric", "_frombuffer")] = _from_buffer
for _module in ("builtins", "__builtin__"):
    _STAND_INS[(_module, "set")] = set
    _STAND_INS[(_module, "frozenset")] = frozenset


class _Unpickler(pickle.Unpickler):
    """Resolves names to the stand-ins only."""

    def find_class(self, module: str, name: str) -> Any:
        return _stand_in(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickle("it points to objects outside itself")


def _stand_in(module: str, name: str) -> Callable[..., Any]:
    found = _STAND_INS.get((module, name))
    if found is None:
        raise RefusedPickle(f"it names {module}.{name}, which could run code")
    return found


def load_pickle(path: Path) -> Any:
    """Return the content of a pickle: containers, text, numbers and arrays.

    Raises:
        RefusedPickle: it names anything else; nothing has run then.
        ValueError: it is truncated or no pickle.
    """
    _scan(path)
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding=_ENCODING).load()
    except RefusedPickle:
        raise
    except (pickle.UnpicklingError, EOFError, MemoryError, RecursionError) as error:
        raise ValueError(f"truncated or damaged ({type(error).__name__}: {error})") from error
    except Exception as error:  # a hostile pickle can misuse the stand-ins in any way
        raise RefusedPickle(f"it does not describe arrays ({type(error).__name__})") from error
    return _plain(content)


def _scan(path: Path) -> None:
    """Read all opcodes without running them; refuse names and sizes that no model needs."""
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    module, _, name = str(argument).partition(" ")
                    _stand_in(module, name)
                elif opcode.name.endswith("PUT") and int(argument or 0) > _MAX_MEMO:
                    raise RefusedPickle(f"memo entry {argument}")
                elif opcode.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"):
                    raise RefusedPickle("it points to objects outside itself")
    except RefusedPickle:
        raise
    except (ValueError, EOFError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError(f"truncated or damaged ({error})") from error


def _plain(value: Any, depth: int = 0) -> Any:
    """Put arrays in the place of the stand-ins, in containers down to the usual depth."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Dtype):
        return str(value.dtype)
    if depth > 6:  # deeper than any checkpoint; a container may hold itself
        return value
    if isinstance(value, dict):
        return {k: _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(v, depth + 1) for v in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value
