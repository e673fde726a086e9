"""Traces: copies, selection, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lucidet.inspection.event import Thinned
from lucidet.inspection.trace import Trace, watch
from lucidet.structures import Boxes
from lucidet.utils.probe import probe


def test_values_are_copied_at_once():
    labels = torch.tensor([1, 0])
    array = np.zeros(2)
    with watch() as trace:
        probe("rpn.sample", image=0, labels=labels, array=array)
    labels.fill_(-1)
    array += 5
    assert trace["rpn.sample"]["labels"].tolist() == [1, 0]
    assert trace["rpn.sample"]["array"].tolist() == [0, 0]
    assert trace["rpn.sample"].image == 0
    probe("rpn.sample", image=1, labels=labels)
    assert len(trace) == 1


def test_asking_for_what_is_not_there():
    with watch() as trace:
        probe("a.b", x=1)
    with pytest.raises(KeyError, match=r"no event 'a.c' in this trace; it has a.b"):
        trace["a.c"]
    with pytest.raises(KeyError, match=r"a.b has no field 'y'; it has x"):
        trace["a.b"]["y"]
    assert "a.b" in trace
    assert [event.name for event in trace.all("a.*")] == ["a.b"]


def test_until_ends_the_block():
    reached = []
    with watch(until="rpn.*") as trace:
        probe("input.batch")
        probe("rpn.head")
        reached.append("beyond")
    assert [event.name for event in trace] == ["input.batch", "rpn.head"]
    assert not reached


def test_a_large_tensor_is_thinned():
    with watch(largest=64) as trace:
        probe("roi.pool", features=torch.arange(100.0).view(10, 10))
    kept = trace["roi.pool"]["features"]
    assert isinstance(kept, Thinned)
    assert kept.shape == (10, 10)
    assert kept.rows.shape == (1, 10)
    assert kept.stats["max"] == 99


def test_a_trace_comes_back_from_its_files(tmp_path):
    with watch(Trace(context={"mode": "train"}), largest=64) as trace:
        probe(
            "x.y",
            boxes=Boxes(torch.tensor([[0.0, 0, 1, 1]])),
            nested={"p3": [torch.zeros(2), torch.zeros(0, 4)], "$tensor": 3},
            text="a",
            none=None,
            big=torch.ones(100, 2),
        )
    trace.save(tmp_path / "one")
    for path in ("one", "one.json", "one.safetensors"):
        loaded = Trace.load(tmp_path / path)
        assert loaded.context == trace.context
        values = loaded["x.y"].values
        assert values["boxes"].tolist() == [[0, 0, 1, 1]]
        assert values["nested"]["p3"][1].shape == (0, 4)
        assert values["nested"]["$tensor"] == 3
        assert (values["text"], values["none"]) == ("a", None)
        assert values["big"].shape == (100, 2)


def test_files_that_are_no_trace(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trace at .*absent.*--out DIR"):
        Trace.load(tmp_path / "absent")
    Trace().save(tmp_path / "a")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Trace.load(tmp_path / "a")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match=r'lacks "format": "lucidet-trace"'):
        Trace.load(tmp_path / "a")
    (tmp_path / "a.json").write_text(json.dumps({"format": "lucidet-trace", "version": 9}))
    with pytest.raises(ValueError, match="version 9, expected 1"):
        Trace.load(tmp_path / "a")


def test_a_notebook_shows_the_page():
    with watch() as trace:
        probe("roi.head", scores=torch.zeros(2, 4), deltas=torch.zeros(2, 12))
    assert trace._repr_html_().startswith("<iframe srcdoc=")
    assert repr(trace) == "Trace(1 events: roi.head)"
