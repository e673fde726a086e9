"""The `lucidet` command: pick the sub-command, run it, turn errors into one clear message."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from lucidet import __version__
from lucidet.utils.user_modules import import_modules


class Command(NamedTuple):
    """A sub-command: a module with ``add_parser(subparsers)`` and ``run(args) -> int | None``.

    The module must not import torch at its top: it is imported for ``--help`` already.
    """

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "train": Command("lucidet.cli.train", "train a detector on your data, or from a config file"),
    "eval": Command("lucidet.cli.eval", "evaluate weights on validation data: AP table"),
    "compare": Command(
        "lucidet.cli.compare", "compare two evaluations: differences, objects won and lost"
    ),
    "predict": Command("lucidet.cli.predict", "detect objects in images, folders and videos"),
    "models": Command("lucidet.cli.models", "list configs: backbone, published AP, size, weights"),
    "data": Command("lucidet.cli.data", "show what is understood of a dataset; convert it to COCO"),
    "doctor": Command(
        "lucidet.cli.doctor", "look for faults in data, config and weights before a training"
    ),
    "coverage": Command(
        "lucidet.cli.coverage", "show which boxes the anchors cover, and propose better ones"
    ),
    "weights": Command("lucidet.cli.weights", "show and convert checkpoints of other libraries"),
    "bench": Command("lucidet.cli.bench", "measure against torchvision and pycocotools in one run"),
    "inspect": Command(
        "lucidet.cli.inspect", "show what every stage did with one image, as a page"
    ),
    "step": Command("lucidet.cli.step", "step through one image in the terminal"),
    "replay": Command("lucidet.cli.replay", "run a training step again that was not finite"),
    "explain": Command(
        "lucidet.cli.explain", "why an object was missed, where a detection comes from"
    ),
    "config": Command("lucidet.cli.config", "show, check and translate config files"),
}

# what a wrong file, config or argument raises; other types are faults of the program and say so
USER_ERRORS = (ValueError, KeyError, OSError, ImportError, FloatingPointError)


def _take_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the modules of ``--import``, wherever it stands in the line, and the rest.

    >>> _take_imports(["train", "--import", "my_data", "--config-file", "c.yaml"])
    (['my_data'], ['train', '--config-file', 'c.yaml'])
    """
    parser = argparse.ArgumentParser(prog="lucidet", add_help=False, allow_abbrev=False)
    parser.add_argument("--import", action="append", default=[], dest="modules")
    found, rest = parser.parse_known_args(list(arguments))
    return found.modules, rest


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes, before its name or after it."""
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        default=argparse.SUPPRESS,
        help="annotation files may name images outside of their image folder",
    )
    parser.add_argument(
        "--import",
        metavar="MODULE",
        dest="modules",
        default=argparse.SUPPRESS,
        help="a Python module or FILE.py that registers datasets or model parts; may be repeated",
    )


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only `command`'s own module is imported, the others are named."""
    parser = argparse.ArgumentParser(
        prog="lucidet",
        description="Train, evaluate, use and understand object detectors.",
        epilog="lucidet COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"lucidet {__version__}")
    parser.set_defaults(debug=False)
    _add_common_options(parser)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        if name == command:
            importlib.import_module(module).add_parser(subparsers)
            _add_common_options(subparsers.choices[name])
        else:
            subparsers.add_parser(name, help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`; return the exit code.

    0: done; 1: the command ran, but something in its input failed (it has said what); 2: error.
    With ``--debug`` or ``LUCIDET_DEBUG=1`` errors are raised instead, with their traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    modules, arguments = _take_imports(arguments)
    command = next((a for a in arguments if not a.startswith("-")), None)
    parser = build_parser(command)
    args, rest = parser.parse_known_args(arguments)
    takes_rest = hasattr(args, "rest")  # config overrides after options
    unknown = [word for word in rest if word.startswith("--") and word != "--"]
    if rest and (not takes_rest or unknown or rest[0].startswith("-")):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if takes_rest:
        args.rest = rest
    if hasattr(args, "allow_outside"):
        os.environ["LUCIDET_ALLOW_OUTSIDE"] = "1"
    if args.debug:
        os.environ["LUCIDET_DEBUG"] = "1"  # processes that the command starts see it too
    try:
        if modules:
            import_modules(modules)
        return importlib.import_module(COMMANDS[args.command].module).run(args) or 0
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return getattr(error, "status", 130)
    except BrokenPipeError:  # `lucidet config ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("LUCIDET_DEBUG", "0") not in ("", "0"):
            raise
        print(f"lucidet {args.command}: error: {describe(error)}", file=sys.stderr)
        return 2


def describe(error: Exception) -> str:
    """Return the message of `error`; its type too where the user's input is hardly the cause.

    >>> describe(ValueError("NUM_CLASSES is 80, the data set has 3"))
    'NUM_CLASSES is 80, the data set has 3'
    """
    # str(KeyError("text")) is the text in quotes
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, USER_ERRORS) and text:
        return text
    summary, _, rest = text.partition("\n")
    if "Traceback (most recent call last)" in rest:  # of a process that was started for training
        return f"{summary}\nThe same command with --debug shows its traceback."
    return (
        f"{type(error).__name__}: {text}\nThis looks like a fault of lucidet; "
        "the same command with --debug shows where it happened."
    )
