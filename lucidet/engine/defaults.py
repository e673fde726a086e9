"""What most programs need, in one place; names as `detectron2.engine.defaults`."""

from lucidet.engine.arguments import default_argument_parser
from lucidet.engine.parallel import create_ddp_model
from lucidet.engine.predictor import DefaultPredictor
from lucidet.engine.setup import default_setup, default_writers
from lucidet.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from lucidet.engine.trainer import DefaultTrainer

__all__ = [
    "AMPTrainer",
    "DefaultPredictor",
    "DefaultTrainer",
    "SimpleTrainer",
    "TrainerBase",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]
