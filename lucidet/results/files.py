"""Where a training's files are that the results page reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["results_file_of", "safe_name"]


def safe_name(name: str) -> str:
    """Return a name that can be a file's: what is no letter, digit, dash or dot becomes "_".

    >>> safe_name("coco:/data/a b:val")
    'coco__data_a_b_val'
    """
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def results_file_of(output_dir: str | Path, datasets: Sequence[str], name: str) -> Path:
    """Return where the evaluator of a dataset writes its detections, as COCO JSON.

    With several datasets each has a folder of its own, so that none overwrites another's.
    """
    folder = Path(output_dir) / "inference"
    if len(datasets) > 1:
        folder /= safe_name(name)
    return folder / "coco_instances_results.json"
