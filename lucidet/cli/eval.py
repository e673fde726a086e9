"""``lucidet eval``: AP of weights on the config's test data sets."""

from __future__ import annotations

import argparse
from typing import Any

from lucidet.cli import train
from lucidet.cli.arguments import add_config_arguments, add_launch_arguments, add_words


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
    return train.run(args)
