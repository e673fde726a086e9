"""Map renamed weights to the names that one model has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from lucidet.checkpoint.formats.renamed import Renamed

_COUNTER = "num_batches_tracked"


def place(renamed: Renamed, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names that `model` has for them.

    Args:
        renamed: what a name map gave; what turns out to have no place is added to its ``unused``.
        model: the model's state dict.

    Returns:
        name -> tensor. A name without counterpart stays as it is.
    """
    placed = {_bottom_up(name, model): value for name, value in renamed.weights.items()}
    if renamed.anywhere:
        full_names = _full_names(placed, model)
        _leave_out_above(placed, full_names, model, renamed.unused)
        placed = {full_names.get(name, name): value for name, value in placed.items()}
    return _with_counters(placed, model)


def _bottom_up(name: str, model: Mapping[str, Tensor]) -> str:
    """Return the name with or without "bottom_up", as the model has it."""
    if name in model:
        return name
    alternative = name.replace("backbone.bottom_up.", "backbone.", 1)
    return alternative if alternative in model else name


def _full_names(weights: Collection[str], model: Collection[str]) -> dict[str, str]:
    """Return for names that are ends of the model's names the full ones.

    timm joins some parts of a name with "_" when it cuts a net into stages; both count as equal.
    The longest end wins: ``res2.0.conv1.weight`` before ``conv1.weight``.
    """
    flat = {_flat(name): name for name in weights}
    found: dict[str, str] = {}
    for full in model:
        parts = _flat(full).split(".")
        ends = (".".join(parts[i:]) for i in range(len(parts)))
        end = next((flat[end] for end in ends if end in flat), None)
        if end is not None:
            found.setdefault(end, full)
    return found


def _flat(name: str) -> str:
    return name.replace("_", ".")


def _leave_out_above(
    weights: dict[str, Tensor],
    full_names: Mapping[str, str],
    model: Mapping[str, Tensor],
    unused: dict[str, str],
) -> None:
    """Leave out a classifier's last layers, of which the detector's backbone has nothing.

    These are whole modules (``head``, ``conv_head``, ``stages.3``) that the model doesn't have, and
    are left out only if the rest of the file fills the backbone.
    """
    placed = set(full_names.values())
    wanted = [n for n in model if n.startswith("backbone.") and not _is_pyramid(n)]
    if not wanted or sum(name in placed for name in wanted) < 0.9 * len(wanted):
        return
    modules = {_module(name) for name in full_names}
    for name in [name for name in weights if name not in full_names]:
        if _module(name) not in modules:
            unused[name] = "above the backbone's last map"
            del weights[name]


def _is_pyramid(name: str) -> bool:
    return ".fpn_" in name or ".top_block." in name


def _module(name: str) -> str:
    """Return the outermost module of a name, with its number where there are several."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first


def _with_counters(weights: dict[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add or leave out the batch counters of norms: frozen norms have none, trainable ones do."""
    result = {
        name: value
        for name, value in weights.items()
        if not name.endswith(f".{_COUNTER}") or name in model
    }
    for name in model:
        norm = name.removesuffix(_COUNTER)
        if name.endswith(f".{_COUNTER}") and f"{norm}running_mean" in result:
            result.setdefault(name, torch.zeros((), dtype=torch.int64))
    return result
