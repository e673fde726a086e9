"""Loaders: from a config, or from explicit arguments, to batches of mapped records."""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data.sampler import Sampler

from lucidet._absent import absent
from lucidet.config import configurable
from lucidet.data.batch_order import BatchOrder, MappedBatches
from lucidet.data.catalog import MetadataCatalog
from lucidet.data.check_masks import check_keypoints, check_masks
from lucidet.data.common import (
    AspectRatioGroupedDataset,
    DatasetFromList,
    MapDataset,
    wide_or_not,
)
from lucidet.data.dataset_mapper import DatasetMapper
from lucidet.data.records import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    print_instances_class_histogram,
)
from lucidet.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatedSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from lucidet.data.skipped_records import skipping
from lucidet.data.specification import dataset_names
from lucidet.utils.comm import get_world_size
from lucidet.utils.env import seed_all_rng

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
    "trivial_batch_collator",
    "worker_init_reset_seed",
]

logger = logging.getLogger(__name__)

load_proposals_into_dataset = absent("load_proposals_into_dataset")

Mapper = Callable[[dict[str, Any]], "dict[str, Any] | None"]


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """Return the list of records as it is: images differ in size and are padded by the model."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Give each worker process its own numpy and Python random state."""
    if get_worker_info() is not None:
        # Ctrl-C reaches all processes of a terminal; the training process decides when to stop
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # torch has already given each worker a seed of its own
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


class _CollatedBatches(IterableDataset):
    """Applies a collate function to ready batches; iterable many times, as a loader is."""

    def __init__(self, batches: Iterable[Any], collate_fn: Callable[[Any], Any]) -> None:
        self.batches, self.collate_fn = batches, collate_fn

    def __iter__(self) -> Any:
        return map(self.collate_fn, self.batches)


def build_batch_data_loader(
    dataset: Any,
    sampler: Sampler[int] | None,
    total_batch_size: int,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int | None = 2,
    persistent_workers: bool = False,
    pin_memory: bool | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> Any:
    """Return an endless iterable of batches for training.

    Args:
        dataset: a data set with indices, or a stream.
        sampler: gives the indices; None for a stream.
        total_batch_size: images in a step over all processes; a multiple of their number.
        aspect_ratio_grouping: batches of images that are all wide or all high; records need
            ``width`` and ``height``.
        num_workers: loading processes for each training process; 0 loads in it.
        collate_fn: makes a batch of a list; default leaves the list.
        drop_last: as in ``torch.utils.data.DataLoader``.
        single_gpu_batch_size: images in a step of this process, instead of `total_batch_size`.
        prefetch_factor, persistent_workers: as in DataLoader; without effect without workers.
        pin_memory: images in memory that a GPU copies from while it works; default: if there is
            a GPU.
        seed: of what is random about each image; default: that of the sampler's order.
        kwargs: further arguments of DataLoader.

    Raises:
        ValueError: the batch is not a multiple of the number of processes.
    """
    if single_gpu_batch_size is not None:
        if total_batch_size:
            raise ValueError("give either total_batch_size or single_gpu_batch_size, not both")
        batch_size = single_gpu_batch_size
    else:
        world_size = get_world_size()
        if total_batch_size <= 0 or total_batch_size % world_size:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH (total_batch_size) is {total_batch_size}; it counts the "
                f"images of all {world_size} processes together: make it a multiple of {world_size}"
            )
        batch_size = total_batch_size // world_size
    if num_workers > 0:
        kwargs.update(prefetch_factor=prefetch_factor, persistent_workers=persistent_workers)
    options = {
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available() if pin_memory is None else pin_memory,
        "worker_init_fn": worker_init_reset_seed,
        **kwargs,
    }
    collate = collate_fn or trivial_batch_collator
    if isinstance(dataset, IterableDataset):
        _refuse_order(sampler)
        options["generator"] = None if seed is None else torch.Generator().manual_seed(seed)
        if aspect_ratio_grouping:
            # workers give single records, which are sorted into batches here
            loader = DataLoader(
                dataset, batch_size=None, collate_fn=trivial_batch_collator, **options
            )
            return _CollatedBatches(AspectRatioGroupedDataset(loader, batch_size), collate)
        return DataLoader(
            dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate, **options
        )

    groups = _wide_or_not(dataset) if aspect_ratio_grouping else None
    late = aspect_ratio_grouping and groups is None  # the mapped records have to tell
    order = BatchOrder(sampler or (), 1 if late else batch_size, groups, drop_last, seed)
    batches = MappedBatches(dataset, order, trivial_batch_collator if late else collate)
    options["generator"] = torch.Generator().manual_seed(order.seed)
    loader = DataLoader(batches, batch_size=None, collate_fn=trivial_batch_collator, **options)
    if not late:
        return loader
    return _CollatedBatches(AspectRatioGroupedDataset(_Flat(loader), batch_size), collate)


class _Flat(IterableDataset):
    """The records of batches, one by one."""

    def __init__(self, batches: Iterable[list[Any]]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return itertools.chain.from_iterable(self.batches)


def _wide_or_not(dataset: Any) -> list[bool] | None:
    """Return the groups of the records behind `dataset`, None where they do not tell."""
    while isinstance(dataset, MapDataset):
        dataset = dataset._dataset
    return wide_or_not(dataset) if isinstance(dataset, list) else getattr(dataset, "is_wide", None)


def _mapped_and_ordered(
    dataset: Any,
    mapper: Mapper | None,
    sampler: Sampler[int] | None,
    default_sampler: Callable[[int], Sampler[int]],
    on_error: str = "stop",
    max_skipped: int = 0,
) -> tuple[Any, Sampler[int] | None]:
    """Return the data set with `mapper` applied to its records, and the sampler it needs.

    A list is kept in memory that the workers share; a stream has no sampler.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper, skipping(on_error, max_skipped, dataset))
    if isinstance(dataset, IterableDataset):
        _refuse_order(sampler)
    elif sampler is None:
        sampler = default_sampler(len(dataset))
    return dataset, sampler


def _refuse_order(sampler: Sampler[int] | None) -> None:
    if sampler is not None:
        raise ValueError("a streaming data set has its own order: sampler must be None")


def _default_mapper(cfg: Any, is_train: bool) -> Mapper:
    return DatasetMapper(cfg, is_train)  # type: ignore[call-arg, arg-type]  # @configurable


def _train_sampler_from_config(cfg: Any, records: Any) -> Sampler[int] | None:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name != "TrainingSampler":
        logger.info("training sampler: %s", name)
    if isinstance(records, IterableDataset):
        return None
    # with SEED the order of the images repeats too; else the processes agree on a random one
    seed = cfg.SEED if cfg.SEED >= 0 else None
    if name == "TrainingSampler":
        return TrainingSampler(len(records), seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return RandomSubsetTrainingSampler(len(records), ratio, seed_shuffle=seed, seed_subset=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=seed)
    raise ValueError(
        f"unknown DATALOADER.SAMPLER_TRAIN {name!r}; known: TrainingSampler, "
        "RandomSubsetTrainingSampler, RepeatFactorTrainingSampler"
    )


def _with_masks_and_keypoints(
    cfg: Any, records: list[dict[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the records after a look at the masks and keypoints that the config asks for."""
    if cfg.MODEL.KEYPOINT_ON:
        points = MetadataCatalog.get(names[0]).get("keypoint_names")
        check_keypoints(records, names, None if points is None else len(points))
    if cfg.MODEL.MASK_ON:
        return check_masks(records, names, cfg.INPUT.MASK_FORMAT)
    return records


def _train_loader_from_config(
    cfg: Any,
    mapper: Mapper | None = None,
    *,
    dataset: Any = None,
    sampler: Sampler[int] | None = None,
) -> dict[str, Any]:
    names = dataset_names(cfg.DATASETS.TRAIN, "train") if dataset is None else ["given"]
    if dataset is None:
        on = cfg.MODEL.KEYPOINT_ON
        dataset = get_detection_dataset_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if on else 0,
        )
    # a mapper of user code may have its masks and keypoints from elsewhere
    if mapper is None and isinstance(dataset, list):
        dataset = _with_masks_and_keypoints(cfg, dataset, names)
    return {
        "dataset": dataset,
        "sampler": _train_sampler_from_config(cfg, dataset) if sampler is None else sampler,
        "mapper": _default_mapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "on_error": cfg.DATALOADER.ON_ERROR,
        "max_skipped": cfg.DATALOADER.MAX_SKIPPED,
        "seed": cfg.SEED if cfg.SEED >= 0 else None,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    on_error: str = "stop",
    max_skipped: int = 100,
    **kwargs: Any,
) -> Any:
    """Return an endless iterable of training batches, each a list of mapped records.

    Call it with a config, ``build_detection_train_loader(cfg)``, or with explicit arguments:

    Args:
        dataset: a list of records (then kept in memory that the workers share), or a data set.
        mapper: record -> what the model is fed; None leaves the records.
        sampler: order of the images; default a TrainingSampler (None for a stream). One that ends
            after a pass, as torch's do, is repeated.
        total_batch_size, aspect_ratio_grouping, num_workers, collate_fn, kwargs:
            see :func:`build_batch_data_loader`.
        on_error: "stop": an image that can't be read, or a mapper that raises, ends the training;
            "skip": another image takes its place, the same for any number of workers.
        max_skipped: with "skip", at most this many different records of each training process.

    Raises:
        ValueError: `on_error` is not known, or the dataset streams and can't skip.
    """
    dataset, sampler = _mapped_and_ordered(
        dataset, mapper, sampler, TrainingSampler, on_error, max_skipped
    )
    if sampler is not None and not isinstance(sampler, TrainingSampler):
        sampler = RepeatedSampler(sampler, kwargs.get("seed"))
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _test_loader_from_config(
    cfg: Any, dataset_name: str | list[str] | tuple[str, ...], mapper: Mapper | None = None
) -> dict[str, Any]:
    # all images count in an evaluation, those without objects too
    dataset = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return {
        "dataset": dataset,
        "mapper": _default_mapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "batch_size": cfg.TEST.BATCH_SIZE,
        "sampler": None if isinstance(dataset, IterableDataset) else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """Return a loader that gives each image once, over all processes together.

    Call it with a config, ``build_detection_test_loader(cfg, "coco_2017_val")``, or with explicit
    arguments:

    Args:
        dataset: a list of records, or a data set.
        mapper: record -> what the model is fed; None leaves the records.
        sampler: default an InferenceSampler, which splits exactly.
        batch_size: images in a batch of this process.
        num_workers: loading processes.
        collate_fn: makes a batch of a list; default leaves the list.
    """
    dataset, sampler = _mapped_and_ordered(dataset, mapper, sampler, InferenceSampler)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
        pin_memory=torch.cuda.is_available(),
    )
