"""Trace files that are broken or made to hurt: one message that names the file."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch

from lucidet.inspection import Trace, watch
from lucidet.utils.probe import probe


@pytest.fixture
def saved(tmp_path):
    with watch() as trace:
        probe("x.y", a=torch.ones(2), b=1)
    trace.save(tmp_path / "t")
    return tmp_path / "t"


def _content(**changes):
    content = {"format": "lucidet-trace", "version": 1, "context": {}, "events": []}
    return {**content, **changes}


def _event(value):
    return _content(events=[{"name": "x.y", "values": {"a": value}}])


@pytest.mark.parametrize(
    "content",
    [
        _content(events=None),
        _content(events=3),
        _content(events=[3]),
        _content(events=[{}]),
        _content(events=[{"name": 3, "values": {}}]),
        _content(events=[{"name": "x", "values": [1]}]),
        _content(context=3),
        _event({"$tensor": "absent"}),
        _event({"$tensor": [1]}),
        _event({"$thinned": 3, "shape": [1], "stats": {}}),
        _event({"$thinned": {"$tensor": "0.x.y.a"}, "shape": 3, "stats": {}}),
        _event({"$thinned": {"$tensor": "0.x.y.a"}}),
        _event({"$dict": [1]}),
        _event({"other": 1}),
        {"format": "lucidet-trace"},
        _content(version=[[1]]),
    ],
)
def test_content_of_another_form(content, saved):
    saved.with_name("t.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"t\.(json|safetensors)"):
        Trace.load(saved)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "1" * 5000, "\ud800", ""])
def test_text_that_no_reader_survives(text, saved):
    saved.with_name("t.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"t\.json is not JSON"):
        Trace.load(saved)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]"],
)
def test_tensors_that_are_none(content, saved):
    saved.with_name("t.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.safetensors is damaged"):
        Trace.load(saved)


def test_pipes(saved):
    saved.with_name("t.json").unlink()
    os.mkfifo(saved.with_name("t.json"))
    with pytest.raises(ValueError, match="is a pipe"):
        Trace.load(saved)
