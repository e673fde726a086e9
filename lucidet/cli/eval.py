"""``lucidet eval``: AP of weights on the config's test data sets."""

from __future__ import annotations

import argparse
from typing import Any

from lucidet.cli.arguments import add_config_arguments, add_launch_arguments, add_words, split_words
from lucidet.cli.train import start


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="evaluate weights on the config's test data set: AP table",
        description="Evaluate weights on DATASETS.TEST; the detections are written as COCO JSON "
        "into OUTPUT_DIR/inference.",
    )
    add_config_arguments(parser)
    add_launch_arguments(parser)
    add_words(parser)
    parser.set_defaults(resume=False, eval_only=True)


def run(args: argparse.Namespace) -> int:
    config_file, args.opts = split_words([*args.opts, *args.rest])
    args.config_file = args.config_file or config_file
    if args.weights is not None:
        args.opts += ["MODEL.WEIGHTS", args.weights]
    start(args)
    return 0
