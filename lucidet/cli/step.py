"""``lucidet step``: stop at every stage of one image, in the terminal."""

from __future__ import annotations

import argparse
from typing import Any

from lucidet.cli.arguments import OVERRIDES_HELP
from lucidet.cli.inspect import add_run_arguments, load_run

COMMANDS = """\
at the prompt:
  next (n, Enter)      the next stage
  continue rpn.* (c)   run to a stage; without a name to the end
  print EXPR (p)       labels.unique(), self.nms_thresh: the stage's fields and the live frame
  draw                 the stage's picture
  back (b)             the stage before, as recorded
  list, help, quit (q)
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "step",
        help="step through one image in the terminal",
        description="Walk one image through training or inference and stop at each stage.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--out", default="inspection", metavar="DIR", help="of drawn pictures; default: %(default)s"
    )
    parser.add_argument("words", nargs="*", metavar="KEY VALUE", help=OVERRIDES_HELP)


def run(args: argparse.Namespace) -> int:
    import sys

    from lucidet.inspection.run import inspect_image
    from lucidet.inspection.stepper import Stepper
    from lucidet.inspection.trace import Reached

    stepper = Stepper(args.out, stdin=None if sys.stdin.isatty() else sys.stdin)
    try:
        trace = inspect_image(
            **load_run(args, [*args.words, *args.rest]),
            on_event=stepper.on_event,
            on_start=stepper.begin,
        )
    except Reached:
        return 0
    stepper.finished()
    if trace.context["error"]:
        print(f"the run stopped: {trace.context['error']}")
    return 1 if trace.context["error"] else 0
