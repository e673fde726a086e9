"""What can happen around training steps; names as `detectron2.engine.hooks`, and ours."""

from lucidet.engine.hooks.basic import (
    CallbackHook,
    IterationTimer,
    LRScheduler,
    PeriodicCheckpointer,
    PeriodicWriter,
)
from lucidet.engine.hooks.evaluation import BestCheckpointer, EarlyStopping, EvalHook
from lucidet.engine.hooks.profiling import AutogradProfiler, TorchMemoryStats, TorchProfiler
from lucidet.engine.hooks.resuming import BeforeCheckpoint, DataPosition, RandomState
from lucidet.engine.hooks.validation import ValidationLoss
from lucidet.engine.hooks.weights import EMAHook, PreciseBN
from lucidet.engine.trainer_base import HookBase

__all__ = [
    "AutogradProfiler",
    "BeforeCheckpoint",
    "BestCheckpointer",
    "CallbackHook",
    "DataPosition",
    "EMAHook",
    "EarlyStopping",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "RandomState",
    "TorchMemoryStats",
    "TorchProfiler",
    "ValidationLoss",
]
