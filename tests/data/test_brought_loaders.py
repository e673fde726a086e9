"""Samplers, datasets and mappers of user code in the loader of a training."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

import pytest
import torch
from torch.utils.data import (
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lucidet.data import build_detection_train_loader
from lucidet.data import transforms as T
from lucidet.data.samplers import RepeatedSampler, TrainingSampler
from lucidet.utils.env import seed_all_rng

RECORDS = [{"image_id": i, "width": 60 - 40 * (i % 2), "height": 40} for i in range(6)]


def ids(loader, count):
    return [r["image_id"] for r in islice(chain.from_iterable(loader), count)]


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "sampler",
    [
        WeightedRandomSampler([1.0] * 6, 6, replacement=False),
        RandomSampler(RECORDS),
        SequentialSampler(RECORDS),
        SubsetRandomSampler(range(6)),
        [5, 4, 3, 2, 1, 0],
    ],
    ids=lambda s: type(s).__name__,
)
def test_finite_samplers_go_on(sampler, workers, grouping):
    loader = build_detection_train_loader(
        RECORDS,
        mapper=lambda record: dict(record),
        sampler=sampler,
        total_batch_size=3 if grouping else 2,
        num_workers=workers,
        aspect_ratio_grouping=grouping,
    )
    counts = Counter(ids(loader, 18))
    assert set(counts) == set(range(6))
    assert max(counts.values()) <= 4, "three passes; groups may run a little ahead"


def test_passes_are_shuffled_anew_and_the_same_in_every_worker():
    sampler = RepeatedSampler(RandomSampler(range(50)), seed=3)
    first, again = list(islice(sampler, 150)), list(islice(sampler, 150))
    assert first == again
    assert sorted(first[:50]) == sorted(first[50:100]) == list(range(50))
    assert first[:50] != first[50:100]
    state = torch.get_rng_state()
    next(iter(sampler))
    assert torch.equal(torch.get_rng_state(), state)


class EndlessWithLength:
    """As samplers of other libraries: a length, and no end."""

    def __len__(self):
        return 3

    def __iter__(self):
        n = 0
        while True:
            yield n
            n += 1


def test_samplers_without_end_or_without_an_index():
    assert list(islice(RepeatedSampler(EndlessWithLength()), 9)) == list(range(9))
    stream = RepeatedSampler(TrainingSampler(4, shuffle=False))
    assert list(islice(stream, 6)) == [0, 1, 2, 3, 0, 1]
    with pytest.raises(ValueError, match="sampler list gave no index"):
        next(iter(RepeatedSampler([])))


class Stream(IterableDataset):
    """Records without a length."""

    def __iter__(self):
        return iter(RECORDS)


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("mapper", [None, lambda record: {"n": record["image_id"], **record}])
def test_a_stream_without_length(mapper, grouping):
    loader = build_detection_train_loader(
        Stream(), mapper=mapper, total_batch_size=3, aspect_ratio_grouping=grouping
    )
    assert sorted(ids(loader, 6)) == list(range(6))


@pytest.mark.parametrize("workers", [0, 2])
def test_records_and_mappers_with_lambdas(workers, caplog):
    records = [{**record, "draw": lambda: 7} for record in RECORDS]
    loader = build_detection_train_loader(
        records,
        mapper=lambda record: {"image_id": record["image_id"], "drawn": record["draw"]()},
        total_batch_size=2,
        num_workers=workers,
        aspect_ratio_grouping=False,
    )
    batch = next(iter(loader))
    assert [r["drawn"] for r in batch] == [7, 7]
    assert "can't be serialised" in caplog.text


def test_mappers_without_width_and_height():
    def mapper(record):
        shape = (3, record["height"], record["width"])
        return {"image_id": record["image_id"], "image": torch.zeros(shape)}

    stripped = [{"image_id": r["image_id"], "size": (r["width"], r["height"])} for r in RECORDS]
    loader = build_detection_train_loader(
        stripped,
        mapper=lambda r: mapper({**r, "width": r["size"][0], "height": r["size"][1]}),
        total_batch_size=3,
    )
    for batch in islice(loader, 4):
        assert len({r["image"].shape for r in batch}) == 1
    loader = build_detection_train_loader(
        stripped, mapper=lambda r: {"image_id": r["image_id"]}, total_batch_size=3
    )
    with pytest.raises(ValueError, match=r"neither width and height nor an image.*GROUPING False"):
        next(iter(loader))


@pytest.mark.parametrize("size", [0.9, 1, (0.9, 0.9)])
def test_one_number_for_a_crop(size):
    crop = T.RandomCrop("relative_range", size)
    h, w = crop.get_crop_size((100, 200))
    assert 90 <= h <= 100
    assert 180 <= w <= 200
    assert T.RandomCrop("absolute", 32).get_crop_size((100, 20)) == (32, 20)


def test_the_same_seeding_gives_the_same_order():
    orders = []
    for _ in range(2):
        seed_all_rng(5)
        orders.append(list(islice(TrainingSampler(40), 80)))
    assert orders[0] == orders[1]
    assert list(islice(TrainingSampler(40), 80)) != orders[0]
