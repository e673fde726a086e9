"""Records that can't be mapped: another image takes their place, or the training ends."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from lucidet.config import get_cfg
from lucidet.data import DatasetFromList, MapDataset, build_detection_train_loader
from lucidet.data.samplers import TrainingSampler
from lucidet.data.skipped_records import SkippedRecords, find_skipped
from lucidet.engine import hooks

RECORDS = [
    {"image_id": i, "width": 6, "height": 9 if i % 3 == 0 else 4, "file_name": f"{i}.jpg"}
    for i in range(11)
]
BROKEN = (2, 6)


def augmented(record: dict[str, Any]) -> tuple[Any, ...]:
    drawn = random.random(), np.random.rand(), float(torch.rand(1))
    if record["image_id"] in BROKEN:
        raise OSError("truncated")
    return record["image_id"], *drawn


def broken(record: dict[str, Any]) -> None:
    raise KeyError("bbox")


def loader(workers: int = 0, mapper: Any = augmented, **how: Any) -> Any:
    options = {"total_batch_size": 4, "seed": 3, "on_error": "skip"} | how
    options = {"sampler": TrainingSampler(11, seed=7)} | options
    return build_detection_train_loader(RECORDS, mapper=mapper, num_workers=workers, **options)


def take(batches: Any, count: int) -> list[Any]:
    return list(itertools.islice(batches, count))


@pytest.mark.parametrize("grouping", [False, True])
def test_replacements_depend_on_seed_and_position(
    grouping: bool, caplog: pytest.LogCaptureFixture
) -> None:
    alone = loader(aspect_ratio_grouping=grouping)
    with caplog.at_level("WARNING", logger="lucidet"):
        expected = take(alone, 9)
    assert not {record[0] for batch in expected for record in batch} & {*BROKEN}
    assert all(len(batch) == 4 for batch in expected)
    said = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert len(said) == 2, "once each"
    assert any("6.jpg (image_id 6): OSError: truncated" in line for line in said)
    several = loader(2, aspect_ratio_grouping=grouping)
    assert take(several, 9) == expected
    assert len(find_skipped(several)) == 2, "one memory for all workers"
    position = alone.dataset.order.position(8)
    resumed = loader(aspect_ratio_grouping=grouping)
    resumed.dataset.order.go_to(position)
    assert take(resumed, 7) == expected[2:]


def test_the_replacement_does_not_depend_on_how_far_mapping_came() -> None:
    def early(record: dict[str, Any]) -> Any:
        if record["image_id"] in BROKEN:
            raise OSError("truncated")
        return record["image_id"]

    def late(record: dict[str, Any]) -> Any:
        augmented(record)
        return record["image_id"]

    # the images themselves are the same; what is drawn for a replacement may differ
    assert take(loader(mapper=early), 1) == take(loader(mapper=late), 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_limit_end_the_training(workers: int) -> None:
    with pytest.raises(ValueError, match=r"2 records can't be mapped.*MAX_SKIPPED 1; .*\.jpg"):
        take(loader(workers, max_skipped=1), 9)


def test_where_nothing_can_be_mapped() -> None:
    with pytest.raises(ValueError, match=r"1000 items in a row.*11 raise errors, see the log"):
        take(loader(mapper=broken), 1)


def test_an_error_stops_by_default() -> None:
    with pytest.raises(OSError, match="truncated"):
        take(loader(on_error="stop"), 9)
    assert get_cfg().DATALOADER.ON_ERROR == "stop"


def test_skipped_records_are_counted_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    batches = loader()
    hook = hooks.DataPosition(batches, 4)
    with caplog.at_level("WARNING", logger="lucidet"):
        hook.after_train()
        assert not caplog.records
        take(batches, 5)
        hook.after_train()
    assert "2 of 11 records were skipped" in caplog.text


def test_a_record_that_is_no_dict_and_one_that_cannot_be_read() -> None:
    class Shut(DatasetFromList):
        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise OSError("shut")
            return super().__getitem__(index)

    skipped = SkippedRecords(3, 1)
    data = MapDataset(Shut([5, 6, 7]), lambda item: item, skipped)
    assert data[1] in (5, 7)
    assert len(skipped) == 1


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(RECORDS)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"on_error": "ignore"}, r"DATALOADER.ON_ERROR must be one of .*'ignore'"),
        ({"max_skipped": -1}, r"DATALOADER.MAX_SKIPPED must be at least 0, got -1"),
    ],
)
def test_values_that_are_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(**how)


def test_a_stream_cannot_skip() -> None:
    with pytest.raises(ValueError, match=r"this one streams.*ON_ERROR stop"):
        build_detection_train_loader(
            Stream(), mapper=augmented, total_batch_size=2, on_error="skip"
        )
