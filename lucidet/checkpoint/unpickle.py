"""Read pickles of arrays and plain containers without running anything that they name.

detectron2's and Detectron's ``.pkl`` files are pickles of numpy arrays. A pickle is a program that
may call any function it names; here it gets stand-ins for the few that arrays need, and whatever
else it names is refused before the first step runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lucidet._regular_file import open_regular
from lucidet.checkpoint.careful_unpickler import (
    Budget,
    RefusedPickle,
    encoder,
    ordered_dict,
    plain_set,
    run_pickle,
)

__all__ = ["RefusedPickle", "as_arrays", "load_pickle", "numpy_globals", "numpy_stand_ins"]

#: kinds of dtype that are plain numbers: bool, integers, floats, complex
_NUMBERS = "biufc"


class _Dtype:
    """Stands in for numpy.dtype: keeps what the pickle says, makes the dtype when asked."""

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        text = code if isinstance(code, (str, bytes)) else ""
        dtype = np.dtype(text[:20] if isinstance(text, str) else text[:20].decode("latin1"))
        if dtype.kind not in _NUMBERS:
            raise RefusedPickle(f"an array of dtype {code!r:.40}; only numbers are admitted")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray: bytes, a shape and a dtype that have to fit each other."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedPickle("an array whose state is not (version, shape, dtype, order, bytes)")
        _, shape, dtype, fortran, raw = state
        self.array = _from_bytes(self._budget, raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(budget: Budget, raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise RefusedPickle("an array without a dtype")
    if not isinstance(raw, (str, bytes, bytearray)):
        raise RefusedPickle(f"an array whose content is a {type(raw).__name__}, not bytes")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if len(sizes) > 32 or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise RefusedPickle(f"an array of shape {shape!r:.60}")
    expected = math.prod(sizes) * dtype.dtype.itemsize
    if expected != len(raw):
        raise RefusedPickle(
            f"an array of shape {sizes} and {dtype.dtype} needs {expected} bytes, has {len(raw)}"
        )
    budget.take(expected)
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    array = np.frombuffer(data, dtype.dtype).reshape(sizes, order="F" if order == "F" else "C")
    return array.astype(dtype.dtype.newbyteorder("="))


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    return _from_bytes(Budget(0), raw, dtype, ())[()].item()


def _bytes(*content: Any) -> bytes:
    if content:
        raise RefusedPickle("bytes made of other objects")
    return b""


def _array_class(*_: Any) -> None:
    raise RefusedPickle("an array that is not made by numpy's _reconstruct")


def _stand_ins(budget: Budget) -> dict[tuple[str, str], Any]:
    def reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
        return _Array(budget)

    def from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        return _from_bytes(budget, raw, dtype, shape, order)

    found: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _array_class,
        ("numpy", "dtype"): _Dtype,
        ("collections", "OrderedDict"): ordered_dict,
        ("_codecs", "encode"): encoder(budget),
    }
    for core in ("numpy.core", "numpy._core"):
        found[(f"{core}.multiarray", "_reconstruct")] = reconstruct
        found[(f"{core}.multiarray", "scalar")] = _scalar
        found[(f"{core}.numeric", "_frombuffer")] = from_buffer
    for module in ("builtins", "__builtin__"):
        found[(module, "set")] = found[(module, "frozenset")] = plain_set
        found[(module, "bytes")] = _bytes
    return found


def numpy_stand_ins(budget: Budget) -> dict[tuple[str, str], Any]:
    """Return what stands in for NumPy's names in a pickle; :func:`as_arrays` completes the result.

    Args:
        budget: of the file.
    """
    found = _stand_ins(budget)
    return {names: value for names, value in found.items() if names[0].split(".")[0] == "numpy"}


def numpy_globals(file_size: int) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return the same for ``torch.serialization.safe_globals``."""
    found = numpy_stand_ins(Budget(file_size))
    return [_Array, *((value, ".".join(names)) for names, value in found.items())]


def as_arrays(content: Any) -> Any:
    """Return loaded content with arrays in the place of their stand-ins."""
    return _plain(content)


def load_pickle(path: Path) -> Any:
    """Return the content of a pickle: containers, text, numbers and arrays.

    Raises:
        RefusedPickle: it names anything else (nothing has run then), or makes far more than a
            model needs.
        ValueError: it is truncated or no pickle.
    """
    with open_regular(path, "weights") as file:
        return _plain(run_pickle(file, _stand_ins(Budget(path.stat().st_size))))


def _plain(value: Any) -> Any:
    """Put arrays in the place of the stand-ins; `run_pickle` has bounded size and depth."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Dtype):
        return str(value.dtype)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(v) for v in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value
