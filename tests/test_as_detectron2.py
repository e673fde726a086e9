"""Programs that import detectron2 run on lucidet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import importlib.metadata, importlib.util, logging, sys
assert importlib.util.find_spec("detectron2") is not None
assert importlib.util.find_spec("detectron2.no_such_part") is None
assert importlib.metadata.version("detectron2") == "0.6"
assert "torch" in importlib.metadata.packages_distributions()
import detectron2
assert detectron2.__version__ == "0.6"
import detectron2.config.config
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.utils.registry import Registry
import lucidet.config, lucidet.utils.registry, lucidet.model_zoo
assert Registry is lucidet.utils.registry.Registry
assert detectron2.model_zoo is model_zoo is lucidet.model_zoo
assert sys.modules["detectron2.config"] is lucidet.config
assert lucidet.config.__spec__.name == "lucidet.config"
logging.getLogger("detectron2").setLevel("ERROR")
assert logging.getLogger("lucidet.engine").getEffectiveLevel() == logging.ERROR
assert logging.getLogger("detectron2.engine").getEffectiveLevel() == logging.ERROR
try:
    import detectron2.projects.point_rend
except ModuleNotFoundError as error:
    assert "detectron2.projects" in str(error)
print("arguments", sys.argv[1:], __name__)
"""


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("how", ["file", "module", "first line"])
def test_a_program_runs_unchanged(tmp_path: Path, how: str) -> None:
    first = "import lucidet.as_detectron2\n" if how == "first line" else ""
    (tmp_path / "program.py").write_text(first + PROGRAM)
    words = {
        "file": ["-m", "lucidet.as_detectron2", "program.py"],
        "module": ["-m", "lucidet.as_detectron2", "-m", "program"],
        "first line": ["program.py"],
    }[how]
    done = run(*words, "--eval", "a b", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "arguments ['--eval', 'a b'] __main__\n"
    assert done.stderr.count("detectron2 is lucidet") == 1


def test_an_installed_detectron2_wins_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("__version__ = 'theirs'\n")
    (tmp_path / "program.py").write_text(
        "import lucidet.as_detectron2, detectron2\nprint(detectron2.__version__)\n"
    )
    done = run("program.py", folder=tmp_path)
    assert done.stdout == "theirs\n"
    assert "detectron2 is installed and used" in done.stderr
    done = run("program.py", folder=tmp_path, LUCIDET_AS_DETECTRON2="force")
    assert done.stdout == "0.6\n"
    done = run("-m", "lucidet.as_detectron2", "--force", "program.py", folder=tmp_path)
    assert done.stdout == "0.6\n"


def test_without_a_program(tmp_path: Path) -> None:
    done = run("-m", "lucidet.as_detectron2", folder=tmp_path)
    assert done.returncode == 1
    assert "usage: python -m lucidet.as_detectron2" in done.stderr
