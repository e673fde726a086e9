from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lucidet.solver import ModelEMA


def model(value: float = 0.0) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    fill(net, value)
    return net


def fill(net: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in (*net.parameters(), net[1].running_mean):
            tensor.fill_(value)


def test_average_by_hand():
    net = model(0.0)
    ema = ModelEMA(net, decay=0.25)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 3.0), start=1):
        fill(net, value)
        ema.update(net)
        decay = min(0.25, (1 + step) / (10 + step))  # 2/11, then 0.25
        expected = decay * expected + (1 - decay) * value
    with ema.applied(net) as averaged:
        assert averaged is net
        assert net[0].weight.flatten().tolist() == pytest.approx([expected] * 4)
        assert net[1].running_mean.tolist() == [3.0, 3.0]  # copied, not averaged
    assert net[0].weight.flatten().tolist() == [3.0] * 4


def test_decay_warms_up():
    ema = ModelEMA(model(), decay=0.9998)
    assert ema.decay_at(1) == pytest.approx(2 / 11)
    assert ema.decay_at(10**9) == 0.9998
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match="decay must lie in"):
            ModelEMA(model(), decay=decay)


def test_weights_come_back_after_an_error():
    net = model(1.0)
    ema = ModelEMA(net)
    fill(net, 5.0)
    before = [p.data_ptr() for p in net.parameters()]

    def evaluate():
        with ema.applied(net):
            assert net[0].bias.tolist() == [1.0, 1.0]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate()
    assert net[0].bias.tolist() == [5.0, 5.0]
    assert [p.data_ptr() for p in net.parameters()] == before
    ema.update(net)  # in order again


def test_averages_in_use_are_not_touched():
    net = model()
    ema = ModelEMA(net)
    with ema.applied(net):
        for call in (lambda: ema.update(net), ema.state_dict, lambda: ema.model_state_dict(net)):
            with pytest.raises(RuntimeError, match="averages are in use"):
                call()


def test_model_state_dict():
    net = model(1.0)
    net[0].bias.requires_grad_(False)
    ema = ModelEMA(net, decay=0.5)
    fill(net, 3.0)
    state = ema.model_state_dict(net)
    assert set(state) == set(net.state_dict())
    assert state["0.weight"].unique().item() == 1.0
    assert state["0.bias"].unique().item() == 3.0  # frozen: the model's own


def test_state_round_trip_and_wrong_state():
    net = model(1.0)
    ema = ModelEMA(net, decay=0.5)
    fill(net, 2.0)
    ema.update(net)
    state = copy.deepcopy(ema.state_dict())
    other = ModelEMA(model(9.0), decay=0.5)
    other.load_state_dict(state)
    for one in (ema, other):
        one.update(net)
    assert other.updates == 2
    assert torch.equal(ema._averages["0.weight"], other._averages["0.weight"])
    with pytest.raises(ValueError, match="of another model: 4 names differ"):
        ModelEMA(nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 2))).load_state_dict(
            state
        )
    with pytest.raises(ValueError, match=r"'0.weight': expected shape \(2, 3\), got \(2, 2\)"):
        ModelEMA(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))).load_state_dict(state)
    with pytest.raises(ValueError, match=r"lacks 4 averaged parameters, first '0.weight'"):
        ema.update(nn.Identity())


def test_constants_are_not_saved():
    net = model()
    net.register_buffer("anchors", torch.zeros(3), persistent=False)
    ema = ModelEMA(net)
    ema.update(net)
    assert set(ema.state_dict()["buffers"]) == {
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    with ema.applied(net):
        pass


def test_model_without_parameters():
    net = nn.Identity()
    ema = ModelEMA(net)
    ema.update(net)
    with ema.applied(net):
        pass
