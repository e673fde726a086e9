"""Which image comes next."""

from lucidet.data.samplers.distributed_sampler import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from lucidet.data.samplers.grouped_batch_sampler import GroupedBatchSampler
from lucidet.data.samplers.repeated_sampler import RepeatedSampler

__all__ = [
    "GroupedBatchSampler",
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "RepeatedSampler",
    "TrainingSampler",
]
