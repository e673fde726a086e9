"""Datasets named by what they are on disk: a folder, a file, or ``KIND:PATH@IMAGES:SPLIT``.

``resolve`` is for data given once (``--data SPEC``): training and validation split, one class list.
``dataset_names`` is for names in a config. Wherever lucidet looks up a dataset's name, a
specification works too (``DATASETS.TEST``, ``DatasetCatalog.get``): without a split, it means the
training split in ``DATASETS.TRAIN`` and the validation split elsewhere.
"""

from __future__ import annotations

from lucidet.data.specification.reading import SpecificationError
from lucidet.data.specification.register import (
    connect,
    dataset_names,
    every_split,
    explicit,
    is_specification,
    resolve,
)

__all__ = [
    "SpecificationError",
    "connect",
    "dataset_names",
    "every_split",
    "explicit",
    "is_specification",
    "resolve",
]
