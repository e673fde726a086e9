"""The README's commands and Python run as they are written, after a short demo."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.slow


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that looks like the checkout after `make demo`."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "configs").symlink_to(ROOT / "configs")
    demo = [sys.executable, str(ROOT / "tools" / "demo.py"), "--fast"]
    subprocess.run([*demo, "--out", str(folder / "demo_output")], check=True, cwd=folder)
    return folder


COMMANDS = [
    line for block in _blocks("sh") for line in block.splitlines() if " lucidet " in f" {line}"
]


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split(" --")[0])
def test_command(line: str, folder: Path) -> None:
    words = shlex.split(line.replace("lucidet ", f"{sys.executable} -m lucidet ", 1))
    settings = [word for word in words[:2] if "=" in word]
    subprocess.run(["env", *settings, *words[len(settings) :]], check=True, cwd=folder)


@pytest.mark.parametrize("code", _blocks("python"), ids=["python"])
def test_python(code: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
