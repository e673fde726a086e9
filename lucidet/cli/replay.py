"""``lucidet replay``: run a step again that a training kept because it was not finite."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run a step again that was not finite",
        description="Run the step in OUTPUT_DIR/bad_step_iterN again, and say what went bad first. "
        "Exit status 0: the losses are those of the training, to the bit; 1: they are not.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="which the error message named")
    parser.add_argument("--out", metavar="DIR", help="write the page of all stages there")


def run(args: argparse.Namespace) -> int:
    from lucidet.engine.replay import replay_step

    found = replay_step(args.folder)
    print(found.text())
    if args.out:
        from lucidet.inspection import show

        show(found.repetition.trace, args.out)
        print(f"page: {args.out}/report.html")
    return 0 if found.same else 1
