"""The command line of training programs, with detectron2's arguments."""

from __future__ import annotations

import argparse
import sys

__all__ = ["default_argument_parser"]


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of detectron2's arguments: config file, resume, eval only, processes, opts.

    Args:
        epilog: text after the list of arguments; examples by default.

    >>> args = default_argument_parser().parse_args(["--num-gpus", "2", "SOLVER.BASE_LR", "0.01"])
    >>> args.num_gpus, args.opts, args.resume
    (2, ['SOLVER.BASE_LR', '0.01'], False)
    """
    program = sys.argv[0]
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"""
examples:

one machine:
    {program} --num-gpus 8 --config-file cfg.yaml

change some config options:
    {program} --config-file cfg.yaml MODEL.WEIGHTS /path/to/weight.pth SOLVER.BASE_LR 0.001

several machines:
    (machine 0) {program} --machine-rank 0 --num-machines 2 --dist-url tcp://HOST:PORT [...]
    (machine 1) {program} --machine-rank 1 --num-machines 2 --dist-url tcp://HOST:PORT [...]
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="path to config file")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR, with optimiser and schedule",
    )
    parser.add_argument("--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS")
    parser.add_argument("--num-gpus", type=int, default=1, help="number of GPUs *per machine*")
    parser.add_argument("--num-machines", type=int, default=1, help="total number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="the rank of this machine")
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="where the processes meet: tcp://HOST:PORT of machine 0; auto: a free port, for one "
        "machine",
    )
    parser.add_argument(
        "opts",
        default=[],
        nargs=argparse.REMAINDER,
        help="config options at the end of the line: KEY VALUE pairs, such as "
        "SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN '(800,)'",
    )
    return parser
