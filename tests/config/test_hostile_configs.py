"""Small configs that would take for ever, or never end, are refused within a second."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lucidet.config import get_cfg
from lucidet.config.safe_yaml import load
from lucidet.config.values import decode
from tests.config.test_config import write

EVAL = "!!python/object/apply:eval"


def _loops(letters: str) -> str:
    """Return loops inside loops: each makes a list of eight names of the list below."""
    text = "[1]"
    for x in letters:
        text = f"[[{','.join(x * 8)}] for {x} in {text}]"
    return f'{EVAL} ["{text}"]'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"MODEL: {{ANCHOR_GENERATOR: {{SIZES: {_loops('abcdefghij')}}}}}", "more than 10000"),
        ("SEED: 1" + ":59" * 10_000, r"a.yaml:1: .*is no int: it has 30001 characters"),
        ("SEED: 1" + ":59" * 10_000 + ".5", r"a.yaml:1: .*is no float"),
        ("SEED: " + "9" * 5000, "is no int"),
        ("SEED: !!int x", r"a.yaml:1: 'x' is no int"),
        ("SEED: !!bool maybe", r"a.yaml:1: 'maybe' is no bool"),
        ("SEED: 0b_", r"a.yaml:1: '0b_' is no int"),
        ("? !!python/tuple [[1]]\n: 2", "a.yaml: a key must be a name"),
        ("SEED: " + "[" * 100_000, "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
        ("a: {" * 10_000, "nested too deeply"),
        ("? " + "a" * 3000 + "\n: 1", "a key of 3000 characters"),
        (f"a: &a {_loops('abc')}\nb: [{'*a, ' * 1000}*a]", "more than 100000 values"),
        (f"a: &a {'x' * 10_000}\nb: [{'*a, ' * 1000}*a]", "more than 100000 values"),
        ("_BASE_: /dev/zero", "is a device; only regular files are read"),
        ("_BASE_: pipe", "is a pipe; only regular files are read"),
        ("_BASE_: .", "is a folder"),
    ],
)
def test_refused_within_a_second(text: str, match: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = write(tmp_path, "a.yaml", text)
    start = time.process_time()
    with pytest.raises(ValueError, match=match):
        get_cfg().merge_from_file(file)
    assert time.process_time() - start < 1


def test_a_file_of_too_many_values_is_not_read_to_its_end() -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=r"f.yaml:10000: more than 50000 values"):
        load("\n".join(f"k{i}: [1, 2, 3]" for i in range(50_000)), "f.yaml")
    assert time.process_time() - start < 10
    with pytest.raises(ValueError, match="1048577 characters"):
        load("#" * (1 + (1 << 20)), "f.yaml")


def test_bases_are_read_once_each(tmp_path: Path) -> None:
    """Forty files, each of which names the next one twice: 2^40 ways to the last."""
    for i in range(40):
        bases = f"_BASE_: [b{i + 1}.yaml, b{i + 1}.yaml]\n" if i < 39 else "SEED: 3\n"
        write(tmp_path, f"b{i}.yaml", bases)
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "b0.yaml"))
    assert cfg.SEED == 3


def test_a_chain_of_many_files(tmp_path: Path) -> None:
    for i in range(100):
        write(tmp_path, f"b{i}.yaml", f"_BASE_: b{i + 1}.yaml\n")
    with pytest.raises(ValueError, match="more than 50 files name each other as _BASE_"):
        get_cfg().merge_from_file(str(tmp_path / "b0.yaml"))


@pytest.mark.parametrize("text", ["-" * 90_000 + "1", "(" * 90_000, "0x" + "f" * 90_000, "[" * 300])
def test_texts_that_no_literal_can_be_stay_texts(text: str) -> None:
    assert decode(text) == text
