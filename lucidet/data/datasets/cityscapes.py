"""Cityscapes' instances: polygons of its JSON files, later ones in front of earlier ones."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import shapely

from lucidet.data.datasets.builtin_meta import CITYSCAPES_THINGS
from lucidet.data.datasets.coco_json import read_json
from lucidet.data.fields import as_size
from lucidet.structures import BoxMode

__all__ = ["load_cityscapes_instances"]

logger = logging.getLogger(__name__)

_IMAGE, _TRUTH = "_leftImg8bit.png", "_gtFine_polygons.json"
_GROUP = "group"  # "persongroup": a region of several, which is a crowd
_FURTHER = ("out of roi", "license plate")  # no objects, and in front of none


def load_cityscapes_instances(
    image_dir: str | os.PathLike[str], gt_dir: str | os.PathLike[str]
) -> list[dict[str, Any]]:
    """Return the records of a split of Cityscapes.

    Args:
        image_dir: as ``cityscapes/leftImg8bit/train``, with a folder for each city.
        gt_dir: as ``cityscapes/gtFine/train``.

    Returns:
        records with polygons, without what objects in front of them cover; the classes are the
        eight that have instances.

    Raises:
        FileNotFoundError: there is no image or an annotation file is absent.
        ValueError: an annotation file has another layout; names it.
    """
    images = sorted(Path(image_dir).glob(f"*/*{_IMAGE}"))
    if not images:
        raise FileNotFoundError(
            f"no images */*{_IMAGE} in {image_dir}; LUCIDET_DATASETS names the folder that holds "
            "cityscapes/"
        )
    records = []
    for image in images:
        name = image.name.removesuffix(_IMAGE)
        truth = Path(gt_dir, image.parent.name, f"{name}{_TRUTH}")
        records.append(_record(image, name, truth))
    logger.info("loaded %d images of Cityscapes from %s", len(records), image_dir)
    return records


def _record(image: Path, name: str, truth: Path) -> dict[str, Any]:
    content = read_json(truth)
    try:
        size = {"height": as_size(content["imgHeight"]), "width": as_size(content["imgWidth"])}
        labelled = [(entry["label"], _shape(entry["polygon"])) for entry in content["objects"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"annotation file {truth} is not in Cityscapes' layout (imgHeight, imgWidth, objects "
            f"with label and polygon): {type(error).__name__} {error}"
        ) from None
    classes = {label: k for k, label in enumerate(CITYSCAPES_THINGS.values())}
    annotations, covered = [], shapely.Polygon()
    # drawn in their order: the last is in front
    for label, shape in reversed(labelled):
        visible = shape.difference(covered)
        if label not in _FURTHER:
            covered = covered.union(shape)
        kind = classes.get(label.removesuffix(_GROUP))
        if kind is not None and visible.area > 0:
            annotations.append(_annotation(visible, kind, crowd=label not in classes))
    return {"file_name": str(image), "image_id": name, **size, "annotations": annotations[::-1]}


def _shape(polygon: Any) -> Any:
    """Return a polygon [[x, y], ...] as a valid shape."""
    points = [(float(x), float(y)) for x, y in polygon]
    if len(points) < 3:
        return shapely.Polygon()
    return shapely.make_valid(shapely.Polygon(points))


def _annotation(shape: Any, category: int, crowd: bool) -> dict[str, Any]:
    parts = [p for p in shapely.get_parts(shapely.get_parts(shape)) if p.geom_type == "Polygon"]
    polygons = [shapely.get_coordinates(p.exterior)[:-1].ravel().tolist() for p in parts]
    return {
        "bbox": list(shape.bounds),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category,
        "iscrowd": int(crowd),
        "segmentation": polygons,
    }
