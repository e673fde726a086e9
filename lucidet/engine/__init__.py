"""Training and prediction programs; names as `detectron2.engine`."""

from lucidet.engine import hooks
from lucidet.engine.defaults import (
    DefaultPredictor,
    DefaultTrainer,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
)
from lucidet.engine.hooks import *  # noqa: F403
from lucidet.engine.hooks import __all__ as _hooks
from lucidet.engine.launch import DEFAULT_TIMEOUT, launch
from lucidet.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase

__all__ = [
    "AMPTrainer",
    "DEFAULT_TIMEOUT",
    "DefaultPredictor",
    "DefaultTrainer",
    "SimpleTrainer",
    "TrainerBase",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "hooks",
    "launch",
]
__all__ += _hooks
