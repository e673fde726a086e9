from __future__ import annotations

import itertools

import pytest
import torch

from lucidet.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from lucidet.utils import comm


def first(sampler, n):
    return list(itertools.islice(sampler, n))


def on_each_rank(monkeypatch, world, make, n=None):
    """What each of `world` processes gets."""
    shares = []
    for rank in range(world):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)
        sampler = make()
        shares.append(list(sampler) if n is None else first(sampler, n))
    return shares


def test_each_round_is_a_new_order_of_all():
    got = first(TrainingSampler(7, seed=3), 21)
    rounds = [got[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(r) == list(range(7)) for r in rounds)
    assert rounds[0] != rounds[1]
    assert got == first(TrainingSampler(7, seed=3), 21)
    assert got != first(TrainingSampler(7, seed=4), 21)


def test_one_image():
    assert first(TrainingSampler(1), 3) == [0, 0, 0]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_shares_make_up_the_stream(monkeypatch, world):
    whole = first(TrainingSampler(5, seed=1), 6 * world)
    shares = on_each_rank(monkeypatch, world, lambda: TrainingSampler(5, seed=1), 6)
    assert [i for step in zip(*shares, strict=True) for i in step] == whole


@pytest.mark.parametrize("size", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_inference_shares_are_exact(monkeypatch, size, world):
    shares = on_each_rank(monkeypatch, world, lambda: InferenceSampler(size))
    assert list(itertools.chain(*shares)) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(InferenceSampler(size)) == len(shares[-1])


def test_random_subset():
    sampler = RandomSubsetTrainingSampler(10, 0.3, seed_subset=0, seed_shuffle=1)
    got = first(sampler, 30)
    assert len(set(got)) == 3
    again = RandomSubsetTrainingSampler(10, 0.3, seed_subset=0, seed_shuffle=2)
    assert set(first(again, 30)) == set(got)
    assert len(set(first(RandomSubsetTrainingSampler(10, 0.01, shuffle=False), 9))) == 1


def record(*categories):
    return {"annotations": [{"category_id": c} for c in categories]}


def test_repeat_factors():
    records = [record(0), record(0, 1), record(0), record()]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.5)
    torch.testing.assert_close(factors, torch.tensor([1, 2**0.5, 1, 1]))
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        records, 0.5, sqrt=False
    )
    torch.testing.assert_close(factors, torch.tensor([1.0, 2, 1, 1]))
    none = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency([], 0.5)
    assert none.shape == (0,)


def test_repeat_factor_sampler():
    counts = torch.zeros(3)
    for i in first(RepeatFactorTrainingSampler(torch.tensor([1.0, 2.0, 0.5]), seed=0), 3500):
        counts[i] += 1
    torch.testing.assert_close(counts / 1000, torch.tensor([1.0, 2.0, 0.5]), atol=0.08, rtol=0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TrainingSampler(0), ValueError, "no image to draw.*FILTER_EMPTY"),
        (lambda: TrainingSampler(1.5), TypeError, "whole number, got float"),
        (lambda: InferenceSampler(-1), ValueError, "size must be >= 0"),
        (lambda: RandomSubsetTrainingSampler(5, 0), ValueError, "RANDOM_SUBSET_RATIO.*got 0"),
        (lambda: RepeatFactorTrainingSampler(torch.zeros(3)), ValueError, "> 0 for some image"),
        (lambda: RepeatFactorTrainingSampler(torch.zeros(0)), ValueError, "no image to draw"),
        (lambda: GroupedBatchSampler([1], [0, 0], 0), ValueError, "batch_size must be >= 1"),
        (lambda: GroupedBatchSampler(3, [0, 0], 1), ValueError, "must give indices, got int"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_grouped_batches():
    groups = ["a", "b", "a", "a", "b", "a"]
    batches = list(GroupedBatchSampler(range(6), groups, 2))
    assert batches == [[0, 2], [1, 4], [3, 5]]
    assert list(GroupedBatchSampler([], groups, 2)) == []
    with pytest.raises(TypeError, match=r"not known"):
        len(GroupedBatchSampler([0], groups, 2))
