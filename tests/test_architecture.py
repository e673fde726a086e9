"""What holds the house together: one-way imports, readable files, a frozen surface."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lucidet"
SURFACE = Path(__file__).with_name("frozen_surface.txt")

#: a package may import those of its own row and of the rows before it
ROWS = [
    {"_absent"},
    {"layers", "structures", "config", "utils"},
    {"modeling", "data"},
    {"solver", "checkpoint", "evaluation", "model_zoo"},
    {"engine"},
    {"inspection", "bench"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}

#: modeling runs, trains and exports without a trainer, a data set or a picture around it
FORBIDDEN_IN_MODELING = ("data", "engine", "inspection", "utils.events", "utils.visualizer")

#: inside a function, for the user's convenience, and never on the data path: file -> packages
DELIBERATE = {
    "utils/testing.py": {"model_zoo", "modeling"},  # helpers of users' tests: build a named model
    "model_zoo/model_zoo.py": {"engine"},
}


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name below lucidet, line) of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name, as elsewhere"
            assert node.module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("lucidet."):
                yield name.removeprefix("lucidet."), node.lineno


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    own = relative.split("/")[0].removesuffix(".py")
    if own == "__init__":
        assert not list(_imports(path)), "`import lucidet` must stay light"
        return
    for name, line in _imports(path):
        target = name.split(".")[0]
        if target in DELIBERATE.get(relative, ()) or target == "__version__":
            continue
        assert RANK[target] <= RANK[own], f"{relative}:{line} imports lucidet.{name}"
        if own == "modeling":
            assert not name.startswith(FORBIDDEN_IN_MODELING), f"{relative}:{line} imports {name}"


def test_data_and_modeling_do_not_know_each_other() -> None:
    for path in _sources():
        own = path.relative_to(PACKAGE).parts[0]
        for name, line in _imports(path):
            pair = {own, name.split(".")[0]}
            assert pair != {"data", "modeling"}, f"{path}:{line} imports lucidet.{name}"


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_read_in_one_go(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 450, f"{path.name} has {lines} lines; would two rooms be clearer?"


#: calls that can run code found in what they read
RUNS_CODE = {
    "eval",
    "exec",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}

#: bytes that the process wrote itself, for itself or its own workers
OWN_BYTES = {"utils/serialize.py", "data/shared_list.py", "utils/comm.py"}


def test_nothing_runs_a_strangers_code() -> None:
    """No bare unpickling, no eval: files that can run code are never run."""
    for path in _sources():
        relative = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called, where = ast.unparse(node.func), f"{relative}:{node.lineno}"
            if called == "torch.load":
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert options.get("weights_only") == "True", f"{where}: {ast.unparse(node)}"
            elif called in RUNS_CODE:
                assert relative in OWN_BYTES, f"{where}: {ast.unparse(node)}"


def _probe_names() -> set[str]:
    pattern = re.compile(r'probe\(\s*"([a-z_]+\.[a-z_]+)"')
    return {
        name
        for path in _sources()
        if path.name != "probe.py" and "inspection" not in path.parts
        for name in pattern.findall(path.read_text())
    }


def _surface() -> list[str]:
    """Return what users write down: names in registries, probes and commands."""
    from lucidet import modeling
    from lucidet.cli.main import COMMANDS

    registries = [name for name in dir(modeling) if name.endswith("_REGISTRY")]
    lines = [
        f"{registry}: {name}"
        for registry in registries
        for name, member in getattr(modeling, registry)
        if member.__module__.startswith("lucidet.")
    ]
    lines += [f"probe: {name}" for name in _probe_names()]
    lines += [f"command: {name}" for name in COMMANDS]
    return sorted(lines)


def test_the_surface_is_frozen() -> None:
    """A name that goes away breaks somebody; update the file when one is added on purpose."""
    assert _surface() == SURFACE.read_text().splitlines()
