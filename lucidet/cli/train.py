"""``lucidet train``: detectron2's training command line."""

from __future__ import annotations

import argparse
from typing import Any

from lucidet.cli.arguments import (
    add_config_arguments,
    add_launch_arguments,
    add_overrides,
    checked_overrides,
)

EXAMPLES = """\
examples:
  one machine:        lucidet train --config-file C --num-gpus 8
  other values:       lucidet train --config-file C SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.0025
  go on:              lucidet train --config-file C --resume
  two machines:       lucidet train --config-file C --num-machines 2 --machine-rank 0 --dist-url URL
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a detector from a config file",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR, with optimiser and schedule",
    )
    parser.add_argument("--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS")
    add_launch_arguments(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    args.opts = checked_overrides(args.opts)
    if args.weights is not None:
        args.opts += ["MODEL.WEIGHTS", args.weights]

    from lucidet.engine import launch
    from lucidet.engine.run import main

    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0
