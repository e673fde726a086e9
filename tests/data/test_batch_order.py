"""Randomness by position: workers, processes and interruptions change no image."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lucidet.data import build_detection_train_loader
from lucidet.data.batch_order import BatchOrder, MappedBatches
from lucidet.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from lucidet.utils import comm
from lucidet.utils.keyed_random import IMAGE, STEP, kept_cpu_generators, seed_cpu_generators

#: 11 images, 4 of them higher than wide
RECORDS = [
    {"image_id": i, "width": 6, "height": 9 if i % 3 == 0 else 4, "file_name": f"{i}.jpg"}
    for i in range(11)
]


def augmented(record: dict[str, Any]) -> tuple[Any, ...] | None:
    """A user's mapper: it draws from all three generators, and refuses an image now and then."""
    drawn = random.random(), np.random.rand(), float(torch.rand(1))
    if drawn[0] < 0.2:
        return None
    return record["image_id"], *drawn


SAMPLERS = {
    "plain": lambda: TrainingSampler(11, seed=7),
    "subset": lambda: RandomSubsetTrainingSampler(11, 0.8, seed_shuffle=7, seed_subset=7),
    "repeat": lambda: RepeatFactorTrainingSampler(torch.linspace(0.5, 2.3, 11), seed=7),
}


def loader(
    workers: int = 0, grouping: bool = True, batch: int = 4, kind: str = "plain", seed: int = 3
) -> Any:
    return build_detection_train_loader(
        RECORDS,
        mapper=augmented,
        sampler=SAMPLERS[kind](),
        total_batch_size=batch,
        aspect_ratio_grouping=grouping,
        num_workers=workers,
        seed=seed,
    )


def take(batches: Any, count: int) -> list[Any]:
    return list(itertools.islice(batches, count))


def on_ranks(monkeypatch: pytest.MonkeyPatch, world: int, count: int, **how: Any) -> list[Any]:
    """Return the batches of the run, put together from those of `world` processes."""
    shares = []
    for rank in range(world):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("lucidet.data.build.get_world_size", lambda: world)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)
        shares.append(take(loader(**how), count))
    return [
        [record for row in zip(*parts, strict=True) for record in row]
        for parts in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("grouping", [False, True])
def test_workers_and_processes_see_the_same_images(
    monkeypatch: pytest.MonkeyPatch, grouping: bool, kind: str
) -> None:
    how = {"grouping": grouping, "kind": kind}
    expected = take(loader(**how), 9)
    assert len({record for batch in expected for record in batch}) == 36
    for world in (2, 4):
        assert on_ranks(monkeypatch, world, 9, **how) == expected, world
    monkeypatch.undo()
    for workers in (2, 4) if kind == "plain" else (2,):
        assert take(loader(workers, **how), 9) == expected, workers


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("done", [0, 1, 5])
def test_a_resumed_run_goes_on(workers: int, kind: str, done: int) -> None:
    if workers and (kind != "plain" or not done):
        pytest.skip("starting workers is slow")
    expected = take(loader(kind=kind), 9)
    first = loader(workers, kind=kind)
    position = first.dataset.order.position(4 * done)
    second = loader(workers, kind=kind, seed=99)  # a new process drew another seed
    second.dataset.order.sampler.reseed(99)
    second.dataset.order.go_to(position)
    assert take(second, 9 - done) == expected[done:]
    third = loader(kind=kind)
    third.dataset.order.go_to(second.dataset.order.position(4))  # interrupted again
    assert take(third, 8 - done) == expected[done + 1 :]


def test_another_batch_size_skips_as_many_images() -> None:
    order = BatchOrder(TrainingSampler(11, seed=7), 4)
    stream = take(order.sampler.stream(), 60)
    smaller = BatchOrder(TrainingSampler(11, seed=7), 3)
    smaller.go_to(order.position(8))
    assert next(iter(smaller)) == [(n, stream[n]) for n in (8, 9, 10)]
    assert smaller.position(6) == {"start": 8, "batches": 2, "batch_size": 3, "seed": 7, "order": 7}


def test_the_users_seed_counts_on_resume() -> None:
    first = BatchOrder(TrainingSampler(11, seed=7), 4)
    second = BatchOrder(TrainingSampler(11, seed=8), 4)
    second.go_to(first.position(8), seed=8)
    assert (second.seed, second.sampler.seed) == (8, 8)
    assert next(iter(second))[0][0] == 8


def test_position_of_an_older_checkpoint() -> None:
    order = BatchOrder(TrainingSampler(11, seed=7), 4)
    order.go_to({"seed": 5, "start": 8})
    assert next(iter(order)) == list(enumerate(take(TrainingSampler(11, seed=5), 12)))[8:]


def test_own_sampler_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(BatchOrder([5, 6, 7], 2)) == [[(0, 5), (1, 6)]]
    assert list(BatchOrder([5, 6, 7], 2, drop_last=False)) == [[(0, 5), (1, 6)], [(2, 7)]]
    assert list(BatchOrder([], 2)) == []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    monkeypatch.setattr(comm, "shared_random_seed", lambda: 4)
    order = BatchOrder([5, 6, 7, 8], 2)  # this process's own part
    assert list(order) == [[(1, 5), (3, 6)], [(5, 7), (7, 8)]]
    order.go_to(order.position(4))
    assert list(order) == [[(5, 7), (7, 8)]]


def test_records_without_sizes_are_grouped_once_they_are_mapped() -> None:
    bare = [{"image_id": i} for i in range(8)]

    def measured(record: dict[str, Any]) -> dict[str, Any]:
        return record | {"width": 5, "height": 4 + record["image_id"] % 2 * 2}

    batches = build_detection_train_loader(
        bare, mapper=measured, sampler=range(8), total_batch_size=2, num_workers=0
    )
    # endless: a sampler that ends is repeated
    assert [[r["image_id"] for r in b] for b in take(batches, 4)] == [
        [0, 2],
        [1, 3],
        [4, 6],
        [5, 7],
    ]


def test_the_training_process_keeps_its_random_state() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    with kept_cpu_generators():
        expected = torch.rand(1), np.random.rand(), random.random()
    take(loader(), 3)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_keys_give_different_numbers() -> None:
    drawn = set()
    for purpose, *key in (
        (IMAGE, 0, 0),
        (IMAGE, 0, 1),
        (IMAGE, 1, 0),
        (STEP, 0, 0, 0),
        (STEP, 0, 1),
    ):
        seed_cpu_generators(purpose, *key)
        drawn |= {random.random(), np.random.rand(), float(torch.rand(1))}
    assert len(drawn) == 15
    seed_cpu_generators(IMAGE, 2**62, 2**40)


def test_seeding_an_image_is_cheap() -> None:
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        for n in range(200):
            seed_cpu_generators(IMAGE, 5, n)
        best = min(best, (time.process_time() - start) / 200)
    assert best < 100e-6


def test_length_of_a_finite_loader() -> None:
    batches = MappedBatches(RECORDS, BatchOrder(range(5), 2, drop_last=False), list)
    assert len(DataLoader(batches, batch_size=None)) == 3
