"""Bring renamed weights to the names that one model has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from lucidet.checkpoint.renaming import Renamed

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
        placed = _place_ends(placed, model)
        _leave_out_above(placed, model, renamed.unused)
    return _with_counters(placed, model)


def _bottom_up(name: str, model: Mapping[str, Tensor]) -> str:
    """Return the name with or without "bottom_up", as the model has it."""
    if name in model:
        return name
    alternative = name.replace("backbone.bottom_up.", "backbone.", 1)
    return alternative if alternative in model else name


def _place_ends(weights: Mapping[str, Tensor], model: Collection[str]) -> dict[str, Tensor]:
    """Give weights whose names are ends of the model's names the full names.

    timm joins some parts of a name with "_" when it cuts a net into stages; both count as equal.
    The longest end wins: ``res2.0.conv1.weight`` before ``conv1.weight``.
    """
    flat = {name.replace("_", "."): name for name in weights}
    placed: dict[str, Tensor] = {}
    taken = set()
    for full in model:
        parts = full.replace("_", ".").split(".")
        ends = (".".join(parts[i:]) for i in range(len(parts)))
        found = next((flat[end] for end in ends if end in flat), None)
        if found is not None and found not in taken:
            placed[full] = weights[found]
            taken.add(found)
    return placed | {name: value for name, value in weights.items() if name not in taken}


def _leave_out_above(
    weights: dict[str, Tensor], model: Mapping[str, Tensor], unused: dict[str, str]
) -> None:
    """Leave out a classifier's last layers, of which the detector's backbone has nothing.

    These are whole modules (``head``, ``conv_head``, ``res5``) without one name in the model, and
    are left out only if the rest of the file fills the backbone.
    """
    backbone = [name for name in model if name.startswith("backbone.") and ".fpn_" not in name]
    backbone = [name for name in backbone if ".top_block." not in name]
    filled = sum(name in weights for name in backbone)
    if filled < 0.9 * len(backbone) or not backbone:
        return
    in_model = {part for name in model for part in _heads(name)}
    for name in [name for name in weights if name not in model]:
        if not any(head in in_model for head in _heads(name)[:1]):
            unused[name] = "above the backbone's last map"
            del weights[name]


def _heads(name: str) -> list[str]:
    return name.split(".")


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
