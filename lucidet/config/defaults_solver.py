"""Defaults of the optimiser, the schedule and what watches them."""

from __future__ import annotations

from lucidet.config.node import CfgNode as CN


def add_solver(_C: CN) -> None:
    """Add SOLVER."""
    _C.SOLVER = CN()
    _add_schedule(_C)
    _add_optimizer(_C)
    _add_watchers(_C)


def _add_schedule(_C: CN) -> None:
    # WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR
    _C.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    # Iterations of the whole training
    _C.SOLVER.MAX_ITER = 40000
    # Learning rate after the warm-up, for IMS_PER_BATCH images
    _C.SOLVER.BASE_LR = 0.001
    # Learning rate at the end of WarmupCosineLR
    _C.SOLVER.BASE_LR_END = 0.0
    # The rate is multiplied by GAMMA at each of these iterations
    _C.SOLVER.GAMMA = 0.1
    _C.SOLVER.STEPS = (30000,)
    # WarmupStepWithFixedGammaLR: so many equal steps
    _C.SOLVER.NUM_DECAYS = 3
    # The first WARMUP_ITERS iterations start at WARMUP_FACTOR * rate; "linear" rises, "constant"
    # stays there
    _C.SOLVER.WARMUP_FACTOR = 1.0 / 1000
    _C.SOLVER.WARMUP_ITERS = 1000
    _C.SOLVER.WARMUP_METHOD = "linear"
    # Let the schedule begin after the warm-up instead of below it
    _C.SOLVER.RESCALE_INTERVAL = False
    # Iterations between two checkpoints
    _C.SOLVER.CHECKPOINT_PERIOD = 5000
    # Keep the newest ones of these checkpoints; 0: all. model_final and model_best always stay
    _C.SOLVER.CHECKPOINTS_KEPT = 0
    # Images of one optimiser step, all processes together
    _C.SOLVER.IMS_PER_BATCH = 16
    # The number of processes that these values are meant for: with another number, batch, rate
    # and iterations are scaled; 0: off
    _C.SOLVER.REFERENCE_WORLD_SIZE = 0
    # The IMS_PER_BATCH that rate and iterations are meant for: with another one they are scaled;
    # 0: off
    _C.SOLVER.REFERENCE_BATCH = 0


def _add_optimizer(_C: CN) -> None:
    # SGD or ADAMW
    _C.SOLVER.OPTIMIZER = "SGD"
    _C.SOLVER.MOMENTUM = 0.9
    _C.SOLVER.NESTEROV = False
    # Of ADAMW: how slowly its averages of gradient and squared gradient move
    _C.SOLVER.BETAS = (0.9, 0.999)
    _C.SOLVER.WEIGHT_DECAY = 0.0001
    # Weight decay of norm layers, and of biases (None: as WEIGHT_DECAY)
    _C.SOLVER.WEIGHT_DECAY_NORM = 0.0
    _C.SOLVER.WEIGHT_DECAY_BIAS = None
    # Learning rate of biases, in multiples of the others'
    _C.SOLVER.BIAS_LR_FACTOR = 1.0
    # Batches whose gradients are added up before a step
    _C.SOLVER.ACCUMULATE = 1
    # Skip, count and name a batch for which the GPU's memory does not suffice; in one process only
    _C.SOLVER.SKIP_OUT_OF_MEMORY = False
    _C.SOLVER.CLIP_GRADIENTS = CN()
    _C.SOLVER.CLIP_GRADIENTS.ENABLED = False
    # value (each element), norm (each parameter) or full_model (all parameters together)
    _C.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    # The largest absolute value, or the largest norm
    _C.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    # p of the norm; .inf in YAML is the largest element
    _C.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0
    # Mixed precision at training
    _C.SOLVER.AMP = CN()
    _C.SOLVER.AMP.ENABLED = False
    # bf16 or fp16; "": bf16 where the device has it, else fp16
    _C.SOLVER.AMP.DTYPE = ""
    # torch.compile backbone and convolutional heads for training steps; the first steps take
    # minutes. Where that fails the log says why, and training goes on without
    _C.SOLVER.COMPILE = False
    # Backbone and convolutional heads as CUDA graphs at training, one for each of at most 8 sizes
    # of the padded batch. "auto": on a GPU, in one process; "on": in several too; "off". Images
    # are then padded to multiples of 128. Where a graph is not possible the log says why
    _C.SOLVER.CUDA_GRAPHS = "auto"
    # Memory format at training: "auto" is channels-last on a GPU with mixed precision, whose
    # tensor cores want it. "on" and "off" decide for any device; on CPUs it is slower
    _C.SOLVER.CHANNELS_LAST = "auto"


def _add_watchers(_C: CN) -> None:
    # Average of the weights over time, used for evaluation
    _C.SOLVER.EMA = CN()
    _C.SOLVER.EMA.ENABLED = False
    # Share of the old average kept in each iteration
    _C.SOLVER.EMA.DECAY = 0.9998
    # Stop after PATIENCE evaluations without a better METRIC; 0: never
    _C.SOLVER.EARLY_STOPPING = CN()
    _C.SOLVER.EARLY_STOPPING.PATIENCE = 0
    _C.SOLVER.EARLY_STOPPING.METRIC = "bbox/AP"
    # "max": more is better; "min": less is
    _C.SOLVER.EARLY_STOPPING.MODE = "max"
    # Keep the checkpoint with the best METRIC, such as bbox/AP, as model_best; "": off
    _C.SOLVER.BEST_CHECKPOINT = CN()
    _C.SOLVER.BEST_CHECKPOINT.METRIC = ""
    _C.SOLVER.BEST_CHECKPOINT.MODE = "max"
