"""Optimizer states are compared with the parameters before anything is loaded."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lucidet.checkpoint import Checkpointer
from lucidet.solver import OptimizerState, create_optimizer, load_optimizer_state


def trained(width: int = 3, name: str = "SGD", **settings: Any) -> tuple[nn.Module, Any]:
    """A model with layers of `width`, and its optimizer after one step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, width, 1), nn.Flatten(), nn.Linear(4 * width, 2))
    groups = [
        {"params": [p for n, p in model.named_parameters() if "bias" not in n]},
        {"params": [p for n, p in model.named_parameters() if "bias" in n], "weight_decay": 0.0},
    ]
    optimizer = create_optimizer(groups, name=name, lr=0.1, **settings)
    model(torch.ones(2, 1, 2, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def broken(state: dict[str, Any], how: str) -> dict[str, Any]:
    """Return a copy of a state with one thing wrong."""
    state = copy.deepcopy(state)
    entry = state["state"][0]
    key = next(k for k in entry if k != "step")
    if how == "shape":
        entry[key] = torch.zeros(7)
    elif how == "too small":
        entry[key] = entry[key][:1]
    elif how == "scalar":
        entry[key] = torch.zeros(())
    elif how == "type":
        entry[key] = entry[key].half()
    elif how == "sparse":
        entry[key] = entry[key].to_sparse()
    elif how == "no mapping":
        state["state"][0] = [1]
    elif how == "groups":
        state["param_groups"] = state["param_groups"][:1]
    elif how == "no groups":
        state["param_groups"] = None
    elif how == "no params":
        del state["param_groups"][0]["params"]
    return state


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
@pytest.mark.parametrize(
    "how",
    ["shape", "too small", "scalar", "type", "sparse", "no mapping", "groups", "no groups",
     "no params"],
)  # fmt: skip
def test_state_that_does_not_fit_changes_nothing(name: str, how: str) -> None:
    _, optimizer = trained(name=name)
    fresh, other = trained(name=name)
    before = weights(fresh)
    kept = copy.deepcopy(other.state_dict())
    state = broken(optimizer.state_dict(), how)
    named = OptimizerState(other, fresh)
    for load in (lambda: load_optimizer_state(other, state), lambda: named.load_state_dict(state)):
        with pytest.raises(ValueError, match=r"optimizer.*--weights .*instead of --resume"):
            load()
    assert str(other.state_dict()) == str(kept)
    assert all(torch.equal(a, b) for a, b in zip(before, fresh.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["names", "raw"])
def test_model_of_another_size_stops_before_anything_is_loaded(tmp_path: Any, kind: str) -> None:
    def keeper(width: int) -> tuple[nn.Module, Checkpointer]:
        model, optimizer = trained(width)
        item = OptimizerState(optimizer, model) if kind == "names" else optimizer
        return model, Checkpointer(model, tmp_path, optimizer=item)

    keeper(3)[1].save("model_0000001", iteration=1)
    model, second = keeper(4)
    before = weights(model)
    with pytest.raises(ValueError, match=r"0\.weight: file \(3, 1, 1, 1\), model \(4, 1, 1, 1\)"):
        second.resume_or_load("")
    # not asked to resume, but with the optimizer
    expected = r"momentum_buffer is \(3, 1, 1, 1\) float32, the parameter \(4, 1, 1, 1\) float32"
    with pytest.raises(ValueError, match=expected):
        second.load(str(tmp_path / "model_0000001.pth"))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(("saved", "now"), [("SGD", "ADAMW"), ("ADAMW", "SGD")])
def test_another_optimizer_is_named(saved: str, now: str) -> None:
    state = trained(name=saved)[1].state_dict()
    with pytest.raises(ValueError, match=rf"another optimizer \({saved}\).*SOLVER\.OPTIMIZER"):
        load_optimizer_state(trained(name=now)[1], state)


def test_other_parameters_are_named() -> None:
    model, optimizer = trained()
    state = OptimizerState(optimizer, model).state_dict()
    state["names"][0] = "stem.weight"
    with pytest.raises(ValueError, match=r"not in it \['0\.weight'\].*\['stem\.weight'\]"):
        OptimizerState(optimizer, model).load_state_dict(state)


def test_round_trip_by_name_whatever_the_groups() -> None:
    model, optimizer = trained()
    state = OptimizerState(optimizer, model).state_dict()
    fresh, _ = trained()
    one_group = create_optimizer([{"params": list(fresh.parameters())}], lr=0.1)
    OptimizerState(one_group, fresh).load_state_dict(state)
    for a, b in zip(model.parameters(), fresh.parameters(), strict=True):
        expected = optimizer.state[a]["momentum_buffer"]
        assert torch.equal(one_group.state[b]["momentum_buffer"], expected)


def test_settings_stay_the_configs_and_changes_are_listed() -> None:
    model, optimizer = trained(weight_decay=0.1)
    for group in optimizer.param_groups:
        group["initial_lr"] = 0.1
    state = OptimizerState(optimizer, model).state_dict()
    fresh, other = trained(weight_decay=0.2, momentum=0.5)
    for group in other.param_groups:
        group |= {"initial_lr": 0.3, "lr": 0.3}
    resumed = OptimizerState(other, fresh)
    resumed.load_state_dict(state)
    assert sorted(resumed.changes) == [
        "learning rate 0.1 -> 0.3",
        "momentum 0.9 -> 0.5",
        "weight_decay 0.1 -> 0.2",
    ]
    assert [g["lr"] for g in other.param_groups] == [0.3, 0.3]
    assert [g["weight_decay"] for g in other.param_groups] == [0.2, 0.0]
    with_rates = OptimizerState(other, fresh, load_rates=True)
    with_rates.load_state_dict(state)
    assert [g["lr"] for g in other.param_groups] == [0.1, 0.1]


def test_state_gets_the_memory_layout_of_its_parameter() -> None:
    _, optimizer = trained(width=4)
    state = copy.deepcopy(optimizer.state_dict())
    other_model, other = trained(width=4)
    weight = other_model[0].weight
    # a tensor of one number seen as many: written to in place it would change everywhere
    state["state"][0]["momentum_buffer"] = torch.ones(1).expand(4, 1, 1, 1)
    load_optimizer_state(other, state)
    buffer = other.state[weight]["momentum_buffer"]
    assert buffer.stride() == weight.stride()
    assert buffer.is_contiguous()
    assert len({buffer[i].data_ptr() for i in range(4)}) == 4
