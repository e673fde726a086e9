"""A planted difference is found at the right stage."""

from __future__ import annotations

import pytest
import torch

from lucidet.cli.main import main
from lucidet.inspection.diff import describe, diff_traces
from lucidet.inspection.trace import watch
from lucidet.modeling import build_model
from lucidet.utils.probe import probe
from tests.inspection.conftest import SIZES
from tests.modeling.tiny import FPN, tiny_config, tiny_model


@pytest.mark.parametrize(
    ("parameter", "stage", "field"),
    [
        ("backbone.fpn_output3.weight", "backbone.features", "features[p3]"),
        ("proposal_generator.rpn_head.anchor_deltas.weight", "rpn.head", "deltas[0]"),
        ("roi_heads.box_predictor.bbox_pred.weight", "roi.head", "deltas"),
    ],
)
def test_a_changed_weight_is_found_where_it_first_shows(look, parameter, stage, field):
    traces = []
    for change in (0.0, 0.5):
        model = tiny_model(tiny_config(FPN, SIZES))
        with torch.no_grad():
            model.get_parameter(parameter).add_(change)
        traces.append(look(model=model))
    result = diff_traces(*traces)
    assert result.first is not None
    assert (result.first.stage, result.first.field) == (stage, field)
    assert result.first.largest > 0
    assert result.weights == [parameter]
    assert f"first difference: {stage} {field}" in describe(result)


def test_the_same_run_twice_has_no_difference(look):
    result = diff_traces(look(), look())
    assert result.first is None
    assert describe(result).startswith("no difference in ")


def test_how_much_and_where():
    traces = []
    for value in (1.0, 1.5):
        with watch() as trace:
            values = torch.zeros(2, 3)
            values[1, 2] = value
            probe("roi.pool", features=values, note="a" if value == 1 else "b")
        traces.append(trace)
    first, second = diff_traces(*traces).differences
    assert first.message.startswith("1 of 6 values differ, by 0.5 at most")
    assert "at [1, 2]: 1 against 1.5" in first.message
    assert second.message == "'a' against 'b'"
    assert diff_traces(*traces, tolerance=0.6).first.field == "note"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (torch.zeros(0), torch.zeros(0), None),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), None),
        (torch.tensor([float("nan")]), torch.tensor([0.0]), "1 of 1 values differ"),
        (torch.zeros(2), torch.zeros(3), r"shape \(2,\) against \(3,\)"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "type torch.float32 against"),
    ],
)
def test_degenerate_tensors(a, b, expected):
    traces = []
    for value in (a, b):
        with watch() as trace:
            probe("x.y", value=value)
        traces.append(trace)
    result = diff_traces(*traces)
    if expected is None:
        assert result.first is None
    else:
        with pytest.raises(AssertionError, match=expected):
            assert not result.first.message, result.first.message


def test_events_of_one_trace_only_and_configs():
    with watch() as first:
        probe("config.values", rows=[["A", "1", "default", True]], schedule={})
        probe("only.here")
    with watch() as second:
        probe("config.values", rows=[["A", "2", "default", True]], schedule={})
        probe("only.there")
    result = diff_traces(first, second)
    assert [d.message for d in result.differences] == [
        "only in the first trace",
        "only in the second trace",
    ]
    assert "config A: 1 against 2" in describe(result)


def test_on_the_command_line(tmp_path, capsys, look, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build_model(tiny_config(FPN, SIZES))
    for name in ("a", "b"):
        look(model=model, until="rpn.head").save(tmp_path / name)
    assert main(["inspect", "diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["inspect", "diff", str(tmp_path / "a")]) == 2
    assert "takes two traces, got 1" in capsys.readouterr().err
