"""What of a model a checkpoint filled, in a short table."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from lucidet.checkpoint.formats.renamed import Renamed
from lucidet.utils.logger import create_table

# names of one group shown in the table before "... and N more"
SHOWN_NAMES = 4
#: at least this share of a backbone must be in the file; of a ResNet-101, a ResNet-50 has half
MATCHING_SHARE = 2 / 3
#: layers whose shape follows from the number of classes and anchors
PREDICTORS = ("cls_score", "bbox_pred", "objectness_logits", "anchor_deltas", "ctrness")


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
    origin: Renamed | None = None

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
        report = cls(unexpected_keys=[name for name in file if name not in model], origin=origin)
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

    @property
    def backbone_only(self) -> bool:
        """Whether the file is a backbone, so that heads are expected to be missing in it."""
        missing = [name for name in self.missing_keys if not _is_new_on_backbone(name)]
        return bool(self.origin and self.origin.anywhere and self.loaded and not missing)

    @property
    def expected(self) -> bool:
        """Whether all that differs is explained: other classes, or a backbone's file."""
        explained = all(_is_predictor(shape.name) for shape in self.incorrect_shapes)
        missing = bool(self.missing_keys) and not self.backbone_only
        return explained and not missing and not self.unexpected_keys

    def verdict(self) -> str:
        """Return a short table, a row for each part of the model, and what explains it."""
        counts: dict[str, list[int]] = {}
        columns: list[Iterable[str]] = [
            self.loaded,
            [shape.name for shape in self.incorrect_shapes],
            self.missing_keys,
            self.unexpected_keys,
        ]
        for column, names in enumerate(columns):
            for name in names:
                counts.setdefault(_part(name), [0, 0, 0, 0])[column] += 1
        headers = ("part", "loaded", "re-initialised", "missing", "left over")
        lines = [create_table(headers, [(part, *row) for part, row in counts.items()])]
        return "\n".join([*lines, *self._explanations()])

    def _explanations(self) -> list[str]:
        lines = []
        if self.origin is not None and self.origin.unused:
            reasons: dict[str, list[str]] = defaultdict(list)
            for name, reason in self.origin.unused.items():
                reasons[reason].append(name)
            lines += [f"not used, {why}: {_shorten(n)}" for why, n in reasons.items()]
        predictors = [s for s in self.incorrect_shapes if _is_predictor(s.name)]
        classes = {_class_change(s) for s in predictors} - {None}
        if predictors:
            why = f"the number of classes goes {classes.pop()}" if classes else "other sizes"
            lines.append(
                f"re-initialised as expected, {why}: {_shorten([s.name for s in predictors])}"
            )
        if self.backbone_only and self.missing_keys:
            lines.append(
                "missing as expected: the file is a backbone, the rest starts from its "
                "initialisation"
            )
        return lines

    def table(self, all_missing: bool = False) -> str:
        """Return a table of what was not loaded, one row for each module and reason.

        Args:
            all_missing: show what a backbone's file is expected to lack, too.
        """
        rows: list[tuple[str, str, str]] = []
        rows += [
            ("another shape", s.name, f"file {s.in_file}, model {s.in_model}")
            for s in self.incorrect_shapes
        ]
        missing = [] if self.backbone_only and not all_missing else self.missing_keys
        rows += [("missing in the file", *g) for g in group_names(missing)]
        rows += [("not in the model", *g) for g in group_names(self.unexpected_keys)]
        return create_table(("", "module", "names"), rows)

    def require(self, prefix: str = "backbone.") -> None:
        """Check that the file belongs to this architecture.

        Raises:
            ValueError: less than `MATCHING_SHARE` of the model's names below `prefix` (without a
                pyramid's own; of all its names, where it has none there) was loaded; the message
                shows the nearest names of the file.
        """
        wanted = [*self.missing_keys, *(s.name for s in self.incorrect_shapes)]
        loaded = self.loaded
        below = [n for n in [*wanted, *loaded] if n.startswith(prefix) and not _is_pyramid(n)]
        if below:
            kept = set(below)
            wanted = [name for name in wanted if name in kept]
            loaded = [name for name in loaded if name in kept]
        total = len(wanted) + len(loaded)
        if len(loaded) >= MATCHING_SHARE * total if below else loaded or not wanted:
            return
        in_file = [*self.unexpected_keys, *(s.name for s in self.incorrect_shapes)]
        in_file = in_file or self.loaded
        raise ValueError(
            f"these weights are of another architecture: only {len(loaded)} of the {total} tensors "
            f"of the model's {prefix.rstrip('.')} are in the file with the same shape. "
            f"{nearest(wanted, in_file)}. Use the config that the weights were trained with, or "
            f"other weights"
        )


def _part(name: str) -> str:
    """Return the part of a detector that a tensor belongs to."""
    parts = name.split(".")
    if name.startswith("backbone.") and _is_pyramid(name):
        return "backbone, pyramid"
    return ".".join(parts[: 2 if len(parts) > 2 else 1])


def _is_pyramid(name: str) -> bool:
    return ".fpn_" in name or ".top_block." in name


def _is_new_on_backbone(name: str) -> bool:
    """Whether a backbone's file is not expected to hold a tensor: a head, a pyramid, offsets."""
    return not name.startswith("backbone.") or _is_pyramid(name) or "conv2_offset" in name


def _is_predictor(name: str) -> bool:
    return name.rpartition(".")[0].endswith(PREDICTORS)


def _class_change(shape: IncorrectShape) -> str | None:
    """Return "80 -> 3" for a two-stage classifier, which has a row for background as well."""
    if "box_predictor" in shape.name and ".cls_score." in shape.name:
        return f"{shape.in_file[0] - 1} -> {shape.in_model[0] - 1}"
    return None


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
