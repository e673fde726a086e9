from __future__ import annotations

import pytest
import torch
from torch import nn

from lucidet.config import get_cfg
from lucidet.solver import (
    build_lr_scheduler,
    build_optimizer,
    create_optimizer,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
    reduce_param_groups,
)
from lucidet.solver.optimizer import clip_gradients


class Net(nn.Module):
    """Convolution with bias, norm, a shared layer, a frozen layer, a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 4, bias=False)
        self.same_head = self.head
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.gamma = nn.Parameter(torch.ones(1))


def names(groups, model):
    own = {id(p): name for name, p in model.named_parameters()}
    return [sorted(own[id(p)] for p in group["params"]) for group in groups]


def test_one_group_where_nothing_differs():
    model = Net()
    groups = get_default_optimizer_params(model, base_lr=0.1, weight_decay=1e-4)
    assert names(groups, model) == [
        ["conv.bias", "conv.weight", "gamma", "head.weight", "norm.bias", "norm.weight"]
    ]
    assert (groups[0]["lr"], groups[0]["weight_decay"]) == (0.1, 1e-4)
    (bare,) = get_default_optimizer_params(model)
    assert set(bare) == {"params"}


def test_groups_of_norm_and_bias():
    model = Net()
    groups = get_default_optimizer_params(
        model,
        base_lr=0.1,
        weight_decay=1e-4,
        weight_decay_norm=0.0,
        weight_decay_bias=0.5,
        bias_lr_factor=2.0,
    )
    by_setting = {
        (group["lr"], group["weight_decay"]): members
        for group, members in zip(groups, names(groups, model), strict=True)
    }
    assert by_setting == {
        (0.1, 1e-4): ["conv.weight", "gamma", "head.weight"],
        (0.2, 0.5): ["conv.bias", "norm.bias"],
        (0.1, 0.0): ["norm.weight"],
    }


def test_groups_by_name():
    model = Net()
    groups = get_default_optimizer_params(
        model,
        base_lr=1.0,
        lr_factor_func=lambda name: 0.5 if name.startswith("conv") else 1.0,
        overrides={"gamma": {"lr": 9.0, "weight_decay": 0.0}},
    )
    lrs = dict(zip([g["lr"] for g in groups], names(groups, model), strict=True))
    assert lrs == {
        0.5: ["conv.bias", "conv.weight"],
        1.0: ["head.weight", "norm.bias", "norm.weight"],
        9.0: ["gamma"],
    }


def test_contradicting_groups():
    with pytest.raises(ValueError, match="bias_lr_factor scales base_lr, which is not given"):
        get_default_optimizer_params(Net(), bias_lr_factor=2.0)
    with pytest.raises(ValueError, match="lr_factor_func scales base_lr"):
        get_default_optimizer_params(Net(), lr_factor_func=lambda name: 1.0)
    with pytest.raises(ValueError, match="'bias' is set by overrides and by"):
        get_default_optimizer_params(Net(), weight_decay_bias=0.0, overrides={"bias": {"lr": 1}})


def test_reduce_param_groups():
    assert reduce_param_groups([]) == []
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    joined = reduce_param_groups([{"params": a, "lr": 1}, {"lr": 1, "params": [b]}])
    assert [len(g["params"]) for g in joined] == [2]


# ---------------------------------------------------------------------------------- clipping

GRADS = [[3.0, 4.0], [0.3, -0.4], [0.0, 0.0]]  # norms 5, 0.5, 0


@pytest.mark.parametrize(
    ("kind", "limit", "norm", "expected"),
    [
        ("value", 1.0, 2.0, [[1, 1], [0.3, -0.4], [0, 0]]),
        ("norm", 1.0, 2.0, [[0.6, 0.8], [0.3, -0.4], [0, 0]]),
        ("norm", 2.0, float("inf"), [[1.5, 2.0], [0.3, -0.4], [0, 0]]),
        ("norm", 3.5, 1.0, [[1.5, 2.0], [0.3, -0.4], [0, 0]]),
        # all together: norm sqrt(25.25)
        ("full_model", 25.25**0.5 / 2, 2.0, [[1.5, 2.0], [0.15, -0.2], [0, 0]]),
        ("full_model", 100.0, 2.0, GRADS),
    ],
)
def test_clip_gradients(kind, limit, norm, expected):
    parameters = [nn.Parameter(torch.zeros(2)) for _ in GRADS]
    for parameter, grad in zip(parameters, GRADS, strict=True):
        parameter.grad = torch.tensor(grad)
    without_grad = nn.Parameter(torch.zeros(1))
    clip_gradients([*parameters, without_grad], kind, limit, norm)
    for parameter, values in zip(parameters, expected, strict=True):
        assert parameter.grad.tolist() == pytest.approx(values, abs=1e-5)
    clip_gradients([], kind, limit, norm)
    clip_gradients([without_grad], kind, limit, norm)


def solver(**changes):
    """A config that differs from the defaults so that steps can be followed by hand."""
    cfg = get_cfg()
    by_hand = {
        "BASE_LR": 1.0,
        "MOMENTUM": 0.0,
        "WEIGHT_DECAY": 0.0,
        "MAX_ITER": 4,
        "STEPS": (2,),
        "WARMUP_FACTOR": 0.5,
        "WARMUP_ITERS": 1,
    }
    for key, value in {**by_hand, **changes}.items():
        if isinstance(value, dict):
            for inner_key, inner_value in value.items():
                setattr(cfg.SOLVER[key], inner_key, inner_value)
        else:
            setattr(cfg.SOLVER, key, value)
    return cfg


def clipping(kind: str, value: float = 1.0):
    return {"ENABLED": True, "CLIP_TYPE": kind, "CLIP_VALUE": value}


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_optimizer_clips_in_each_step(name):
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = build_optimizer(solver(OPTIMIZER=name, CLIP_GRADIENTS=clipping("value")), model)
    for _ in range(2):
        model.weight.grad = torch.tensor([[100.0, -0.5]])
        optimizer.step()
        assert model.weight.grad.tolist() == [[1.0, -0.5]]
    if name == "SGD":
        assert model.weight.tolist() == [[-2.0, 1.0]]


def test_clipping_of_a_class_and_off():
    assert maybe_add_gradient_clipping(solver(), torch.optim.SGD) is torch.optim.SGD
    clipped = maybe_add_gradient_clipping(solver(CLIP_GRADIENTS=clipping("norm")), torch.optim.SGD)
    assert issubclass(clipped, torch.optim.SGD)
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = clipped([parameter], lr=1.0)
    parameter.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert parameter.tolist() == pytest.approx([-0.6, -0.8], abs=1e-5)


def test_clipping_comes_after_unscaling():
    """fp16 training scales gradients; a fused optimiser would unscale behind the clipping."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = build_optimizer(solver(CLIP_GRADIENTS=clipping("value")), model)
    nn.init.zeros_(model.weight)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(model(torch.tensor([[0.25, 8.0]])).sum()).backward()
    scaler.step(optimizer)
    assert model.weight.tolist() == [[-0.25, -1.0]]


@pytest.mark.parametrize("clip", [None, "value", "norm", "full_model"])
@pytest.mark.parametrize("unscaled_before", [False, True])
def test_steps_of_overflown_gradients_are_left_out(clip, unscaled_before):
    model = nn.Linear(2, 1, bias=False)
    options = {"CLIP_GRADIENTS": clipping(clip)} if clip else {}
    optimizer = build_optimizer(solver(**options), model)
    assert optimizer.param_groups[0]["fused"]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = model.weight.detach().clone()
    for value, same in ((float("inf"), True), (0.5, False)):
        optimizer.zero_grad()
        scaler.scale(model(torch.tensor([[0.25, value]])).sum()).backward()
        if unscaled_before:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(model.weight, before) is same
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (
            clipping("norms"),
            r"unknown clip_type 'norms'; known are \['value', 'norm', 'full_model'\]",
        ),
        (clipping("norm", 0.0), "clip_value must be positive, got 0"),
        (clipping("norm", float("nan")), "clip_value must be positive, got nan"),
    ],
)
def test_wrong_clipping(clip, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(solver(CLIP_GRADIENTS=clip), nn.Linear(1, 1))


# ---------------------------------------------------------------------------------- optimisers


def test_sgd_step_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    cfg = solver(BASE_LR=0.1, MOMENTUM=0.9, WEIGHT_DECAY=0.5)
    optimizer = build_optimizer(cfg, model)
    w, momentum = 1.0, 0.0
    for _ in range(3):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        momentum = 0.9 * momentum + 1.0 + 0.5 * w
        w -= 0.1 * momentum
        assert model.weight.item() == pytest.approx(w, rel=1e-6)


def test_optimizer_settings():
    sgd = build_optimizer(solver(NESTEROV=True, MOMENTUM=0.9, BIAS_LR_FACTOR=2.0), Net())
    assert isinstance(sgd, torch.optim.SGD)
    assert {g["nesterov"] for g in sgd.param_groups} == {True}
    assert {g["lr"] for g in sgd.param_groups} == {1.0, 2.0}
    adamw = build_optimizer(solver(OPTIMIZER="ADAMW", BETAS=(0.8, 0.9)), Net())
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["betas"] == (0.8, 0.9)


def test_wrong_optimizers():
    with pytest.raises(ValueError, match=r"unknown SOLVER.OPTIMIZER 'LION'; known are 'SGD'"):
        build_optimizer(solver(OPTIMIZER="LION"), nn.Linear(1, 1))
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer(solver(), nn.Linear(1, 1).requires_grad_(False))
    with pytest.raises(ValueError, match="nothing to train"):
        create_optimizer([], lr=0.1)


def test_scheduler_from_config():
    optimizer = build_optimizer(solver(), nn.Linear(1, 1))
    scheduler = build_lr_scheduler(solver(), optimizer)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5, 1.0, 0.1, 0.1])


def test_cosine_from_config_ends_where_told():
    cfg = solver(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR=2.0, BASE_LR_END=0.5)
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    scheduler = build_lr_scheduler(cfg, optimizer)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
    cfg.SOLVER.BASE_LR_END = 3.0
    with pytest.raises(ValueError, match=r"SOLVER.BASE_LR_END must lie in.*1.5 times"):
        build_lr_scheduler(cfg, optimizer)
