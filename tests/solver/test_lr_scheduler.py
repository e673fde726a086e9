from __future__ import annotations

import math

import pytest
import torch

from lucidet.solver import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    LRMultiplier,
    MultiStepParamScheduler,
    PolynomialDecayParamScheduler,
    StepParamScheduler,
    StepWithFixedGammaParamScheduler,
    WarmupCosineLR,
    WarmupMultiStepLR,
    WarmupParamScheduler,
    create_lr_scheduler,
)


def optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates]
    return torch.optim.SGD(groups, lr=0.1)


def rates_of(scheduler, count: int, group: int = 0) -> list[float]:
    """The rate with which each of the first `count` iterations is done."""
    rates = []
    for _ in range(count):
        rates.append(scheduler.optimizer.param_groups[group]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("scheduler", "expected"),  # at 0, 1/4, 1/2, 3/4, 1
    [
        (ConstantParamScheduler(3.0), [3, 3, 3, 3, 3]),
        (LinearParamScheduler(4.0, 0.0), [4, 3, 2, 1, 0]),
        (CosineParamScheduler(2.0, 0.0), [2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5), 0]),
        (CosineParamScheduler(1.0, 0.5), [1, 0.75 + math.sqrt(2) / 8, 0.75, None, 0.5]),
        (ExponentialParamScheduler(1.0, 1 / 16), [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]),
        (PolynomialDecayParamScheduler(1.0, 2), [1, 9 / 16, 1 / 4, 1 / 16, 0]),
        (MultiStepParamScheduler([1, 2, 3], 8, [2, 6]), [1, 2, 2, 3, 3]),
        (MultiStepParamScheduler([1, 2, 3], milestones=[2, 6, 8]), [1, 2, 2, 3, 3]),
        (MultiStepParamScheduler([5.0], num_updates=1), [5, 5, 5, 5, 5]),
        (StepParamScheduler(8, [1, 2]), [1, 1, 2, 2, 2]),
        (StepWithFixedGammaParamScheduler(1.0, 3, 0.5, 8), [1, 0.5, 0.25, 0.125, 0.125]),
        (StepWithFixedGammaParamScheduler(1.0, 0, 0.5, 8), [1, 1, 1, 1, 1]),
    ],
)
def test_param_schedulers(scheduler, expected):
    for where, value in zip((0, 0.25, 0.5, 0.75, 1.0), expected, strict=True):
        assert value is None or scheduler(where) == pytest.approx(value)


@pytest.mark.parametrize("iterations", [3, 7, 90_000, 720_000, 5_000_000])
def test_milestones_hit_the_exact_iteration(iterations):
    milestone = iterations * 2 // 3
    scheduler = MultiStepParamScheduler([1, 2], iterations, [milestone])
    assert scheduler((milestone - 1) / iterations) == 1
    assert scheduler(milestone / iterations) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one value"),
        (([1],), "give num_updates, milestones or both"),
        (([1, 2, 3], 90, [60, 60]), r"must increase, got \[60, 60\]"),
        (([1, 2], 90, [100]), "100, lies behind the last of 90"),
        (([1, 2], 90, [30, 60]), "2 milestones part the run into 3 stretches, but there are 2"),
    ],
)
def test_multi_step_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiStepParamScheduler(*arguments)


def test_composite():
    parts = [LinearParamScheduler(0, 10), LinearParamScheduler(0, 100)]
    fixed = CompositeParamScheduler(parts, [0.5, 0.5], ["rescaled", "fixed"])
    assert [fixed(w) for w in (0, 0.25, 0.5, 1.0)] == [0, 5, 50, 100]
    rescaled = CompositeParamScheduler(parts, [0.5, 0.5], ["rescaled", "rescaled"])
    assert [rescaled(w) for w in (0.25, 0.5, 0.75, 1.0)] == [5, 0, 50, 100]
    empty = CompositeParamScheduler(parts, [0.0, 1.0], ["rescaled", "fixed"])
    assert empty(0) == 0
    assert empty(0.5) == 50
    for lengths, scaling, message in (
        ([0.5, 0.2], ["fixed"] * 2, "add up to 1"),
        ([1.0], ["fixed"], "as many schedulers"),
        ([0.5, 0.5], ["fixed", "shrunk"], "got 'shrunk'"),
    ):
        with pytest.raises(ValueError, match=message):
            CompositeParamScheduler(parts, lengths, scaling)


def test_warmup_joins_the_schedule():
    """10 iterations of warm-up from 0.1 before a cosine over 100."""
    cosine = CosineParamScheduler(1.0, 0.0)
    joined = WarmupParamScheduler(cosine, 0.1, 0.1)
    assert joined(0.0) == pytest.approx(0.1)
    assert joined(0.05) == pytest.approx((0.1 + cosine(0.1)) / 2)
    assert joined(0.1) == pytest.approx(cosine(0.1))
    squeezed = WarmupParamScheduler(cosine, 0.1, 0.1, rescale_interval=True)
    assert squeezed(0.0999) == pytest.approx(1.0, abs=1e-2)
    assert squeezed(0.1) == pytest.approx(1.0)
    assert squeezed(0.55) == pytest.approx(0.5)
    constant = WarmupParamScheduler(cosine, 0.1, 0.1, "constant")
    assert constant(0.099) == pytest.approx(0.1)
    assert constant(0.1) == pytest.approx(cosine(0.1))
    with pytest.raises(ValueError, match="'constant' or 'linear', got 'cubic'"):
        WarmupParamScheduler(cosine, 0.1, 0.1, "cubic")
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        WarmupParamScheduler(cosine, 0.1, 1.5)


# detectron2's own example: MAX_ITER 30, STEPS (10, 15, 20), WARMUP_ITERS 5, factor 0.001
STEPS = {0: 0.001, 1: 0.2008, 4: 0.8002, 5: 1.0, 9: 1.0, 10: 0.1, 14: 0.1, 15: 0.01, 20: 1e-3}


@pytest.mark.parametrize("kind", ["multiplier", "class"])
def test_multi_step_with_warmup_at_each_corner(kind):
    if kind == "class":
        scheduler = WarmupMultiStepLR(optimizer(5.0), [10, 15, 20], 0.1, 0.001, 5)
    else:
        scheduler = create_lr_scheduler(
            optimizer(5.0), max_iter=30, steps=(10, 15, 20), warmup_iters=5
        )
    rates = rates_of(scheduler, 31)
    for iteration, factor in {**STEPS, 30: 1e-3}.items():
        assert rates[iteration] == pytest.approx(5.0 * factor), iteration


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        ({"warmup_iters": 0}, [1, 1, 1, 0.1]),
        (
            {"warmup_iters": 2, "warmup_method": "constant", "warmup_factor": 1 / 3},
            [1 / 3, 1 / 3, 1, 0.1],
        ),
        ({"warmup_iters": 2, "warmup_factor": 0.0}, [0, 0.5, 1, 0.1]),
        # longer than the run: as in detectron2 the whole warm-up takes place within it
        ({"warmup_iters": 1000, "warmup_factor": 0.0}, [0, 0.025, 0.05, 0.075]),
    ],
)
def test_warmup_forms(warmup, expected):
    scheduler = create_lr_scheduler(optimizer(1.0), max_iter=4, steps=(3,), **warmup)
    assert rates_of(scheduler, 4) == pytest.approx(expected)


def test_cosine_with_warmup():
    scheduler = create_lr_scheduler(
        optimizer(5.0), name="WarmupCosineLR", max_iter=30, warmup_iters=5, final_factor=0.1
    )
    rates = rates_of(scheduler, 31)

    def cosine(i):
        return 5.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 30)))

    assert rates[0] == pytest.approx(0.005)
    assert rates[3] == pytest.approx(0.005 + (cosine(5) - 0.005) * 3 / 5)
    for i in (5, 6, 17, 29):
        assert rates[i] == pytest.approx(cosine(i))
    assert rates[30] == pytest.approx(0.5)


def test_cosine_class():
    rates = rates_of(WarmupCosineLR(optimizer(5.0), 30, 0.001, 5), 31)
    for i, warmup in ((0, 0.001), (2, 0.001 + 0.999 * 0.4), (5, 1.0), (15, 1.0), (30, 1.0)):
        expected = 5.0 * warmup * 0.5 * (1 + math.cos(math.pi * i / 30))
        assert rates[i] == pytest.approx(expected), i


def test_fixed_gamma():
    scheduler = create_lr_scheduler(
        optimizer(1.0),
        name="WarmupStepWithFixedGammaLR",
        max_iter=8,
        num_decays=3,
        gamma=0.5,
        warmup_iters=0,
    )
    assert rates_of(scheduler, 8) == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_groups_keep_their_ratio():
    scheduler = create_lr_scheduler(optimizer(1.0, 2.0), max_iter=4, steps=(2,), warmup_iters=0)
    assert rates_of(scheduler, 4, group=1) == pytest.approx([2, 2, 0.2, 0.2])


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
def test_state_round_trip(name):
    def make():
        return create_lr_scheduler(
            optimizer(5.0), name=name, max_iter=30, steps=(10, 20), warmup_iters=5
        )

    whole = rates_of(make(), 30)
    first = make()
    assert rates_of(first, 12) == whole[:12]
    state = first.state_dict()
    assert state == {"base_lrs": [5.0], "last_epoch": 12}  # nothing that could not be saved safely
    resumed = make()
    resumed.load_state_dict(state)
    resumed.optimizer.load_state_dict(first.optimizer.state_dict())
    assert rates_of(resumed, 18) == whole[12:]


def test_arguments():
    with pytest.raises(ValueError, match="did you mean 'WarmupCosineLR'"):
        create_lr_scheduler(optimizer(1.0), name="WarmupCosinLR", max_iter=4)
    with pytest.raises(ValueError, match="known are WarmupMultiStepLR"):
        create_lr_scheduler(optimizer(1.0), name="x", max_iter=4)
    with pytest.raises(ValueError, match="max_iter must be positive, got 0"):
        LRMultiplier(optimizer(1.0), ConstantParamScheduler(1.0), max_iter=0)
    with pytest.raises(ValueError, match="callable"):
        LRMultiplier(optimizer(1.0), 0.1, max_iter=4)
    with pytest.raises(ValueError, match="milestones must increase"):
        WarmupMultiStepLR(optimizer(1.0), [20, 10])


def test_steps_beyond_the_end_are_named(caplog):
    create_lr_scheduler(optimizer(1.0), max_iter=4, steps=(2, 60000, 80000))
    assert "SOLVER.STEPS (60000, 80000) beyond SOLVER.MAX_ITER 4" in caplog.text
