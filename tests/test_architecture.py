"""What holds the house together: one-way imports, readable files, a frozen surface."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_graph import circles, import_graph, imported_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lucidet"
SURFACE = Path(__file__).with_name("frozen_surface.txt")

#: one row per package, the lowest first: a package imports those above its own row, and itself
ORDER = [
    "_regular_file",  # opens what others wrote; every reader needs it
    "_absent",  # names of detectron2 without a use here; every package may need one
    "export",  # names only, so far
    "as_detectron2",  # finds modules by name; no module is imported by it before a program asks
    "config",
    "layers",  # tensors in, tensors out
    "structures",  # boxes and instances; rotated boxes need their IoU from layers
    "utils",  # the visualizer draws structures
    "pages",  # blocks, charts, style sheet and script of HTML pages
    "modeling",
    "data",
    "solver",
    "checkpoint",
    "evaluation",
    "model_zoo",  # loads weights into models
    "utils.testing",  # helpers for users' tests, at detectron2's path; nothing here imports it
    "inspection.event",
    "inspection.trace",  # copies what stages show; the engine keeps one of a step that went wrong
    "analysis",  # what a detector does wrong, from its detections
    "results",  # the page that a training ends with
    "engine",
    "doctor",  # looks at data, config and weights before a training
    "coverage",  # anchors and assigners on the boxes of a dataset
    "inspection",
    "explain",  # follows single boxes through the traces of inspection
    "bench",
    "cli",
    "__main__",
]

#: modeling runs, trains and exports without a trainer, a data set or a picture around it
FORBIDDEN_IN_MODELING = ("data", "engine", "inspection", "utils.events", "utils.visualizer")


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name below lucidet, line) of every import, those inside functions too."""
    for name, line in imported_names(path):
        if name.startswith("lucidet."):
            yield name.removeprefix("lucidet."), line


def _row(name: str) -> str:
    """Return the row of ORDER that a dotted name below lucidet belongs to."""
    parts = name.split(".")
    longer = ".".join(parts[:2])
    return longer if longer in ORDER else parts[0]


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = _row(".".join(relative.with_suffix("").parts))
    if own == "__init__":
        assert not list(_imports(path)), "`import lucidet` must stay light"
        return
    assert own in ORDER, f"{own} needs a row in ORDER"
    for name, line in _imports(path):
        if name == "__version__":
            continue
        assert ORDER.index(_row(name)) <= ORDER.index(own), f"{relative}:{line} imports {name}"
        if own == "modeling":
            assert not name.startswith(FORBIDDEN_IN_MODELING), f"{relative}:{line} imports {name}"


def test_no_import_circle() -> None:
    assert circles(import_graph(PACKAGE)) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.py": ""}, []),
        ({"a.py": "import p.b", "b.py": "import p.c", "c.py": ""}, []),
        (
            {"a.py": "from p.b import x", "b.py": "def f():\n    from p import a"},
            ["p.a:1 -> p.b:2 -> p.a"],
        ),
        ({"a.py": "from p.a import x"}, ["p.a:1 -> p.a"]),
        # a module asks its own package for a name
        ({"__init__.py": "from p.a import x", "a.py": "from p import y"}, ["p:1 -> p.a:1 -> p"]),
        # q/__init__.py runs before q/c.py
        (
            {"a.py": "import p.q.c", "q/__init__.py": "import p.a", "q/c.py": ""},
            ["p.a:1 -> p.q:1 -> p.a"],
        ),
    ],
)
def test_a_planted_circle_is_found(
    tmp_path: Path, files: dict[str, str], expected: list[str]
) -> None:
    for name, text in {"__init__.py": "", **files}.items():
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert circles(import_graph(tmp_path / "p")) == expected


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
    pattern = re.compile(r'probe(?:_images)?\(\s*"([a-z_]+\.[a-z_]+)"')
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
