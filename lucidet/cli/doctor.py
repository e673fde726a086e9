"""``lucidet doctor``: look for faults in data, config and weights, before a training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucidet.cli.arguments import (
    add_config_arguments,
    add_recipe_arguments,
    add_words,
    is_weights,
    split_words,
)
from lucidet.cli.data_option import add_data_arguments, located

if TYPE_CHECKING:
    from lucidet.config import CfgNode

EXAMPLES = """\
examples:
  data:                 lucidet doctor --data cells/
  as trained:           lucidet doctor --data cells/ --model retinanet_R_50_FPN_1x --epochs 20
  a config:             lucidet doctor FILE.yaml SOLVER.IMS_PER_BATCH=2
  weights:              lucidet doctor output/cells/model_best.pth --data cells/
  a cleaned copy:       lucidet doctor --data cells/ --fix cells_clean
The exit status is 0, 1 with warnings, 2 with errors. docs/doctor.md lists every code.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="look for faults in data, config and weights before a training",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add_recipe_arguments(parser)
    add_config_arguments(parser)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="read the heads of images only: no search for duplicates, dark or blurred images",
    )
    parser.add_argument(
        "--out",
        default="doctor",
        metavar="DIR",
        help="where doctor.html, doctor.json and doctor.sarif are written; default: %(default)s",
    )
    parser.add_argument("--no-files", action="store_true", help="print only")
    parser.add_argument(
        "--fix", metavar="OUT", help="write a copy of the data without what can be repaired"
    )
    add_words(parser)
    parser.set_defaults(num_gpus=1, num_machines=1)


def run(args: argparse.Namespace) -> int:
    from lucidet.doctor.assemble import doctor
    from lucidet.doctor.page import write_report
    from lucidet.doctor.terminal import as_text
    from lucidet.utils.logger import setup_logger

    setup_logger()
    data, held_out = located_data(args)
    report, material = doctor(
        data, config_of(args), held_out=held_out, quick=args.quick, progress=_progress
    )
    print(as_text(report))
    if not args.no_files:
        page = write_report(report, Path(args.out))[0]
        print(f"{page}: the report with pictures; JSON and SARIF beside it")
    if args.fix:
        from lucidet.doctor.fix import write_fixed

        for line in write_fixed(material, report, Path(args.fix)):
            print(line)
    return report.status


def quick_look(args: argparse.Namespace) -> None:
    """Print what a quick examination finds before ``lucidet train``.

    Errors, each with its repair, go to the error stream; of warnings only the number is shown.

    Raises:
        ValueError: there are errors, and no ``--force``.
    """
    from lucidet.doctor.assemble import doctor
    from lucidet.doctor.rules import ERROR, WARNING
    from lucidet.doctor.terminal import findings_text
    from lucidet.engine.recipe.plan import count

    data, held_out = located_data(args)
    cfg = config_of_training(args, args.opts)
    report, _ = doctor(data, cfg, held_out=held_out, quick=True)
    errors = [one for one in report.findings if one.severity == ERROR]
    if errors:
        print(findings_text(errors), file=sys.stderr)
        if not args.force:
            number = count(len(errors), "error")
            raise ValueError(f"{number} before the start (above); --force trains all the same")
    elif report.counts[WARNING]:
        print(f"{count(report.counts[WARNING], 'warning')} about data and config: lucidet doctor")


def config_of_training(
    args: argparse.Namespace, overrides: Sequence[str]
) -> CfgNode | Callable[[], CfgNode]:
    """Return the config that ``lucidet train`` would use.

    With one of its short options it is the recipe's: what makes it is returned, as the recipe
    needs data that can be read.
    """
    from lucidet.config import get_cfg
    from lucidet.config.names import find_config

    short = (args.model, args.epochs, args.batch, args.size, *args.data, *args.val)
    if any(option is not None for option in short):

        def planned() -> CfgNode:
            from lucidet.cli.short_training import plan_of

            return plan_of(args, overrides)[0].cfg

        return planned
    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(find_config(args.config_file))
    cfg.merge_from_list(list(overrides))
    if args.weights is not None:
        cfg.MODEL.WEIGHTS = args.weights
    return cfg


def located_data(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the specifications of ``--data`` and ``--val``."""
    return [located(text) for text in args.data], [located(text) for text in args.val]


def config_of(args: argparse.Namespace) -> CfgNode | Callable[[], CfgNode]:
    """Return the config of a command line: that of the weights where only they are named."""
    words = [*args.opts, *args.rest]
    if args.weights is None and words and is_weights(words[0]):
        args.weights = words.pop(0)
    config_file, overrides = split_words(words)
    args.config_file = args.config_file or config_file
    if args.weights is not None and args.weights.lower() == "none":
        args.weights = ""
    if args.weights and not args.config_file and not args.model:
        from lucidet.checkpoint.description import config_of_weights

        cfg = config_of_weights(args.weights)
        cfg.merge_from_list(overrides)
        return cfg
    if not (args.config_file or args.data or args.model):
        raise ValueError("nothing to look at: name data (--data SPEC), a config or weights")
    return config_of_training(args, overrides)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    from lucidet.cli.progress import progress

    with progress(what, total, "images") as advance:
        yield lambda: advance(1)
