from __future__ import annotations

import pytest
import torch
from torch import nn

from lucidet.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)


class Counter(DatasetEvaluator):
    def __init__(self, name: str = "counter") -> None:
        self.name = name
        self.seen: list = [None]

    def reset(self) -> None:
        self.seen = []

    def process(self, inputs, outputs) -> None:
        self.seen += list(zip(inputs, outputs, strict=True))

    def evaluate(self):
        return {self.name: {"seen": len(self.seen)}} if self.name else None


class Twice(nn.Module):
    def forward(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        return [2 * x for x in batch]


@pytest.mark.parametrize("batches", [[], [[1, 2], [3]], [[i] for i in range(12)]])
def test_every_batch_reaches_the_evaluator(batches):
    counter = Counter()
    moments: list[str] = []
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {n: lambda n=n: moments.append(n) for n in names}
    results = inference_on_dataset(Twice(), batches, counter, callbacks)
    assert results == {"counter": {"seen": sum(map(len, batches))}}
    assert all(y == 2 * x for x, y in counter.seen)
    assert moments == [names[0], *names[1:3] * len(batches), names[3]]


def test_none_a_list_a_function_and_no_result():
    assert inference_on_dataset(Twice(), [[1]], None) == {}
    assert inference_on_dataset(lambda batch: batch, [[1]], Counter("")) == {}
    both = inference_on_dataset(Twice(), [[1]], [Counter("a"), Counter("b"), Counter("")])
    assert both == {"a": {"seen": 1}, "b": {"seen": 1}}


def test_two_evaluators_with_one_name():
    with pytest.raises(ValueError, match=r"both return results under \['counter'\]"):
        inference_on_dataset(Twice(), [[1]], DatasetEvaluators([Counter(), Counter()]))


def test_modes_come_back_as_they_were():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)).train()
    model[1].eval()
    with inference_context(model):
        assert not any(m.training for m in model.modules())
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
