"""``lucidet train``: a dataset and the name of a model, or detectron2's command line."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lucidet.cli.arguments import (
    add_config_arguments,
    add_launch_arguments,
    add_recipe_arguments,
    add_words,
    split_words,
)
from lucidet.cli.data_option import add_data_arguments

EXAMPLES = """\
examples:
  your data:          lucidet train --data FOLDER --model faster_rcnn_R_18_FPN --epochs 30
  pretrained:         lucidet train --data FOLDER --model faster_rcnn_R_50_FPN_1x --weights W
  a config:           lucidet train FILE.yaml SOLVER.IMS_PER_BATCH=2 SOLVER.BASE_LR=0.0025
  several GPUs:       lucidet train --config-file retinanet_R_50_FPN_1x --num-gpus 8
  go on:              lucidet train --config-file output/NAME/config.yaml --resume
  two machines:       lucidet train FILE.yaml --num-machines 2 --machine-rank 0 --dist-url URL
`lucidet models` lists the models. KEY VALUE settings win over everything that is chosen.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a detector on your data, or from a config file",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add_recipe_arguments(parser)
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR, with optimizer and schedule",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="write into an OUTPUT_DIR that holds an earlier run; else it becomes OUTPUT_DIR-2",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="train although the first look at data, config and weights (lucidet doctor) found "
        "errors",
    )
    parser.add_argument("--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="use only GPU kernels that add in a fixed order, where there are any: slower, but a "
        "run can be repeated and resumed to the bit",
    )
    add_launch_arguments(parser)
    add_words(parser)


def run(args: argparse.Namespace) -> int:
    config_file, args.opts = split_words([*args.opts, *args.rest])
    args.config_file = args.config_file or config_file
    if args.weights is not None and args.weights.lower() == "none":
        args.weights = ""
    if not (args.eval_only or args.resume):
        examine(args)
    if _is_short(args):
        from lucidet.cli.short_training import write_config

        args.config_file, args.summary = write_config(args, args.opts)
        args.opts = []
    elif args.weights is not None:
        args.opts += ["MODEL.WEIGHTS", args.weights]
    start(args)
    return 0


def examine(args: argparse.Namespace) -> None:
    """Take a quick look at data, config and weights; errors stop the training."""
    if os.environ.get("RANK", "0") != "0":  # another process does so
        return
    from lucidet.cli.doctor import quick_look

    quick_look(args)


def start(args: argparse.Namespace) -> None:
    """Run the training program in as many processes as asked for."""
    import torch

    from lucidet.engine import launch
    from lucidet.engine.frozen import VARIABLE
    from lucidet.engine.run import main

    # 1 is the default: it means a GPU where there is one
    if getattr(args, "dist_timeout", None) is not None:
        os.environ[VARIABLE] = str(args.dist_timeout)
    default_on_cpu = args.num_gpus == 1 and not torch.cuda.is_available()
    launch(
        main,
        0 if default_on_cpu else args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def _is_short(args: argparse.Namespace) -> bool:
    """Return whether the recipe is asked for: any of its options is given."""
    options = (args.model, args.epochs, args.batch, args.size, *args.data, *args.val)
    return not args.eval_only and any(option is not None for option in options)
