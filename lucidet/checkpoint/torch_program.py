"""Check the pickle inside a file of torch.save before torch runs it.

torch's loader with ``weights_only=True`` calls nothing that could run code, but it takes sizes as
they are: a storage may be larger than its bytes in the file, a tensor may show one number a billion
times. Here the pickle runs with stand-ins that only note and compare.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from lucidet.checkpoint.careful_unpickler import (
    Budget,
    RefusedPickle,
    encoder,
    ordered_dict,
    plain_set,
    run_pickle,
)
from lucidet.checkpoint.seal import DamagedFileError
from lucidet.checkpoint.unpickle import numpy_stand_ins

__all__ = ["check_old_file", "check_program"]

#: bytes of all tensors, for each byte of the storages that they share
_MAX_SHARING = 8
_SLACK = 16 << 20
_OLD_HEADS = 3  # pickles before the content in a file of torch before 1.6: magic, version, system

_BYTES = {
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Int": 4, "Long": 8, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


@dataclass(frozen=True)
class _Itemsize:
    """Stands in for a storage class or a dtype: bytes of one number."""

    value: int


@dataclass(frozen=True)
class _Storage:
    nbytes: int
    itemsize: int


class _Tensor:
    """Stands in for a tensor or what has been made of one."""

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickle("it changes a tensor")


class _Checks:
    """One run of a program.

    Args:
        sizes: bytes of each storage in the file; None: they are not known, their sum is.
        file_size: bytes of the file.
    """

    def __init__(self, sizes: Mapping[str, int] | None, file_size: int) -> None:
        self._sizes = sizes
        self._file_size = file_size
        self._stored: dict[str, int] = {}
        self._bytes = 0  # of all storages
        self._shown = 0  # of all tensors
        self._budget = Budget(file_size)

    def persistent(self, pid: Any) -> _Storage:
        """Return the storage that a program points to, compared with the file."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise RefusedPickle("it points to objects that are no tensors")
        _, kind, key, _, count = pid[:5]
        if not isinstance(kind, _Itemsize) or not isinstance(key, str) or not _is_count(count):
            raise RefusedPickle("a storage without kind, name or size")
        nbytes = count * kind.value
        if self._sizes is not None and self._sizes.get(key) != nbytes:
            raise DamagedFileError(
                f"storage {key!r:.40} should have {nbytes} bytes, the file has "
                f"{self._sizes.get(key, 'none')}"
            )
        self._bytes += max(0, nbytes - self._stored.get(key, 0))
        self._stored[key] = max(nbytes, self._stored.get(key, 0))
        if self._sizes is None and self._bytes > self._file_size:
            raise DamagedFileError(f"its tensors have {self._bytes} bytes or more")
        return _Storage(nbytes, kind.value)

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: Any = None
    ) -> _Tensor:
        """Check that a tensor lies in its storage, each of its numbers at a place of its own."""
        if not isinstance(storage, _Storage) or not _is_count(offset):
            raise RefusedPickle("a tensor without storage")
        itemsize = dtype.value if isinstance(dtype, _Itemsize) else storage.itemsize
        for numbers in (size, stride):
            if not isinstance(numbers, (tuple, list)) or not all(map(_is_count, numbers)):
                raise RefusedPickle(f"a tensor of size {size!r:.60} and stride {stride!r:.60}")
        if len(size) != len(stride) or len(size) > 64:
            raise RefusedPickle(f"a tensor of size {size!r:.60} and stride {stride!r:.60}")
        last = _last_place(size, stride)
        if last is not None:
            count = 1
            for n in size:
                count *= n
            self._shown += count * itemsize
            if (offset + last + 1) * itemsize > storage.nbytes:
                raise DamagedFileError(
                    f"a tensor of size {tuple(size)} needs more than its {storage.nbytes} bytes"
                )
        return _Tensor()

    def tensor_with_dtype(self, *args: Any) -> _Tensor:
        """Check a tensor whose program gives (storage, offset, size, stride, _, _, dtype)."""
        return self.tensor(*args[:4], dtype=args[6] if len(args) > 6 else None)

    def of_tensor(self, tensor: Any, *rest: Any) -> _Tensor:
        """Stand in for what makes a parameter of a tensor."""
        if not isinstance(tensor, _Tensor):
            raise RefusedPickle("a parameter that is not made of a tensor")
        return tensor

    def from_type(self, function: Any, kind: Any, args: Any, state: Any) -> Any:
        """Stand in for what makes a tensor with attributes."""
        if not callable(function) or not isinstance(args, tuple):
            raise RefusedPickle("a tensor that is not made by torch")
        return function(*args)

    def bytearray(self, content: Any = b"", *rest: Any) -> bytearray:
        """Stand in for bytearray of bytes."""
        if not isinstance(content, (bytes, bytearray, str)):
            raise RefusedPickle(f"a bytearray of a {type(content).__name__}")
        self._budget.take(len(content))
        return bytearray(len(content))

    def stand_ins(self) -> dict[tuple[str, str], Any]:
        """Return what a program may name: what torch.save writes for tensors and containers."""
        found: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): ordered_dict,
            ("collections", "Counter"): ordered_dict,
            ("_codecs", "encode"): encoder(self._budget),
            ("torch", "Size"): _size,
            ("torch", "device"): _opaque,
            ("torch", "Tensor"): _opaque,
            ("torch.nn.parameter", "Parameter"): _opaque,
            ("torch.serialization", "_get_layout"): _opaque,
            ("torch._utils", "_rebuild_tensor"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self.tensor_with_dtype,
            ("torch._utils", "_rebuild_parameter"): self.of_tensor,
            ("torch._utils", "_rebuild_parameter_with_state"): self.of_tensor,
            ("torch._tensor", "_rebuild_from_type_v2"): self.from_type,
            ("torch.storage", "UntypedStorage"): _Itemsize(1),
            ("torch", "UntypedStorage"): _Itemsize(1),
        }
        found.update(numpy_stand_ins(self._budget))
        for module in ("builtins", "__builtin__"):
            found[(module, "set")] = plain_set
            found[(module, "bytearray")] = self.bytearray
            found[(module, "complex")] = _complex
        for name, count in _BYTES.items():
            for module in ("torch", "torch.cuda"):
                found[(module, f"{name}Storage")] = _Itemsize(count)
        for name, value in vars(torch).items():
            if isinstance(value, torch.dtype):
                found[("torch", name)] = _Itemsize(value.itemsize)
        return found

    def check_sharing(self) -> None:
        """Refuse a program that shows the same bytes as many tensors."""
        if self._shown > _MAX_SHARING * self._bytes + _SLACK:
            raise RefusedPickle(
                f"its tensors have {self._shown} bytes, made of {self._bytes}: they overlap"
            )


def check_program(program: bytes, sizes: Mapping[str, int], file_size: int) -> None:
    """Check the pickle of an archive.

    Args:
        program: data.pkl.
        sizes: bytes of each storage, by name.
        file_size: bytes of the archive.

    Raises:
        RefusedPickle: (a ValueError) it names what is no tensor or plain container, or its tensors
            overlap.
        DamagedFileError: (a ValueError) it does not fit the file.
    """
    checks = _Checks(sizes, file_size)
    run_pickle(io.BytesIO(program), checks.stand_ins(), checks.persistent)
    checks.check_sharing()


def check_old_file(file: BinaryIO, file_size: int) -> None:
    """Check a file as torch before 1.6 wrote it: pickles, and then all storages; see above."""
    for _ in range(_OLD_HEADS):
        run_pickle(file, {})
    checks = _Checks(None, file_size)
    run_pickle(file, checks.stand_ins(), checks.persistent)
    checks.check_sharing()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _last_place(size: Any, stride: Any) -> int | None:
    """Return the place of a tensor's last number after its first; None for an empty one.

    Raises:
        RefusedPickle: two of its numbers share a place: a stride is 0, or shorter than a row.
    """
    if 0 in size:
        return None
    last = 0
    for step, count in sorted((s, n) for s, n in zip(stride, size, strict=True) if n > 1):
        if step <= last:
            raise RefusedPickle(
                f"a tensor of size {tuple(size)} and stride {tuple(stride)}, whose numbers share "
                "places"
            )
        last += step * (count - 1)
    return last


def _size(numbers: Any = ()) -> tuple[Any, ...]:
    if not isinstance(numbers, (tuple, list)):
        raise RefusedPickle("a size that is no list")
    return tuple(numbers)


def _complex(*parts: Any) -> complex:
    if not all(isinstance(part, (int, float)) for part in parts):
        raise RefusedPickle("a complex number that is not made of numbers")
    return complex(*parts)


def _opaque(*args: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()
