"""Register data sets that come as COCO annotation files."""

from __future__ import annotations

import os
from typing import Any

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.coco import load_coco_json

__all__ = ["register_coco_instances"]


def register_coco_instances(
    name: str,
    metadata: dict[str, Any],
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
) -> None:
    """Register a data set in COCO's instances format under `name`.

    Args:
        name: as in ``DATASETS.TRAIN``.
        metadata: further metadata, may be empty.
        json_file: the annotation file; read when the data set is used.
        image_root: folder of the images.

    >>> register_coco_instances("my_cells", {}, "cells/annotations.json", "cells/images")
    >>> MetadataCatalog.get("my_cells").evaluator_type
    'coco'
    >>> DatasetCatalog.remove("my_cells"); MetadataCatalog.remove("my_cells")
    """
    for what, value in (("name", name), ("json_file", json_file), ("image_root", image_root)):
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError(
                f"register_coco_instances(name, metadata, json_file, image_root): {what} must be "
                f"text, got {type(value).__name__}"
            )
    if not isinstance(metadata, dict):
        raise ValueError(
            "register_coco_instances(name, metadata, json_file, image_root): metadata must be a "
            f"dict, may be {{}}, got {type(metadata).__name__}"
        )
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=os.fspath(json_file),
        image_root=os.fspath(image_root),
        evaluator_type="coco",
        **metadata,
    )
