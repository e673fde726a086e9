"""Optimiser and learning-rate schedule from a config; the only place of the solver that reads it.

Names as `detectron2.solver.build`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lucidet.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler
from lucidet.solver.optimizer import (
    GradientClipType,
    add_clipping,
    clip_gradients,
    create_optimizer,
    get_default_optimizer_params,
    reduce_param_groups,
)
from lucidet.solver.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from lucidet.utils.registry import nearest_names

__all__ = [
    "GradientClipType",
    "build_lr_scheduler",
    "build_optimizer",
    "create_lr_scheduler",
    "get_default_optimizer_params",
    "maybe_add_gradient_clipping",
    "reduce_param_groups",
]

logger = logging.getLogger(__name__)

_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")


def _create_gradient_clipper(cfg: Any) -> Callable[[Any], None]:
    """Return a function that clips the gradients of parameters as ``SOLVER.CLIP_GRADIENTS`` says.

    For optimisers that users build; unlike detectron2's, it takes one parameter or many.
    """
    arguments = (cfg.CLIP_TYPE, cfg.CLIP_VALUE, cfg.NORM_TYPE)

    def clip(parameters: Any) -> None:
        given = [parameters] if isinstance(parameters, Tensor) else parameters
        clip_gradients(given, *arguments)

    return clip


def maybe_add_gradient_clipping(cfg: Any, optimizer: Any) -> Any:
    """Let an optimiser clip gradients where ``SOLVER.CLIP_GRADIENTS.ENABLED`` is set.

    Args:
        cfg: CLIP_TYPE "value" (each element), "norm" (each parameter's gradient) or "full_model"
            (all gradients together), CLIP_VALUE > 0, NORM_TYPE.
        optimizer: an optimiser, or a class of optimisers.

    Returns:
        The optimiser with the clipping added, or a subclass whose members clip; where clipping
        is off, what was given.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer
    arguments = (clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
    if not isinstance(optimizer, type):
        return add_clipping(optimizer, *arguments)

    class WithGradientClipping(optimizer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            add_clipping(self, *arguments)

    WithGradientClipping.__name__ = f"{optimizer.__name__}WithGradientClip"
    WithGradientClipping.__qualname__ = WithGradientClipping.__name__
    return WithGradientClipping


def build_optimizer(cfg: Any, model: nn.Module) -> Optimizer:
    """Return the optimiser of ``cfg.SOLVER`` for the parameters of `model` that train."""
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
    )
    # only what this optimiser uses is read: the config reports keys that were set for nothing
    if solver.OPTIMIZER.upper() == "ADAMW":
        own: dict[str, Any] = {"betas": tuple(solver.BETAS)}
    else:
        own = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    optimizer = create_optimizer(
        params,
        name=solver.OPTIMIZER,
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        **own,
    )
    return maybe_add_gradient_clipping(cfg, optimizer)


def _schedule(
    name: str,
    max_iter: int,
    steps: Sequence[int],
    gamma: float,
    num_decays: int,
    final_factor: float,
) -> ParamScheduler:
    if name == "WarmupMultiStepLR":
        within = [step for step in steps if step <= max_iter]
        if len(within) < len(steps):
            logger.warning(
                "SOLVER.STEPS %s beyond SOLVER.MAX_ITER %d are never reached",
                tuple(step for step in steps if step > max_iter),
                max_iter,
            )
        values = [gamma**k for k in range(len(within) + 1)]
        return MultiStepParamScheduler(values, milestones=within, num_updates=max_iter)
    if name == "WarmupCosineLR":
        if not 0.0 <= final_factor <= 1.0:
            raise ValueError(
                f"SOLVER.BASE_LR_END must lie in [0, SOLVER.BASE_LR], got {final_factor:g} times it"
            )
        return CosineParamScheduler(1.0, final_factor)
    if name == "WarmupStepWithFixedGammaLR":
        return StepWithFixedGammaParamScheduler(1.0, num_decays, gamma, num_updates=max_iter)
    near = nearest_names(name, _SCHEDULES)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_SCHEDULES)}"
    raise ValueError(f"unknown SOLVER.LR_SCHEDULER_NAME {name!r}; {hint}")


def create_lr_scheduler(
    optimizer: Optimizer,
    *,
    max_iter: int,
    name: str = "WarmupMultiStepLR",
    steps: Sequence[int] = (),
    gamma: float = 0.1,
    num_decays: int = 3,
    final_factor: float = 0.0,
    warmup_factor: float = 0.001,
    warmup_iters: int = 1000,
    warmup_method: str = "linear",
    rescale_interval: bool = False,
    last_iter: int = -1,
) -> LRMultiplier:
    """Return a schedule with warm-up over an optimiser's learning rates.

    Args:
        optimizer: its groups' rates are the full ones.
        max_iter: iterations of the run.
        name: "WarmupMultiStepLR", "WarmupCosineLR" or "WarmupStepWithFixedGammaLR".
        steps: iterations at which the rate is multiplied by `gamma` (multi-step).
        gamma: that factor (multi-step, fixed gamma).
        num_decays: number of equally spaced decays (fixed gamma).
        final_factor: last rate as a fraction of the full one (cosine).
        warmup_factor: first rate as a fraction of the full one.
        warmup_iters: iterations of the warm-up; more than `max_iter` are cut to it.
        warmup_method: "linear" or "constant".
        rescale_interval: squeeze the schedule into what the warm-up leaves.
        last_iter: iteration done last; -1 for a new run.
    """
    schedule = WarmupParamScheduler(
        _schedule(name, max_iter, steps, gamma, num_decays, final_factor),
        warmup_factor,
        min(warmup_iters / max_iter, 1.0),
        warmup_method,
        rescale_interval,
    )
    return LRMultiplier(optimizer, schedule, max_iter=max_iter, last_iter=last_iter)


def build_lr_scheduler(cfg: Any, optimizer: Optimizer) -> LRScheduler:
    """Return the learning-rate schedule of ``cfg.SOLVER`` over `optimizer`."""
    solver = cfg.SOLVER
    name = solver.LR_SCHEDULER_NAME
    # only what this schedule uses is read: the config reports keys that were set for nothing
    own: dict[str, Any] = {}
    if name == "WarmupCosineLR":
        own["final_factor"] = solver.BASE_LR_END / solver.BASE_LR
    else:
        own["gamma"] = solver.GAMMA
    if name == "WarmupMultiStepLR":
        own["steps"] = tuple(solver.STEPS)
    if name == "WarmupStepWithFixedGammaLR":
        own["num_decays"] = solver.NUM_DECAYS
    return create_lr_scheduler(
        optimizer,
        name=name,
        max_iter=solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        rescale_interval=solver.RESCALE_INTERVAL,
        **own,
    )
