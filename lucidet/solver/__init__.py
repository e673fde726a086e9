"""Optimisers, learning-rate schedules, scaling to the batch, averaging of the weights."""

from __future__ import annotations

from lucidet.solver.build import (
    GradientClipType,
    build_lr_scheduler,
    build_optimizer,
    create_lr_scheduler,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
    reduce_param_groups,
)
from lucidet.solver.ema import ModelEMA
from lucidet.solver.lr_scheduler import (
    LRMultiplier,
    WarmupCosineLR,
    WarmupMultiStepLR,
    WarmupParamScheduler,
)
from lucidet.solver.optimizer import create_optimizer
from lucidet.solver.optimizer_state import (
    OptimizerState,
    check_optimizer_state,
    load_optimizer_state,
)
from lucidet.solver.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    StepParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from lucidet.solver.scaling import Schedule, scale_schedule, scale_to_batch

__all__ = [
    "CompositeParamScheduler",
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "GradientClipType",
    "LRMultiplier",
    "LinearParamScheduler",
    "ModelEMA",
    "OptimizerState",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "Schedule",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "WarmupParamScheduler",
    "build_lr_scheduler",
    "build_optimizer",
    "check_optimizer_state",
    "create_lr_scheduler",
    "create_optimizer",
    "get_default_optimizer_params",
    "load_optimizer_state",
    "maybe_add_gradient_clipping",
    "reduce_param_groups",
    "scale_schedule",
    "scale_to_batch",
]
