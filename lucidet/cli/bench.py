"""``lucidet bench``: measure against torchvision and pycocotools in one run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  everything:      lucidet bench --out benchmarks/results.json
  some rows:       lucidet bench --jobs roi-align losses
  does it run?     lucidet bench --quick
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure against torchvision and pycocotools in one run",
        description="Do the same work with the same weights on both sides, check that the results "
        "agree, then time them in turn; ratios are of medians.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--jobs", nargs="+", default=[], metavar="NAME", help="starts of job names; default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="does it run? tiny sizes, 30 seconds, no ratios"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="for each job; default: %(default)s",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of torch; 0: as many as it chooses"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count seconds on a core, where others use the machine too; best with --threads 1",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all numbers as JSON")
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="replace the table in this file"
    )
    parser.add_argument("--list", action="store_true", help="name the jobs and stop")
    parser.add_argument(
        "--scaling", type=Path, metavar="FOLDER", help="plot step time against the size of the work"
    )


def run(args: argparse.Namespace) -> int:
    if args.seconds < 0 or args.threads < 0:
        raise ValueError("--seconds and --threads must not be negative")
    if args.scaling:
        import torch

        from lucidet.bench.scaling import plot_scaling

        if args.threads:
            torch.set_num_threads(args.threads)
        print(f"written: {plot_scaling(args.scaling, args.quick, args.cpu_time)}")
        return 0
    from lucidet.bench import run as bench

    if args.list:
        for job in bench.select(args.jobs):
            print(f"{job.name:20} {job.title}; against {job.against}")
        return 0
    return bench.run(
        args.jobs,
        args.quick,
        args.seconds,
        args.threads,
        args.out,
        args.readme,
        args.cpu_time,
    )
