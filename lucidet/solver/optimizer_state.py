"""Optimizer states in checkpoints: compared with the parameters before anything is loaded.

A fused optimizer trusts the sizes and the memory layout of its state. A momentum of another shape
would make it read and write outside of the tensor, so no state is loaded unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["OptimizerState", "check_optimizer_state", "load_optimizer_state"]

WAY_OUT = (
    "To go on with the model's weights alone, start with --weights FILE (MODEL.WEIGHTS) instead of "
    "--resume"
)
#: states that have one number for each number of the parameter, in any optimizer
_ELEMENTWISE = {
    *("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg"),
    *("grad_avg", "acc_delta", "sum", "prev", "step_size"),
}
#: hyperparameters that tell optimizers apart
_DISTINCTIVE = ("momentum", "betas")
#: not settings: what is trained, and how the update is computed
_NOT_SETTINGS = {"params", "lr", "foreach", "fused", "capturable", "differentiable", "names"}
_SHOWN = 3


def check_optimizer_state(
    optimizer: Optimizer, state: Any, names: Sequence[str] | None = None
) -> None:
    """Compare a saved state with the optimizer's parameters; nothing is changed.

    Args:
        optimizer: what the state is meant for.
        state: of `Optimizer.state_dict` or `OptimizerState.state_dict`.
        names: of the optimizer's parameters, in its order, for messages.

    Raises:
        ValueError: it is of another optimizer or of other parameters; names, shapes and types are
            in the message.
    """
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list) or not isinstance(state.get("state"), Mapping):
        raise ValueError(
            "the checkpoint's optimizer state is damaged: expected param_groups and state, got "
            f"{type(state).__name__}. {WAY_OUT}"
        )
    _check_kind(optimizer, groups)
    parameters = _parameters(optimizer)
    names = list(names or (f"parameter {i}" for i in range(len(parameters))))
    saved = [len(group["params"]) for group in groups]
    own = [len(group["params"]) for group in optimizer.param_groups]
    saved_names = state.get("names")
    if saved_names is not None:
        _check_names(names, saved_names)
        if sum(saved) != len(names):
            raise ValueError(f"the checkpoint's optimizer state is damaged: {saved}. {WAY_OUT}")
        index_of = {name: i for i, name in enumerate(saved_names)}
    elif saved != own:
        raise ValueError(
            f"the checkpoint's optimizer has groups of {saved} parameters, this one of {own}: the "
            f"model or its optimizer's settings are others. {WAY_OUT}"
        )
    strict = isinstance(optimizer, (SGD, Adam, AdamW))
    problems = []
    for i, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
        at = index_of[name] if saved_names is not None else i
        problems += _problems(name, parameter, state["state"].get(at, {}), strict)
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"the checkpoint's optimizer state does not fit the model: "
            f"{'; '.join(problems[:_SHOWN])}{more}. {WAY_OUT}"
        )


def _check_kind(optimizer: Optimizer, groups: list[Any]) -> None:
    if not all(isinstance(g, Mapping) and isinstance(g.get("params"), list) for g in groups):
        raise ValueError(f"the checkpoint's optimizer state has damaged param_groups. {WAY_OUT}")
    for key in _DISTINCTIVE:
        saved, own = any(key in g for g in groups), any(key in g for g in optimizer.param_groups)
        if saved != own and groups:
            kind = {"momentum": "SGD", "betas": "ADAMW"}
            other = next((kind[k] for k in _DISTINCTIVE if any(k in g for g in groups)), "another")
            raise ValueError(
                f"the checkpoint was trained with another optimizer ({other}), the config says "
                f"{type(optimizer).__name__}: set SOLVER.OPTIMIZER back to go on. {WAY_OUT}"
            )


def _check_names(names: Sequence[str], saved: Any) -> None:
    if not isinstance(saved, list) or len(set(saved)) != len(saved):
        raise ValueError(f"the checkpoint's list of parameter names is damaged. {WAY_OUT}")
    missing = [name for name in names if name not in set(saved)]
    extra = [name for name in saved if name not in set(names)]
    if missing or extra:
        raise ValueError(
            f"the checkpoint's optimizer trained other parameters: "
            f"{len(missing)} of this model are not in it {missing[:_SHOWN]}, "
            f"{len(extra)} of it are not in this model {extra[:_SHOWN]}. {WAY_OUT}"
        )


def _problems(name: str, parameter: torch.Tensor, entry: Any, strict: bool) -> list[str]:
    """Return what of a parameter's state does not fit it."""
    if not isinstance(entry, Mapping):
        return [f"{name}: its state is a {type(entry).__name__}"]
    found = []
    for key, value in entry.items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.dim() == 0 and key not in _ELEMENTWISE:  # a count of steps
            continue
        if not strict and key not in _ELEMENTWISE:  # factored states of other optimizers
            continue
        expected = (tuple(parameter.shape), parameter.dtype, torch.strided)
        got = (tuple(value.shape), value.dtype, value.layout)
        if expected != got:
            found.append(
                f"{name}: {key} is {_described(value)}, the parameter {_described(parameter)}"
            )
    return found


def _described(tensor: torch.Tensor) -> str:
    layout = "" if tensor.layout == torch.strided else f" {tensor.layout}"
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}{layout}"


def _parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def load_optimizer_state(
    optimizer: Optimizer, state: Mapping[str, Any], names: Sequence[str] | None = None
) -> None:
    """Load a state, after `check_optimizer_state`; each tensor gets its parameter's memory layout.

    A fused optimizer walks through memory: parameter and state must lie in it alike.

    Raises:
        ValueError: see `check_optimizer_state`.
    """
    check_optimizer_state(optimizer, state, names)
    optimizer.load_state_dict(dict(state))
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                entry[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


class OptimizerState:
    """The state of an optimizer in checkpoints: matched by parameters' names, settings its own.

    Momentum and the like are loaded. Learning rate, weight decay and other settings stay those
    that the optimizer was built with: a user who edits the config means it. `changes` says which
    differ from the checkpoint's.

    Args:
        optimizer: over parameters of `model`.
        model: for their names.
        load_rates: take the current learning rates from the checkpoint, for schedules that compute
            a rate from the one before it.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module, load_rates: bool = False) -> None:
        name_of = {id(p): name for name, p in model.named_parameters()}
        self.optimizer = optimizer
        self.names = [
            name_of.get(id(p), f"parameter {i}") for i, p in enumerate(_parameters(optimizer))
        ]
        self._load_rates = load_rates
        self.changes: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and, under "names", the parameters in its order."""
        return {**self.optimizer.state_dict(), "names": list(self.names)}

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError where `state` does not fit; see `check_optimizer_state`."""
        check_optimizer_state(self.optimizer, state, self.names)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`, of this class or of the optimizer itself."""
        self.check_state_dict(state)
        saved_names = state.get("names") or self.names
        index_of = {name: i for i, name in enumerate(saved_names)}
        settings = [g for g in state["param_groups"] for _ in g["params"]]
        in_own_order = [settings[index_of[name]] for name in self.names]
        entries = state["state"]
        placed = {
            i: entries[index_of[name]]
            for i, name in enumerate(self.names)
            if index_of[name] in entries
        }
        groups, first = self.optimizer.state_dict()["param_groups"], 0
        self.changes = _changed_settings(groups, in_own_order)
        for group in groups:
            if self._load_rates and group["params"]:
                rates = in_own_order[first]
                group |= {k: rates[k] for k in ("lr", "initial_lr") if k in rates}
            first += len(group["params"])
        load_optimizer_state(self.optimizer, {"state": placed, "param_groups": groups}, self.names)


def _changed_settings(groups: list[dict[str, Any]], saved: list[Mapping[str, Any]]) -> list[str]:
    """Return ``weight_decay 0.0001 -> 0.0005`` for each setting that differs, once."""
    found: dict[str, None] = {}
    for group in groups:
        for at in group["params"]:
            for key, value in group.items():
                if key in _NOT_SETTINGS or key not in saved[at]:
                    continue
                before = saved[at][key]
                same = before == value or (isinstance(value, tuple) and tuple(before) == value)
                if not same:
                    shown = "learning rate" if key == "initial_lr" else key
                    found[f"{shown} {before} -> {value}"] = None
    return list(found)
