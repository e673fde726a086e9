"""LVIS annotation files: COCO's layout, with images named by their address and no crowds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.builtin_meta import _get_coco_instances_meta
from lucidet.data.datasets.coco import records_of_content
from lucidet.data.datasets.coco_json import check_coco, read_json
from lucidet.data.fields import id_order

__all__ = ["get_lvis_instances_meta", "load_lvis_json", "register_lvis_instances"]

#: what LVIS says of an image beside its annotations
_IMAGE_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")


def load_lvis_json(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Load a file in LVIS' format.

    Args:
        json_file: the annotation file, of v0.5 or v1.
        image_root: folder of ``train2017``, ``val2017`` and ``test2017``: an image is where the
            end of its ``coco_url`` says, else at its ``file_name``.
        dataset_name, extra_annotation_keys: as for `load_coco_json`. The classes are the file's
            categories in the order of their ids.

    Returns:
        records as `load_coco_json` returns them, with ``neg_category_ids`` and
        ``not_exhaustive_category_ids`` (ids of the file) where the file has them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken; names file, id and repair.
    """
    content = read_json(json_file)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content["images"] = [_with_file_name(image) for image in content["images"]]
    content = check_coco(content, str(json_file))
    records = records_of_content(
        content, str(json_file), image_root, dataset_name, extra_annotation_keys or ()
    )
    of_image = {image["id"]: image for image in content["images"]}
    for record in records:
        image = of_image[record["image_id"]]
        record.update((key, image[key]) for key in _IMAGE_KEYS if key in image)
    return records


def _with_file_name(image: Any) -> Any:
    """Return an entry of ``images`` whose name is ``<split>/<file>`` of its address."""
    if not isinstance(image, dict) or not isinstance(image.get("coco_url"), str):
        return image
    return {**image, "file_name": "/".join(image["coco_url"].split("/")[-2:])}


def register_lvis_instances(
    name: str,
    metadata: dict[str, Any],
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
) -> None:
    """Register a dataset in LVIS' format under `name`; arguments as `register_coco_instances`."""
    DatasetCatalog.register(name, lambda: load_lvis_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=os.fspath(json_file),
        image_root=os.fspath(image_root),
        evaluator_type="lvis",
        **metadata,
    )


def get_lvis_instances_meta(dataset_name: str) -> dict[str, Any]:
    """Return the classes of a registered LVIS dataset, read from its annotation file.

    Args:
        dataset_name: as "lvis_v1_train"; a "cocofied" one has COCO's classes.

    Raises:
        FileNotFoundError: the file is not there.
    """
    if "cocofied" in dataset_name:
        return _get_coco_instances_meta()
    file = Path(MetadataCatalog.get(dataset_name).json_file)
    categories = check_coco({**read_json(file), "images": [], "annotations": []}, str(file))
    ordered = sorted(categories["categories"], key=lambda category: id_order(category["id"]))
    return {"thing_classes": [category["name"] for category in ordered]}
