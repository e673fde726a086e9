"""YAML that tries to run code or to eat the machine, and the one form that is computed."""

from __future__ import annotations

import time

import pytest

from lucidet.config.arithmetic import evaluate
from lucidet.config.safe_yaml import load

RETINANET = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
EVAL = "!!python/object/apply:eval"


def test_detectron2s_anchor_sizes() -> None:
    sizes = [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]]
    for text in (f'A: {EVAL} ["{RETINANET}"]', f'A:\n  {EVAL} [\n    "{RETINANET}",\n  ]'):
        assert load(text).values == {"A": sizes}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2 ** 2", -4),
        ("(1, 2.5)", (1, 2.5)),
        ("[]", []),
        ("[x for x in []]", []),
        ("7 // 2 + 7 % 4 - -1.5 * 2", 9.0),
        ("[x * y for x in [1, 2] for y in [x, 10]]", [1, 10, 4, 20]),
        ("[[x for x in [y]] for y in (3, 4)]", [[3], [4]]),
    ],
)
def test_arithmetic(text: str, value: object) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "__import__('os').system('true')",
        "().__class__",
        "x",
        "'a' * 9",
        "[0] * 10**9",
        "True",
        "lambda: 1",
        "[x for x in 3]",
        "[x for x in [1] if x]",
        "[x for (x, y) in [(1, 2)]]",
        "{1: 2}",
        "{1, 2}",
        "[1][0]",
        "1 if 1 else 2",
        "1 < 2",
        "1 << 99",
        "f'{1}'",
        "(x := 3)",
        "[*[1, 2]]",
        "9**9**9",
        "2.0**9999",
        "1e308 * 1e308",
        "1e999",
        "1e999 - 1e999",
        "(-8) ** (1 / 3)",
        "1 / 0",
        "0 ** -1",
        "10 ** 30",
        "99999999999999999999999",
        "[a for a in [1,1,1,1,1,1,1,1,1,1]" + " for a in [1,1,1,1,1,1,1,1,1,1]" * 8 + "]",
        "[1 for a in [1,1,1,1,1,1,1,1,1,1]" + " for a in [1,1,1,1,1,1,1,1,1]" * 7 + " for a in []]",
        "(" * 900 + ")" * 900,
        "-" * 1900 + "1",
        "1" * 5000,
        "1\n2",
        "\x00",
    ],
)
def test_refused_expression(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"\w"):
        evaluate(text)
    assert time.perf_counter() - start < 5  # seconds; without the bounds some take forever


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('a: 1\nb: !!python/object/apply:os.system ["true"]', r"f.yaml:2: .*os.system"),
        ("a: !!python/name:os.system", r"f.yaml:1: tag !!python/name:os.system is refused"),
        ("a: !!python/module:os", "refused"),
        ("a: !!python/object:lucidet.config.CfgNode {}", "refused"),
        ("a: !!python/object/new:os.system [x]", "refused"),
        ("a: [1, {b: !!python/dict {}}]", "refused"),
        ("? !!python/name:os.system\n: 1", "refused"),
        ("a: !mine 3", "tag !mine is refused"),
        ("a: !!binary aGk=", "refused"),
        ("a: !!set {b}", "refused"),
        (f"a: {EVAL} [\"__import__('os').system('true')\"]", r"f.yaml:1: .*apply:eval: "),
        (f'a: {EVAL} ["1", "2"]', "one text in brackets"),
        (f"a: {EVAL} 3", "one text in brackets"),
        (f"a: {EVAL} {{args: [1]}}", "one text in brackets"),
        ("a: 1\nb: 2\na: 3", r"f.yaml:3: key a again; it stands on line 1"),
        ("a:\n  b: 1\n  c: 1\n  b: 2", r"f.yaml:4: key a.b again; it stands on line 2"),
        ("a: &x [*x]", "contains itself"),
        ("a: &x {b: *x}", "contains itself"),
        ("a: [1", r"f.yaml:\d: "),
        ("a: b: c", r"f.yaml:1: "),
        ("a: *none", r"f.yaml:1: "),
        ("a: 1\n---\nb: 1", r"f.yaml:2: "),
        ("[a]: 1\n? [b]\n: 1", "f.yaml:"),
        ("[" * 2000, "nested too deeply"),
        ("a: \x07", "f.yaml"),
    ],
)
def test_refused_yaml(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(text, "f.yaml")


def test_aliases_that_unfold_into_millions_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ValueError, match="more than 100000 values"):
        load("\n".join(lines))


def test_lines_of_keys() -> None:
    text = "# head\nA:\n  B: 1\n\n  C: {D: 2}\nE: &e {F: 1}\nG:\n  <<: *e\n"
    content = load(text)
    assert content.values == {"A": {"B": 1, "C": {"D": 2}}, "E": {"F": 1}, "G": {"F": 1}}
    lines = {"A": 2, "A.B": 3, "A.C": 5, "A.C.D": 5, "E": 6, "E.F": 6, "G": 7, "G.F": 6}
    assert content.lines == lines


def test_a_date_is_a_text() -> None:
    assert load("OUTPUT_DIR: 2024-05-01").values == {"OUTPUT_DIR": "2024-05-01"}
