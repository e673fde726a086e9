"""Where the detections of an evaluation are, and the dataset that they belong to."""

from __future__ import annotations

import json
from pathlib import Path

from lucidet.config import get_cfg
from lucidet.data.specification.register import dataset_names, explicit
from lucidet.evaluation.coco_evaluation import RESULTS_FILE

__all__ = ["SOURCE_NAME", "dataset_of", "results_file_in", "write_source"]

#: in the folder of an analysis: which dataset its detections belong to
SOURCE_NAME = "source.json"
#: below a folder of an analysis, of an evaluation, and of a training
_PLACES = ("", "inference", "evaluation/inference")
_CONFIGS = ("config_of_evaluation.yaml", "config.yaml")


def results_file_in(path: str | Path) -> Path:
    """Return the COCO results file that a path names.

    Args:
        path: the file; or the folder of ``lucidet eval --analyse``, of an evaluation (OUTPUT_DIR),
            or of a training.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the evaluation was of several datasets.
    """
    given = Path(path)
    if given.is_file():
        return given
    for place in _PLACES:
        folder = given / place
        if (folder / RESULTS_FILE).is_file():
            return folder / RESULTS_FILE
        several = sorted(folder.glob(f"*/{RESULTS_FILE}")) if place else []
        if len(several) > 1:
            names = ", ".join(str(file) for file in several)
            raise ValueError(f"{given}: evaluated on several datasets; name one of {names}")
    raise FileNotFoundError(
        f"{given}: no {RESULTS_FILE} in it, nor in its folders inference and evaluation; "
        "lucidet eval WEIGHTS --data SPEC writes one"
    )


def dataset_of(results_file: Path) -> str | None:
    """Return the dataset that detections belong to, a registered name; None: unknown.

    The folder of an analysis says it; else the config of the evaluation, up to three folders above.
    """
    own = results_file.parent / SOURCE_NAME
    if own.is_file():
        name = json.loads(own.read_text(encoding="utf-8")).get("dataset")
        return dataset_names(str(name))[0] if name else None
    for folder in list(results_file.resolve().parents)[:3]:
        for name in _CONFIGS:
            if (folder / name).is_file():
                cfg = get_cfg()
                cfg.merge_from_file(str(folder / name))
                names = dataset_names(cfg.DATASETS.TEST)
                return names[0] if len(names) == 1 else None
    return None


def write_source(folder: Path, dataset: str, results_file: Path) -> None:
    """Write a copy of the detections and the dataset's name, so that runs can be compared later."""
    copy = folder / RESULTS_FILE
    if not copy.exists() or not copy.samefile(results_file):
        copy.write_bytes(results_file.read_bytes())
    content = {"dataset": explicit(dataset)}
    (folder / SOURCE_NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")
