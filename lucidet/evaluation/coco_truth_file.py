"""The COCO JSON that a dataset is evaluated against: found or converted, and read."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from lucidet.data.box_report import BoxReport
from lucidet.data.datasets.coco import convert_to_coco_json
from lucidet.data.datasets.coco_json import check_coco, drop_unusable, fill_sizes, read_json

__all__ = ["json_path", "read_truth"]

logger = logging.getLogger(__name__)

#: metadata of a data set whose JSON is a copy of its records
_CONVERTED = "converted_json_file"


def json_path(name: str, metadata: Any, output_dir: str | None, allow_cached: bool) -> str:
    """Return the data set's COCO JSON; one without is converted into `output_dir`."""
    path = metadata.get("json_file", None)
    if path is not None and path != metadata.get(_CONVERTED):
        return path
    if output_dir is None:
        if path is None:
            raise ValueError(
                f"data set {name!r} has no json_file in its metadata; give COCOEvaluator an "
                "output_dir, where it can write the data set as a COCO JSON"
            )
        output_dir = os.path.dirname(path)
    path = os.path.join(output_dir, f"{name}_coco_format.json".replace(os.sep, "_"))
    logger.debug("%r has no COCO JSON; converting it to %s", name, path)
    convert_to_coco_json(name, path, allow_cached=allow_cached)
    # by the name that marks it, the next evaluator knows that the records are what counts
    metadata.__dict__["json_file"] = metadata.__dict__[_CONVERTED] = path
    return path


def read_truth(path: str | Path, image_root: str | None) -> dict[str, Any]:
    """Return a COCO JSON's content with the annotations that training uses, and no others."""
    raw = read_json(path)
    annotated = isinstance(raw, dict) and raw.get("annotations") is not None
    content = check_coco(raw, str(path))
    # loading the data set has warned of what is left out
    report = BoxReport(str(path), level=logging.INFO)
    if image_root is not None:
        content = fill_sizes(content, image_root, str(path))
    content = drop_unusable(content, report)
    report.log()
    if not annotated:
        del content["annotations"]
    return content
