"""Datasets that are known by name: COCO, LVIS, Cityscapes, Pascal VOC, the generated "shapes".

Their files lie under one folder, which is looked up each time one is used:
``LUCIDET_DATASETS``, else ``DETECTRON2_DATASETS``, else ``./datasets``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.builtin_meta import _get_builtin_metadata
from lucidet.data.datasets.cityscapes import load_cityscapes_instances
from lucidet.data.datasets.coco import load_coco_json
from lucidet.data.datasets.lvis import load_lvis_json
from lucidet.data.datasets.pascal_voc import CLASS_NAMES, load_voc_instances

__all__ = ["datasets_root"]

# name -> (image folder, annotation file), relative to the root
_COCO_SPLITS = {
    "coco_2014_train": ("coco/train2014", "coco/annotations/instances_train2014.json"),
    "coco_2014_val": ("coco/val2014", "coco/annotations/instances_val2014.json"),
    "coco_2014_minival": ("coco/val2014", "coco/annotations/instances_minival2014.json"),
    "coco_2014_valminusminival": (
        "coco/val2014",
        "coco/annotations/instances_valminusminival2014.json",
    ),
    "coco_2017_train": ("coco/train2017", "coco/annotations/instances_train2017.json"),
    "coco_2017_val": ("coco/val2017", "coco/annotations/instances_val2017.json"),
    "coco_2017_test": ("coco/test2017", "coco/annotations/image_info_test2017.json"),
    "coco_2017_test-dev": ("coco/test2017", "coco/annotations/image_info_test-dev2017.json"),
}
_KEYPOINT_SPLITS = {
    f"keypoints_coco_{year}_{split}": (
        f"coco/{folder}{year}",
        f"coco/annotations/person_keypoints_{split}{year}.json",
    )
    for year, splits in (
        (2014, {"train": "train", "val": "val", "minival": "val", "valminusminival": "val"}),
        (2017, {"train": "train", "val": "val"}),
    )
    for split, folder in splits.items()
}
_SHAPES_SPLITS = {
    f"shapes_{split}": (f"shapes/{split}", f"shapes/annotations/instances_{split}.json")
    for split in ("train", "val")
}
_VOC_SPLITS = {
    f"voc_{year}_{split}": (f"VOC{year}", split, year)
    for year, splits in (
        (2007, ("trainval", "train", "val", "test")),
        (2012, ("trainval", "train", "val")),
    )
    for split in splits
}
_LVIS_SPLITS = {
    f"lvis_{version}_{split}": ("coco", f"lvis/lvis_{version}_{file}.json")
    for version, files in (
        (
            "v1",
            {
                "train": "train",
                "val": "val",
                "test_dev": "image_info_test_dev",
                "test_challenge": "image_info_test_challenge",
            },
        ),
        (
            "v0.5",
            {
                "train": "train",
                "val": "val",
                "val_rand_100": "val_rand_100",
                "test": "image_info_test",
                "train_cocofied": "train_cocofied",
                "val_cocofied": "val_cocofied",
            },
        ),
    )
    for split, file in files.items()
}
_CITYSCAPES_SPLITS = {
    f"cityscapes_fine_instance_seg_{split}": (
        f"cityscapes/leftImg8bit/{split}",
        f"cityscapes/gtFine/{split}",
    )
    for split in ("train", "val", "test")
}
SMALL = 100

#: as in detectron2, where programs look the paths up
_PREDEFINED_SPLITS_COCO = {"coco": _COCO_SPLITS, "coco_person": _KEYPOINT_SPLITS}


def datasets_root() -> str:
    """Return the folder of the built-in data sets, as the environment names it now."""
    root = os.environ.get("LUCIDET_DATASETS") or os.environ.get("DETECTRON2_DATASETS") or "datasets"
    return os.path.expanduser(root)


def _under_root(path: str) -> str:
    return os.path.join(datasets_root(), path)


def _small_file(annotation_file: str) -> str | None:
    """Return the path of the annotation file made for the first images, if there is one."""
    path = _under_root(annotation_file.replace(".json", f"_{SMALL}.json"))
    return path if os.path.isfile(path) else None


def _load_split(name: str, image_folder: str, annotation_file: str) -> list[dict[str, Any]]:
    return load_coco_json(_under_root(annotation_file), _under_root(image_folder), name)


def _load_small_split(name: str, image_folder: str, annotation_file: str) -> list[dict[str, Any]]:
    path = _small_file(annotation_file) or _under_root(annotation_file)
    return load_coco_json(path, _under_root(image_folder), name)[:SMALL]


def _register_split(name: str, folder: str, annotations: str, meta: dict[str, Any]) -> None:
    """Register a COCO-format split and its first 100 images, ``<name>_100``."""
    forms: list[tuple[str, Callable[..., Any], Callable[[], str | None]]] = [
        (name, _load_split, partial(_under_root, annotations)),
        # without a file of its own the small form has no json_file: evaluation then makes one from
        # the records, and does not hold the other images of the full file against the detector
        (f"{name}_{SMALL}", _load_small_split, partial(_small_file, annotations)),
    ]
    for form, load, json_file in forms:
        DatasetCatalog.register(form, partial(load, form, folder, annotations))
        metadata = MetadataCatalog.get(form).set(evaluator_type="coco", **meta)
        metadata.set_lazy(json_file=json_file, image_root=partial(_under_root, folder))


def _load_lvis(name: str, image_folder: str, annotation_file: str) -> list[dict[str, Any]]:
    return load_lvis_json(_under_root(annotation_file), _under_root(image_folder), name)


def _load_cityscapes(image_folder: str, truth_folder: str) -> list[dict[str, Any]]:
    return load_cityscapes_instances(_under_root(image_folder), _under_root(truth_folder))


def _load_voc(folder: str, split: str) -> list[dict[str, Any]]:
    return load_voc_instances(_under_root(folder), split, CLASS_NAMES)


def _register_all() -> None:
    for family, splits in _PREDEFINED_SPLITS_COCO.items():
        for name, paths in splits.items():
            _register_split(name, *paths, _get_builtin_metadata(family))
    for name, paths in _SHAPES_SPLITS.items():
        _register_split(name, *paths, {})
    for name, (folder, file) in _LVIS_SPLITS.items():
        DatasetCatalog.register(name, partial(_load_lvis, name, folder, file))
        metadata = MetadataCatalog.get(name).set(evaluator_type="lvis")
        metadata.set_lazy(
            json_file=partial(_under_root, file), image_root=partial(_under_root, folder)
        )
    for name, (folder, truth) in _CITYSCAPES_SPLITS.items():
        DatasetCatalog.register(name, partial(_load_cityscapes, folder, truth))
        # evaluated as COCO's are, on the records: Cityscapes' own evaluation is not built
        metadata = MetadataCatalog.get(name).set(
            evaluator_type="coco", **_get_builtin_metadata("cityscapes")
        )
        metadata.set_lazy(
            image_dir=partial(_under_root, folder), gt_dir=partial(_under_root, truth)
        )
    for name, (folder, split, year) in _VOC_SPLITS.items():
        DatasetCatalog.register(name, partial(_load_voc, folder, split))
        metadata = MetadataCatalog.get(name).set(
            thing_classes=list(CLASS_NAMES), split=split, year=year, evaluator_type="pascal_voc"
        )
        metadata.set_lazy(dirname=partial(_under_root, folder))


_register_all()
