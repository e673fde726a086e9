"""Data: catalogs of data sets, mappers, transforms, samplers and loaders."""

from lucidet.data import datasets, samplers, transforms  # datasets registers the built-in ones
from lucidet.data.build import (
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from lucidet.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from lucidet.data.common import (
    AspectRatioGroupedDataset,
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
)
from lucidet.data.dataset_mapper import DatasetMapper
from lucidet.data.specification import SpecificationError, dataset_names

__all__ = [
    "AspectRatioGroupedDataset",
    "DatasetCatalog",
    "DatasetFromList",
    "DatasetMapper",
    "MapDataset",
    "Metadata",
    "MetadataCatalog",
    "SpecificationError",
    "ToIterableDataset",
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "dataset_names",
    "datasets",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
    "samplers",
    "transforms",
]
