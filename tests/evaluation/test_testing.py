from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from lucidet.evaluation import flatten_results_dict, print_csv_format, verify_results


def config(*expected) -> SimpleNamespace:
    return SimpleNamespace(TEST=SimpleNamespace(EXPECTED_RESULTS=list(expected)))


@pytest.mark.parametrize(
    ("expected", "passes"),
    [
        ([], True),
        ([["bbox", "AP", 38.5, 0.2]], True),
        ([["bbox", "AP", 38.5, 0.01]], False),
        ([["bbox", "AP50", 38.5, 0.2]], False),  # NaN is never close
        ([["segm", "AP", 38.5, 0.2]], False),
    ],
)
def test_verify_results(expected, passes):
    results = {"bbox": {"AP": 38.4, "AP50": float("nan")}}
    if passes:
        assert verify_results(config(*expected), results)
        return
    with pytest.raises(SystemExit, match="1"):
        verify_results(config(*expected), results)


def test_print_csv_format(caplog):
    with caplog.at_level(logging.INFO, logger="lucidet"):
        print_csv_format({"bbox": {"AP": 1.23456, "AP-cat": 2.0}, "seconds": 3})
        print_csv_format({})
    assert [r.getMessage() for r in caplog.records] == [
        "copypaste: Task: bbox",
        "copypaste: AP",
        "copypaste: 1.2346",
        "copypaste: seconds=3",
    ]


def test_flatten_results_dict():
    assert flatten_results_dict({"a": {"b": {"c": 1}}, "d": 2}) == {"a/b/c": 1, "d": 2}
    assert flatten_results_dict({}) == {}
