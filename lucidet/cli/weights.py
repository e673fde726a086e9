"""``lucidet weights``: show what a checkpoint of any known format holds, and convert it."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = """\
examples:
  lucidet weights show model_final_280758.pkl
  lucidet weights convert torchvision://fasterrcnn_resnet50_fpn --to safetensors
  lucidet weights convert ATSS_R_50_FPN_1x.pth --to safetensors --out atss.safetensors
IN is a file or an address: detectron2://, catalog://, torchvision://, https://
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "weights",
        help="show and convert checkpoints of detectron2, torchvision, maskrcnn-benchmark",
        description="Weights are recognised by their content. Nothing in a file is ever run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="format, parts, and the config keys it needs")
    show.add_argument("input", metavar="IN")
    convert = actions.add_parser("convert", help="write a checkpoint in lucidet's names and a YAML")
    convert.add_argument("input", metavar="IN")
    convert.add_argument(
        "--to", default="safetensors", choices=("safetensors", "pth"), help="default: %(default)s"
    )
    convert.add_argument(
        "--out", metavar="FILE", help="default: IN's name with the new suffix, in this folder"
    )
    convert.add_argument(
        "--config-file", default="", metavar="C", help="config of the weights, if you have it"
    )
    convert.add_argument(
        "--norm-eps",
        type=float,
        metavar="E",
        help="epsilon of the backbone's norms, which no file tells (torchvision: 0.0 for models "
        "tuned from its COCO_V1 weights, 1e-5 for others)",
    )


def run(args: argparse.Namespace) -> int:
    return show(args.input) if args.action == "show" else convert(args)


def show(address: str) -> int:
    """Print format, parts and settings of a checkpoint."""
    from lucidet.checkpoint.convert import read_renamed
    from lucidet.checkpoint.report import LoadReport

    renamed = read_renamed(address)
    print(f"{address}: {renamed.format}, {len(renamed.weights)} tensors")
    print(LoadReport(loaded=list(renamed.weights), origin=renamed).verdict())
    for key, value in sorted(renamed.settings.items()):
        print(f"{key}: {value}")
    return 0


def convert(args: argparse.Namespace) -> int:
    """Write the converted checkpoint and its config."""
    from lucidet.checkpoint.convert import convert as write
    from lucidet.config.names import find_config

    done = write(args.input, args.to, args.out, find_config(args.config_file), args.norm_eps)
    print(f"{args.input}: {done.renamed.format}")
    print(f"wrote {done.weights} ({len(done.renamed.weights)} tensors) and {done.config}")
    for reason in sorted(set(done.renamed.unused.values())):
        count = list(done.renamed.unused.values()).count(reason)
        print(f"left out {count}: {reason}")
    return 0
