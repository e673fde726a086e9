"""A list whose items lie serialised in one buffer that all worker processes share.

A list of a hundred thousand dicts costs every forked worker its own copy over time: reading an
object changes its reference count, which makes the system copy the memory page it lies on. One
buffer of bytes has no reference counts inside. Here it lies in anonymous shared memory: forked
processes see the same pages; for spawned ones torch moves it once into named shared memory.

The records are pickled, because they hold whatever a data set's author puts into them: numpy
arrays, enums such as BoxMode, objects of own classes. JSON and its like would refuse these or give
back something else. Loading a pickle can run code, so it must never be done with bytes from
outside. Here it is safe: the only bytes ever loaded are those that the list itself wrote of live
objects, in this process or in the one that started it. No file and no address is read, and only
programs of the same user could reach the memory, who can run what they like anyway.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import torch


class SharedList(Sequence):
    """A read-only list; each access returns a fresh copy of the item.

    Items are serialised with pickle, within this process' own memory: no outside bytes are read.

    >>> records = SharedList([{"image_id": 7}, {"image_id": 8}])
    >>> len(records), records[1]
    (2, {'image_id': 8})
    """

    def __init__(self, items: Sequence[Any]) -> None:
        # protocol 5 keeps numpy arrays inside compact
        chunks = [pickle.dumps(item, protocol=5) for item in items]
        ends = torch.tensor([len(chunk) for chunk in chunks], dtype=torch.int64).cumsum(0)
        total = int(ends[-1]) if chunks else 0
        memory = mmap.mmap(-1, max(total, 1))  # a mapping can't have 0 bytes
        for chunk in chunks:
            memory.write(chunk)
        # the tensors keep the mapping alive, and know how to travel to a spawned process
        self._bytes = torch.frombuffer(memory, dtype=torch.uint8)
        self._ends = ends

    @property
    def nbytes(self) -> int:
        """Size of the shared buffer in bytes."""
        return self._bytes.numel()

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"index {index} of a list of {count} items")
        index %= count
        start = int(self._ends[index - 1]) if index else 0
        stop = int(self._ends[index])
        item: Any = self._bytes[start:stop].numpy()  # a view: nothing is copied before loading
        return pickle.loads(item)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))
