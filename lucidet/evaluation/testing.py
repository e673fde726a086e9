"""Print, check and flatten the results of an evaluation."""

from __future__ import annotations

import logging
import pprint
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the main metrics of each task in lines that a spreadsheet takes.

    Names with a dash (``AP-person``, ``AR-100``) are details and left out. The three lines of a
    task are ``copypaste: Task: bbox``, the names, and the values with four decimals.

    Args:
        results: ``{task: {metric: value}}``; a task may also be one plain value.
    """
    if not isinstance(results, Mapping):
        if len(results):
            raise ValueError(f"results must be a dict of tasks, got {type(results).__name__}")
        return
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info(f"copypaste: {task}={metrics}")
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info(f"copypaste: Task: {task}")
        logger.info("copypaste: " + ",".join(main))
        logger.info("copypaste: " + ",".join(f"{value:.4f}" for value in main.values()))


def verify_results(cfg: Any, results: Mapping[str, Any]) -> bool:
    """Compare `results` with ``cfg.TEST.EXPECTED_RESULTS``; end the program where they differ.

    Args:
        cfg: EXPECTED_RESULTS is a list of ``[task, metric, value, tolerance]``.
        results: as `inference_on_dataset` returns them.

    Returns:
        True when every expected value is there and close enough, also when none is expected.
        Otherwise the program exits with status 1 after the comparison was logged.
    """
    expected = cfg.TEST.EXPECTED_RESULTS
    if not len(expected):
        return True
    failures = []
    for task, metric, value, tolerance in expected:
        actual = results.get(task, {}).get(metric)
        if actual is None or not np.isfinite(actual) or abs(actual - value) > tolerance:
            failures.append(f"{task}/{metric}: expected {value} +- {tolerance}, got {actual}")
    if not failures:
        logger.info("Results verification passed.")
        return True
    logger.error("Result verification failed!\n" + "\n".join(failures))
    logger.error("Actual results: " + pprint.pformat(dict(results)))
    sys.exit(1)


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested results as one dict whose keys are joined by ``/``.

    >>> flatten_results_dict({"bbox": {"AP": 1.0}, "seconds": 2})
    {'bbox/AP': 1.0, 'seconds': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": v for inner, v in flatten_results_dict(value).items()}
        else:
            flat[key] = value
    return flat
