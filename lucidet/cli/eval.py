"""``lucidet eval``: AP of weights on validation data."""

from __future__ import annotations

import argparse
from typing import Any

from lucidet.cli.arguments import (
    add_config_arguments,
    add_launch_arguments,
    add_partial_argument,
    add_words,
    split_words,
    take_weights,
)
from lucidet.cli.train import start

EXAMPLES = """\
examples:
  the data of the training:  lucidet eval output/cells/model_best.pth
  other data:                lucidet eval output/cells/model_best.pth --data FOLDER
  other libraries' weights:  lucidet eval --config-file C --weights W
  what goes wrong, and where: lucidet eval output/cells/model_best.pth --analyse analysis
  of detections on disk:     lucidet eval --results FILE.json --data FOLDER --analyse analysis
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="evaluate weights on validation data: AP table",
        description="Evaluate weights on the data that their training was validated on, or on "
        "--data; the detections are written as COCO JSON into OUTPUT_DIR/inference.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SPEC",
        help="data to evaluate on, instead of DATASETS.TEST; its validation part where it has one",
    )
    parser.add_argument(
        "--analyse",
        metavar="DIR",
        help="write a page and a JSON there: AP of each class, confusions with their images, "
        "thresholds, kinds of errors (TIDE), calibration, worst images: docs/analysis.md",
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        help="with --analyse: detections that an evaluation wrote (COCO JSON, or its folder), "
        "instead of running a model",
    )
    add_config_arguments(parser)
    add_partial_argument(parser)
    add_launch_arguments(parser)
    add_words(parser)
    parser.set_defaults(resume=False, eval_only=True)


def run(args: argparse.Namespace) -> int:
    if args.results:
        return _analyse_results(args)
    words = take_weights(args, [*args.opts, *args.rest])
    config_file, args.opts = split_words(words)
    args.config_file = args.config_file or config_file
    args.config_of = args.weights if not args.config_file else ""
    if args.data:
        from lucidet.cli.data_option import evaluation_data

        args.opts += ["DATASETS.TEST", evaluation_data(args.data, args.config_of)]
    if args.weights is not None:
        args.opts += ["MODEL.WEIGHTS", args.weights]
    if args.allow_partial:
        args.opts += ["TEST.ALLOW_PARTIAL_WEIGHTS", "True"]
    start(args)
    return 0


def _analyse_results(args: argparse.Namespace) -> int:
    """Analyse detections on disk; no model runs."""
    from lucidet.analysis.sources import dataset_of, results_file_in
    from lucidet.analysis.write import write_analyses
    from lucidet.cli.data_option import evaluation_data
    from lucidet.data.specification.register import dataset_names
    from lucidet.utils.logger import setup_logger

    if not args.analyse:
        raise ValueError("--results needs --analyse DIR: the folder of the page")
    if args.weights is not None or args.opts or args.rest:
        raise ValueError("--results analyses detections on disk: without weights and overrides")
    setup_logger()
    file = results_file_in(args.results)
    name = dataset_names(evaluation_data(args.data))[0] if args.data else dataset_of(file)
    if name is None:
        raise ValueError(f"which dataset are the detections of {file} of? Name it with --data SPEC")
    write_analyses([(name, file)], args.analyse)
    return 0
