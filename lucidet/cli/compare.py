"""``lucidet compare``: two evaluations on the same dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lucidet.cli.arguments import is_weights

EXAMPLES = """\
examples:
  weights:       lucidet compare old.pth new.pth --data FOLDER --out comparison
  evaluations:   lucidet compare output/a/evaluation output/b/evaluation
  analyses:      lucidet compare analysis_a analysis_b
  results files: lucidet compare a.json b.json --data FOLDER
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="compare two evaluations: differences, objects won and lost",
        description="Compare B with A on the same dataset: metrics with bootstrap intervals, "
        "classes, and the ground-truth boxes that only one of them finds, with pictures. Each of "
        "A and B is the folder of an evaluation or of its analysis, a COCO results file, or "
        "weights, which are evaluated first.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="the baseline")
    parser.add_argument("b", metavar="B", help="what is compared with it")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SPEC",
        help="the dataset; without it the one that the evaluations name",
    )
    parser.add_argument(
        "--out", default="comparison", metavar="DIR", help="folder of page and JSON; %(default)s"
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=200,
        metavar="N",
        help="random samples of the images for the intervals; 0: no intervals; %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    from lucidet.analysis.sources import results_file_in
    from lucidet.analysis.write import write_comparison
    from lucidet.utils.logger import setup_logger

    if args.bootstrap < 0:
        raise ValueError(f"--bootstrap must be 0 or more, got {args.bootstrap}")
    setup_logger()
    files = []
    for side, given in (("a", args.a), ("b", args.b)):
        if is_weights(given):
            given = _evaluate(given, args.data, str(Path(args.out, side)))
        files.append(results_file_in(given))
    name = _dataset(args.data, files)
    labels = _labels(args.a, args.b)
    page, text = write_comparison(name, (files[0], files[1]), labels, args.out, args.bootstrap)
    print(f"{text}\npage: {page}")
    return 0


def _evaluate(weights: str, data: list[str], folder: str) -> str:
    """Evaluate weights as ``lucidet eval`` does; return the folder."""
    from lucidet.cli import eval as evaluation

    parser = argparse.ArgumentParser()
    evaluation.add_parser(parser.add_subparsers())
    options = [word for spec in data for word in ("--data", spec)]
    evaluation.run(parser.parse_args(["eval", weights, *options, "OUTPUT_DIR", folder]))
    return folder


def _dataset(data: list[str], files: list[Path]) -> str:
    from lucidet.analysis.sources import dataset_of
    from lucidet.cli.data_option import evaluation_data
    from lucidet.data.specification.register import dataset_names

    if data:
        return dataset_names(evaluation_data(data))[0]
    names = [dataset_of(file) for file in files]
    known = [name for name in names if name is not None]
    if not known:
        raise ValueError(
            f"which dataset are the detections of {files[0]} of? Name it with --data SPEC"
        )
    if len(set(known)) > 1:
        raise ValueError(
            f"A was evaluated on {known[0]}, B on {known[1]}: evaluate both on one dataset, or "
            "name the one that both results files are of with --data SPEC"
        )
    return known[0]


def _labels(a: str, b: str) -> tuple[str, str]:
    """Return short names that differ: the last part of each path in which they do.

    >>> _labels("output/old/model_final.pth", "output/new/model_final.pth")
    ('old/model_final', 'new/model_final')
    """
    first, second = (Path(text).with_suffix("").parts for text in (a, b))
    for count in range(1, max(len(first), len(second)) + 1):
        pair = "/".join(first[-count:]), "/".join(second[-count:])
        if pair[0] != pair[1]:
            return pair
    return "A", "B"
