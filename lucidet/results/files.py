"""Where a training's files are that the results page reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["results_file_of"]


def results_file_of(output_dir: str | Path, datasets: Sequence[str], name: str) -> Path:
    """Return where the evaluator of a dataset writes its detections, as COCO JSON.

    With several datasets each has a folder of its own, so that none overwrites another's.
    """
    folder = Path(output_dir) / "inference"
    if len(datasets) > 1:
        folder /= "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return folder / "coco_instances_results.json"
