"""``lucidet predict``: pictures with boxes and a JSON of detections, from images and videos."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.cli.arguments import (
    OVERRIDES_HELP,
    add_config_arguments,
    add_partial_argument,
    checked_overrides,
    is_config_key,
    take_weights,
)

EXAMPLES = """\
examples:
  a folder:       lucidet predict output/cells/model_best.pth photos/ --out detections
  other weights:  lucidet predict --config-file C --weights W photos/
  choosy:         ... --score-threshold 0.7 --class-thresholds "person=0.9,traffic light=0.3"
  other values:   ... photos/ --out detections MODEL.DEVICE cpu INPUT.MIN_SIZE_TEST 600
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="detect objects in images, folders and videos",
        description="Write a picture with boxes for every image, and predictions.json: a list "
        "of COCO results (bbox = x, y, width, height) with file names.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="W IMAGE|FOLDER|VIDEO",
        help="weights, then files and folders; " + OVERRIDES_HELP,
    )
    parser.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="FILE",
        dest="more_inputs",
        help="the same as INPUT",
    )
    parser.add_argument(
        "--out", "--output", default="predictions", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--score-threshold",
        "--confidence-threshold",
        type=float,
        default=0.5,
        metavar="T",
        help="lowest score, 0..1, of a detection that is drawn and written; default: %(default)s",
    )
    parser.add_argument(
        "--class-thresholds",
        default="",
        metavar="NAME=T,...",
        help="thresholds of single classes, for instance person=0.5,dog=0.3",
    )
    parser.add_argument(
        "--batch-size", type=int, default=0, metavar="N", help="images at once; 0: TEST.BATCH_SIZE"
    )
    add_partial_argument(parser)
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.json only")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help=OVERRIDES_HELP)
    parser.set_defaults(rest=[])


def split_inputs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split positional words into inputs and config overrides, at the first config key.

    >>> split_inputs(["a.jpg", "B.JPG", "MODEL.DEVICE", "cpu"])
    (['a.jpg', 'B.JPG'], ['MODEL.DEVICE', 'cpu'])
    """
    for i, word in enumerate(words):
        is_key = is_config_key(word.partition("=")[0])
        if is_key and not _is_media(word) and not os.path.exists(word):
            return list(words[:i]), list(words[i:])
    return list(words), []


def _is_media(word: str) -> bool:
    from lucidet.cli.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES

    return Path(word).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def run(args: argparse.Namespace) -> int:
    words = take_weights(args, [*args.inputs, *args.rest])
    inputs, overrides = split_inputs(words)
    inputs += args.more_inputs
    overrides = checked_overrides([*overrides, *args.opts])
    if not inputs:
        raise ValueError("nothing to predict on; name an image, a folder or a video")
    for name, value, low, high in (
        ("--score-threshold", args.score_threshold, 0, 1),
        ("--batch-size", args.batch_size, 0, 4096),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low} and {high}, got {value}")

    from lucidet.cli.sources import find_sources

    sources, problems = find_sources(inputs, args.out)
    if sources:
        from lucidet.cli.prediction import predict_sources

        problems += predict_sources(sources, args, overrides)
    for problem in problems:
        print(f"lucidet predict: {problem}", file=sys.stderr)
    return 1 if problems else 0
