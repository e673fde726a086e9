"""What of a model a checkpoint filled, in a short table."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from lucidet.checkpoint.renaming import Renamed
from lucidet.utils.logger import create_table

# names of one group shown in the table before "... and N more"
SHOWN_NAMES = 4


class IncorrectShape(NamedTuple):
    """A tensor that does not fit: (name, shape in the file, shape in the model)."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]


@dataclass
class LoadReport:
    """Names of a model's state dict against a file's; names as `fvcore.common.checkpoint`."""

    loaded: list[str] = field(default_factory=list)
    missing_keys: list[str] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)
    incorrect_shapes: list[IncorrectShape] = field(default_factory=list)

    @classmethod
    def compare(
        cls,
        model: Mapping[str, torch.Tensor],
        file: Mapping[str, torch.Tensor],
        origin: Renamed | None = None,
    ) -> LoadReport:
        """Compare two state dicts by name and shape.

        Args:
            model: the model's.
            file: what is to be loaded, under the model's names.
            origin: what `file` was made of.
        """
        report = cls(unexpected_keys=[name for name in file if name not in model])
        for name, tensor in model.items():
            if name not in file:
                report.missing_keys.append(name)
            elif tensor.shape != file[name].shape:
                shapes = (tuple(file[name].shape), tuple(tensor.shape))
                report.incorrect_shapes.append(IncorrectShape(name, *shapes))
            else:
                report.loaded.append(name)
        return report

    @property
    def complete(self) -> bool:
        """Whether everything in the model was filled and nothing was left over."""
        return not (self.missing_keys or self.unexpected_keys or self.incorrect_shapes)

    def table(self) -> str:
        """Return a table of what was not loaded, one row for each module and reason."""
        rows: list[tuple[str, str, str]] = []
        rows += [
            ("another shape", s.name, f"file {s.in_file}, model {s.in_model}")
            for s in self.incorrect_shapes
        ]
        rows += [("missing in the file", *g) for g in group_names(self.missing_keys)]
        rows += [("not in the model", *g) for g in group_names(self.unexpected_keys)]
        return create_table(("", "module", "names"), rows)

    def require(self, prefix: str = "backbone.") -> None:
        """Check that the file belongs to this architecture.

        Raises:
            ValueError: none of the model's names below `prefix` (of all its names, where it has
                none there) was loaded; the message shows the nearest names of the file.
        """
        wanted = [*self.missing_keys, *(s.name for s in self.incorrect_shapes)]
        below = [name for name in wanted if name.startswith(prefix)]
        loaded = self.loaded
        if below or any(name.startswith(prefix) for name in loaded):
            wanted, loaded = below, [name for name in loaded if name.startswith(prefix)]
        if loaded or not wanted:
            return
        in_file = [*self.unexpected_keys, *(s.name for s in self.incorrect_shapes)]
        raise ValueError(
            f"these weights are of another architecture: none of the {len(wanted)} parameters of "
            f"the model's {prefix.rstrip('.')} are in the file with the same shape. "
            f"{nearest(wanted, in_file)}. Use the config that the weights were trained with, or "
            f"other weights"
        )


def group_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Group parameter names by the module two levels up, as (module, names within it).

    >>> group_names(["a.b.c.weight", "a.b.c.bias", "scale"])
    [('a.b', 'c.weight, c.bias'), ('', 'scale')]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = name.split(".")
        cut = max(len(parts) - 2, 0)
        groups[".".join(parts[:cut])].append(".".join(parts[cut:]))
    return [(module, _shorten(found)) for module, found in groups.items()]


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} ... and {more} more" if more > 0 else shown


def nearest(wanted: list[str], present: list[str], count: int = 3) -> str:
    """Return a sentence that pairs some `wanted` names with the names most like them."""
    if not present:
        return "The file holds no weights"
    pairs = []
    for name in wanted[:count]:
        close = difflib.get_close_matches(name, present, n=1, cutoff=0.0)
        pairs.append(f"{name} (nearest in the file: {close[0]})")
    return "For example " + "; ".join(pairs)
