"""The objects of one image as a table: one row an object, one column a field."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Instances:
    """Fields of equal length that describe the objects of one image.

    A field is anything with a length and an index: a tensor, `Boxes`, a list. Fields are set and
    read as attributes; names that start with an underscore are ordinary attributes, not fields.

    >>> objects = Instances((480, 640), scores=torch.tensor([0.9, 0.2, 0.7]))
    >>> objects.labels = torch.tensor([3, 1, 3])
    >>> objects[objects.scores > 0.5].labels.tolist()
    [3, 3]
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        """Make a table for an image of ``image_size`` (height, width) with the given fields."""
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image that the fields refer to."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # reached only where no ordinary attribute has the name; `_fields` itself is missing while
        # an object is being unpickled or copied
        if name == "_fields" or name not in self._fields:
            known = ", ".join(self.__dict__.get("_fields", {})) or "none"
            raise AttributeError(f"Instances has no field {name!r}; its fields: {known}")
        return self._fields[name]

    def set(self, name: str, value: Any) -> None:
        """Add or replace a field.

        Raises:
            ValueError: its length is not that of the other fields.
        """
        others = [field for key, field in self._fields.items() if key != name]
        if others and len(others[0]) != len(value):
            raise ValueError(
                f"field {name!r} has {len(value)} entries, but this Instances describes "
                f"{len(others[0])} objects"
            )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Return whether there is a field of this name."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Delete a field."""
        self.get(name)
        del self._fields[name]

    def get(self, name: str) -> Any:
        """Return a field.

        Raises:
            AttributeError: there is none of this name.
        """
        return self.__getattr__(name)

    def get_fields(self) -> dict[str, Any]:
        """Return the dict of all fields itself: a change in it changes the table."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """Return a table with ``.to(...)`` of every field that has it."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: int | slice | Tensor) -> Instances:
        """Return the chosen objects; an integer gives a table of one.

        Args:
            item: integer, slice, or a tensor of indices or of (N,) bool.

        Raises:
            IndexError: an integer outside [-N, N).
        """
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"object {item} of an Instances with {len(self)}")
            item = slice(item % len(self), item % len(self) + 1)
        chosen = Instances(self._image_size)
        for name, value in self._fields.items():
            chosen.set(name, _choose(value, item))
        return chosen

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("an Instances without fields has no length")

    def __bool__(self) -> bool:
        # without this, `if instances:` would ask __len__, which raises while there is no field
        return not self._fields or len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(
            "an Instances can't be iterated; loop over a field, or index it: instances[i]"
        )

    @staticmethod
    def cat(instance_lists: list[Instances]) -> Instances:
        """Return the objects of several tables of one image in one table.

        Args:
            instance_lists: at least one table, of images of one size. The fields of the first
                count; what only later ones have is left out, with a warning.

        Raises:
            ValueError: nothing to join, a table lacks a field of the first, or they differ in
                kinds or image size.
        """
        if len(instance_lists) == 0:
            raise ValueError("Instances.cat needs at least one Instances, got an empty list")
        for other in instance_lists:
            if not isinstance(other, Instances):
                raise ValueError(f"Instances.cat takes Instances, got {type(other).__name__}")
        first = instance_lists[0]
        for i, other in enumerate(instance_lists):
            if tuple(other.image_size) != tuple(first.image_size):
                raise ValueError(
                    f"Instances.cat: number {i} is of an image of {other.image_size}, "
                    f"the first of {first.image_size}"
                )
            if first._fields.keys() - other._fields.keys():
                raise ValueError(
                    f"Instances.cat: number {i} has the fields {sorted(other._fields)}, "
                    f"the first {sorted(first._fields)}"
                )
            if more := sorted(other._fields.keys() - first._fields.keys()):
                warnings.warn(
                    f"Instances.cat leaves out {more} of number {i}: the first has no such field",
                    stacklevel=2,
                )
        if len(instance_lists) == 1:
            return first
        joined = Instances(first.image_size)
        for name in first._fields:
            joined.set(name, _join(name, [other.get(name) for other in instance_lists]))
        return joined

    def __str__(self) -> str:
        size = f"image_height={self._image_size[0]}, image_width={self._image_size[1]}"
        number = f"num_instances={len(self) if self._fields else 0}"
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return f"Instances({number}, {size}, fields=[{fields}])"

    __repr__ = __str__


def _choose(value: Any, item: slice | Tensor) -> Any:
    """Index one field; a list takes a tensor of indices or bools too."""
    if isinstance(value, list) and isinstance(item, Tensor):
        rows = item.nonzero().flatten() if item.dtype == torch.bool else item
        return [value[i] for i in rows.tolist()]
    return value[item]


def _join(name: str, values: list[Any]) -> Any:
    """Concatenate one field of several tables."""
    kind = type(values[0])
    if isinstance(values[0], Tensor):
        return torch.cat(values, dim=0)
    if isinstance(values[0], list):
        return list(itertools.chain(*values))
    if hasattr(kind, "cat"):
        return kind.cat(values)
    raise ValueError(
        f"Instances.cat can't join field {name!r} of type {kind.__name__}: "
        "it is no tensor or list and has no `cat`"
    )
