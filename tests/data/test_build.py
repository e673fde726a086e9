from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from lucidet.config import get_cfg
from lucidet.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from lucidet.data import build as build_module
from lucidet.data.datasets import register_coco_instances
from lucidet.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler

RECORDS = [{"image_id": i, "width": 4 + i % 2 * 2, "height": 5} for i in range(8)]


def ids(batch):
    return [record["image_id"] for record in batch]


def take(loader, n):
    return [ids(batch) for batch in itertools.islice(loader, n)]


@pytest.fixture
def cfg(write_coco, name, tmp_path):
    """A config that names the tiny COCO data set."""
    register_coco_instances(name, {}, str(write_coco()), str(tmp_path))
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (name,)
    cfg.DATASETS.TEST = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.INPUT.MIN_SIZE_TRAIN = (32,)
    cfg.INPUT.MIN_SIZE_TEST = 32
    return cfg


def test_train_loader_from_config(cfg):
    batch = next(iter(build_detection_train_loader(cfg)))
    assert len(batch) == 2
    assert batch[0]["image"].dtype == torch.uint8
    assert len(batch[0]["instances"]) == 1
    assert batch[0]["image_id"] in (7, 9)  # 30 has no objects


def test_test_loader_from_config(cfg, name):
    loader = build_detection_test_loader(cfg, name)
    assert [ids(batch) for batch in loader] == [[7], [9], [30]]
    assert len(loader) == 3
    cfg.TEST.BATCH_SIZE = 2
    assert [ids(batch) for batch in build_detection_test_loader(cfg, [name])] == [[7, 9], [30]]


def test_empty_images_can_be_kept(cfg, name):
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(get_detection_dataset_dicts(name, filter_empty=False)) == 3
    loader = build_detection_train_loader(cfg, mapper=lambda record: record)
    seen = set(itertools.chain(*take(loader, 20)))
    assert seen == {7, 9, 30}


def test_own_mapper_dataset_and_sampler(cfg):
    loader = build_detection_train_loader(
        cfg, mapper=lambda r: {**r, "mine": 1}, dataset=RECORDS, sampler=[3, 4, 5, 6]
    )
    assert all(record["mine"] == 1 for record in next(iter(loader)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_workers(workers):
    loader = build_detection_train_loader(
        RECORDS,
        mapper=None,
        sampler=range(8),
        total_batch_size=2,
        aspect_ratio_grouping=False,
        num_workers=workers,
    )
    assert take(loader, 4) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_aspect_ratio_grouping():
    loader = build_detection_train_loader(
        RECORDS, mapper=None, sampler=range(8), total_batch_size=2, collate_fn=tuple
    )
    one_pass = [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert take(loader, 8) == one_pass * 2  # a sampler that ends is repeated
    assert isinstance(next(iter(loader)), tuple)


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("grouping", [False, True])
def test_images_are_pinned_for_a_gpu(gpu, grouping, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    loader = build_detection_train_loader(
        RECORDS,
        mapper=None,
        sampler=range(8),
        total_batch_size=2,
        aspect_ratio_grouping=grouping,
    )
    assert loader.pin_memory is gpu
    assert build_detection_test_loader(RECORDS, mapper=None).pin_memory is gpu


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("RandomSubsetTrainingSampler", RandomSubsetTrainingSampler),
        ("RepeatFactorTrainingSampler", RepeatFactorTrainingSampler),
    ],
)
def test_samplers_by_name(cfg, kind, expected):
    cfg.DATALOADER.SAMPLER_TRAIN = kind
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    loader = build_detection_train_loader(cfg)
    assert isinstance(loader.dataset.order.sampler, expected)
    cfg.DATALOADER.SAMPLER_TRAIN = "Other"
    with pytest.raises(ValueError, match=r"SAMPLER_TRAIN 'Other'; known: TrainingSampler"):
        build_detection_train_loader(cfg)


def test_processes_share_the_total_batch(monkeypatch):
    whole = next(iter(_loader(4)))
    shares = []
    for rank in range(2):
        monkeypatch.setattr("lucidet.utils.comm.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("lucidet.utils.comm.get_world_size", lambda: 2)
        monkeypatch.setattr(build_module, "get_world_size", lambda: 2)
        shares.append(next(iter(_loader(4))))
    assert [len(share) for share in shares] == [2, 2]
    assert sorted(ids(shares[0]) + ids(shares[1])) == sorted(ids(whole))
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH.*is 3.*multiple of 2"):
        _loader(3)


def _loader(total):
    from lucidet.data.samplers import TrainingSampler

    return build_batch_data_loader(RECORDS, TrainingSampler(8, seed=1), total)


class _Squares(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"image_id": index}


class _Stream(IterableDataset):
    def __iter__(self):
        return ({"image_id": i} for i in range(4))


def test_torch_data_sets_and_streams(name):
    DatasetCatalog.register(name, _Squares)
    joined = get_detection_dataset_dicts([name, name])
    assert len(joined) == 6
    loader = build_detection_train_loader(
        _Stream(), mapper=None, total_batch_size=2, aspect_ratio_grouping=False
    )
    assert take(loader, 2) == [[0, 1], [2, 3]]
    assert [ids(b) for b in build_detection_test_loader(_Stream(), mapper=None)] == [
        [0], [1], [2], [3]
    ]  # fmt: skip
    for build in (build_detection_train_loader, build_detection_test_loader):
        more = {"total_batch_size": 1} if build is build_detection_train_loader else {}
        with pytest.raises(ValueError, match=r"sampler must be None"):
            build(_Stream(), mapper=None, sampler=[0], **more)


def test_single_gpu_batch_size():
    loader = build_batch_data_loader(RECORDS, range(8), 0, single_gpu_batch_size=3)
    assert take(loader, 5) == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"either total_batch_size or single_gpu_batch_size"):
        build_batch_data_loader(RECORDS, range(8), 2, single_gpu_batch_size=3)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH.*is 0"):
        build_batch_data_loader(RECORDS, range(8), 0)


class _NumpyDraws(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return float(np.random.rand())


def test_workers_draw_different_numbers():
    loader = build_batch_data_loader(_NumpyDraws(), range(8), 1, num_workers=2, seed=0)
    drawn = [batch[0] for batch in loader]
    assert len(set(drawn)) == 8
    again = build_batch_data_loader(_NumpyDraws(), range(8), 1, num_workers=2, seed=0)
    assert [batch[0] for batch in again] == drawn


def test_objects_are_counted(cfg, name, caplog):
    with caplog.at_level(logging.DEBUG, "lucidet"):  # on the console once for each dataset
        get_detection_dataset_dicts(name)
    assert "left out 1 of 3 images without usable annotations" in caplog.text
    row = next(line for line in caplog.text.splitlines() if "brush" in line)
    assert row.split("|")[1:-1] == [" car      ", "        1 ", " brush    ", "        1 ",
                                    " total    ", "        2 "]  # fmt: skip


def test_what_can_go_wrong_is_named(cfg, name, write_coco):
    with pytest.raises(ValueError, match=r"no data set named: set DATASETS.TRAIN"):
        get_detection_dataset_dicts([])
    with pytest.raises(KeyError, match=r"unknown data set 'coco_2018_val'"):
        get_detection_dataset_dicts("coco_2018_val")
    with pytest.raises(ValueError, match=r"leave proposal_files"):
        get_detection_dataset_dicts(name, proposal_files=["x.pkl"])
    write_coco(lambda c: c.update(annotations=[]))
    with pytest.raises(ValueError, match=f"{name}.*none of 3 images.*FILTER_EMPTY_ANNOTATIONS"):
        get_detection_dataset_dicts(name)
    write_coco(lambda c: c.update(annotations=[], images=[]))
    with pytest.raises(ValueError, match=f"{name}' has no images"):
        get_detection_dataset_dicts(name, filter_empty=False)


def test_class_out_of_range_is_named(name):
    anno = {"category_id": 2, "bbox": [0, 0, 1, 1], "bbox_mode": 0}
    DatasetCatalog.register(name, lambda: [{"file_name": "x.jpg", "annotations": [anno]}])
    assert len(get_detection_dataset_dicts(name)) == 1  # class names unknown: nothing to compare
    MetadataCatalog.get(name).thing_classes = ["a", "b"]
    with pytest.raises(ValueError, match=r"x.jpg .*category_id 2 is not in 0..1.*2 classes"):
        get_detection_dataset_dicts(name)
