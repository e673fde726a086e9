from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from lucidet.cli import main as cli
from lucidet.cli.arguments import checked_overrides


def lucidet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lucidet", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "LUCIDET_DEBUG": "0", **environment},
        timeout=300,
    )


def test_help_names_every_command_without_torch_and_at_once():
    code = (
        "import sys\nfrom lucidet.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = [m for m in ('torch', 'numpy', 'PIL', 'rich', 'yacs') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    # processor time: other programs run on this machine too
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_without_torch(name):
    code = (
        "import sys\nfrom lucidet.__main__ import main\n"
        f"try:\n    main([{name!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--debug" in done.stdout


def test_version_and_unknown_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("lucidet ")
    with pytest.raises(SystemExit) as stop:
        cli.main(["trian"])
    assert stop.value.code == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


class FailingCommand:
    """Stands in for the module of a command."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_parser(self, subparsers) -> None:
        subparsers.add_parser("train")

    def run(self, args) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("NUM_CLASSES is 80"), 2, "lucidet train: error: NUM_CLASSES is 80\n"),
        (KeyError("no data set 'x'"), 2, "lucidet train: error: no data set 'x'\n"),
        (FileNotFoundError(2, "No such file", "a.yaml"), 2, "No such file: 'a.yaml'\n"),
        (RuntimeError("shapes"), 2, "RuntimeError: shapes\nThis looks like a fault of lucidet"),
        (
            RuntimeError("process 1 of 2 stopped: x\nTraceback (most recent call last):\n..."),
            2,
            "error: process 1 of 2 stopped: x\nThe same command with --debug",
        ),
        (AssertionError(), 2, "AssertionError: \nThis looks like a fault"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_one_message(monkeypatch, capsys, error, code, message):
    monkeypatch.setenv("LUCIDET_DEBUG", "0")
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: FailingCommand(error))
    assert cli.main(["train"]) == code
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [["--debug", "train"], ["train", "--debug"], ["train"]])
def test_debug_raises(monkeypatch, arguments):
    monkeypatch.setenv("LUCIDET_DEBUG", "1" if "--debug" not in arguments else "0")
    failing = FailingCommand(ValueError("the reason"))
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: failing)
    with pytest.raises(ValueError, match="the reason"):
        cli.main(arguments)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["SEED", "1"], ["SEED", "1"]),
        (["--", "SEED", "1"], ["SEED", "1"]),
        (["SEED", "-1"], ["SEED", "-1"]),
    ],
)
def test_overrides(words, expected):
    assert checked_overrides(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SEED", "1", "--resume"], "--resume stands after KEY VALUE overrides"),
        (["SEED"], "pairs KEY VALUE, got 1 words: SEED"),
    ],
)
def test_overrides_in_disorder(words, message):
    with pytest.raises(ValueError, match=message):
        checked_overrides(words)


def test_a_missing_config_file_is_one_line():
    done = lucidet("train", "--config-file", "not/there.yaml")
    assert done.returncode == 2
    assert "not/there.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_train_takes_what_detectron2s_parser_takes():
    from lucidet.engine import default_argument_parser

    parser = cli.build_parser("train")
    ours = parser.parse_args(["train"])
    theirs = default_argument_parser().parse_args([])
    differing = {
        name: (value, getattr(ours, name, "absent"))
        for name, value in vars(theirs).items()
        if getattr(ours, name, "absent") != value
    }
    assert not differing
