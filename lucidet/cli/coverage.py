"""``lucidet coverage``: which boxes the anchors of a config cover, before a training."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lucidet.cli.arguments import add_config_arguments, add_recipe_arguments, add_words
from lucidet.cli.data_option import add_data_arguments

EXAMPLES = """\
examples:
  as trained:   lucidet coverage --data cells/ --model faster_rcnn_R_18_FPN
  a config:     lucidet coverage FILE.yaml
  weights:      lucidet coverage output/cells/model_best.pth --data cells/
`lucidet train ... --config-file` takes the proposed anchors with a _BASE_, or as overrides.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "coverage",
        help="show which boxes the anchors cover, and propose better ones",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add_recipe_arguments(parser)
    add_config_arguments(parser)
    parser.add_argument(
        "--out",
        default="coverage",
        metavar="DIR",
        help="where coverage.html, coverage.json and anchors.yaml go; default: %(default)s",
    )
    add_words(parser)
    parser.set_defaults(num_gpus=1, num_machines=1)


def run(args: argparse.Namespace) -> int:
    from lucidet.cli.doctor import config_of, located_data
    from lucidet.coverage.page import write_coverage
    from lucidet.coverage.report import as_text
    from lucidet.coverage.run import cover
    from lucidet.doctor.assemble import material_of
    from lucidet.utils.logger import setup_logger

    setup_logger()
    cfg = config_of(args)
    data, held_out = located_data(args)
    material, problems = material_of(data, cfg, held_out=held_out)
    train = material.train
    if train is None or material.cfg is None:
        reasons = "; ".join(one.message for one in problems)
        raise ValueError(f"no training data to look at: {reasons or 'name some with --data SPEC'}")
    source = args.model or args.config_file or args.weights or "the default model"
    report = cover(material.cfg, train, str(source), _progress)
    print(as_text(report))
    page = write_coverage(report, train.records, Path(args.out))
    print(f"{page}: the report with pictures; coverage.json beside it")
    if report.proposal is not None and report.proposal.changed:
        print(f"{page.with_name('anchors.yaml')}: the proposed anchors, to merge into a config")
    return 0


def _progress(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    from lucidet.cli.progress import progress

    return progress(what, total, "boxes")
