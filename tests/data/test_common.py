from __future__ import annotations

import gc
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lucidet.data.common import (
    AspectRatioGroupedDataset,
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
    set_default_dataset_from_list_serialize_method,
)
from lucidet.data.shared_list import SharedList


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def plus_one(x):
    return x + 1


def identity(x):
    return x


def odd_only(x):
    return x if x % 2 else None


@pytest.mark.parametrize("items", [[], [{"a": 1}], [{"a": i, "b": "x" * i} for i in range(50)]])
def test_shared_list_is_a_list(items):
    shared = SharedList(items)
    assert list(shared) == items
    assert shared[:2] == items[:2]
    assert len(shared) == len(items)
    if items:
        assert shared[-1] == items[-1]
        assert shared[0] is not shared[0]
    with pytest.raises(IndexError, match=f"list of {len(items)} items"):
        shared[len(items)]


def test_changes_to_an_item_do_not_stay():
    for data in (DatasetFromList([{"a": 1}]), DatasetFromList([{"a": 1}], serialize=False)):
        data[0]["a"] = 2
        assert data[0] == {"a": 1}
    same = [{"a": 1}]
    assert DatasetFromList(same, copy=False, serialize=False)[0] is same[0]


def test_own_way_of_storing():
    assert DatasetFromList([1, 2], serialize=lambda items: [i * 10 for i in items])[1] == 20
    with set_default_dataset_from_list_serialize_method(lambda items: [0 for _ in items]):
        assert DatasetFromList([1, 2])[1] == 0
    assert DatasetFromList([1, 2])[1] == 2


class _WriteFirstByte(torch.utils.data.Dataset):
    """A worker overwrites a byte of the buffer: the other side sees it only if it is shared."""

    def __init__(self, shared: SharedList) -> None:
        self.shared = shared

    def __len__(self):
        return 1

    def __getitem__(self, index):
        seen = int(self.shared._bytes[-1])
        self.shared._bytes[-1] = 99
        return seen


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)  # a spawned process imports torch: seconds
def test_workers_share_the_buffer(method):
    shared = SharedList([{"image_id": i} for i in range(20)])
    before = int(shared._bytes[-1])
    loader = DataLoader(
        _WriteFirstByte(shared),
        batch_size=None,
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=identity,
    )
    assert list(loader) == [before]
    assert int(shared._bytes[-1]) == 99
    del loader
    gc.collect()


@pytest.mark.parametrize("workers", [0, 2])
def test_map_in_workers(workers):
    data = MapDataset(DatasetFromList([1, 2, 3]), plus_one)
    assert len(data) == 3
    loader = DataLoader(data, batch_size=None, num_workers=workers, collate_fn=identity)
    assert list(loader) == [2, 3, 4]


def test_none_is_replaced_by_another_item():
    data = MapDataset(DatasetFromList(list(range(10))), odd_only)
    assert data[3] == 3
    assert {data[4] for _ in range(50)} <= {1, 3, 5, 7, 9}
    copy = pickle.loads(pickle.dumps(data))
    assert copy[1] == 1


def test_a_mapper_that_refuses_all_is_an_error(caplog):
    data = MapDataset(DatasetFromList([0, 2]), odd_only)
    with pytest.raises(
        ValueError, match=r"None for 1000 items in a row, starting with item 1 of 2"
    ):
        data[1]
    assert "returned None for 3 items in a row" in caplog.text


def test_streams_leave_refused_items_out():
    assert list(MapDataset(Stream(range(6)), odd_only)) == [1, 3, 5]


@pytest.mark.parametrize(("workers", "chunk"), [(0, 1), (1, 1), (2, 1), (2, 3), (2, 2)])
def test_workers_split_the_sampler(workers, chunk):
    data = ToIterableDataset(DatasetFromList(list(range(20))), range(20), shard_chunk_size=chunk)
    loader = DataLoader(data, batch_size=chunk, num_workers=workers, collate_fn=identity)
    batches = list(loader)
    assert sorted(i for batch in batches for i in batch) == list(range(20))
    # chunks as large as a batch: the batches are those of a single process
    full = [batch for batch in batches if len(batch) == chunk]
    assert all(batch == list(range(batch[0], batch[0] + chunk)) for batch in full)
    assert len(data) == 20


def test_unsplit_sampler_repeats_in_each_worker():
    data = ToIterableDataset(DatasetFromList([5, 6]), [0, 1], shard_sampler=False)
    loader = DataLoader(data, batch_size=None, num_workers=2, collate_fn=identity)
    assert sorted(loader) == [5, 5, 6, 6]


def test_aspect_ratio_groups():
    wide, high = {"width": 4, "height": 3}, {"width": 3, "height": 4}
    square = {"width": 3, "height": 3}
    batches = list(AspectRatioGroupedDataset([wide, high, wide, square, high], 2))
    assert batches == [[wide, wide], [high, square]]
    assert list(AspectRatioGroupedDataset([], 2)) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ToIterableDataset(Stream([]), []), "takes a data set with indices"),
        (lambda: ToIterableDataset([1], 3), "must give indices, got int"),
        (lambda: AspectRatioGroupedDataset([], 0), "batch_size must be >= 1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
