"""``lucidet inspect``: one image through a detector, as one page; and two such runs compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lucidet.cli.arguments import (
    OVERRIDES_HELP,
    add_config_arguments,
    add_partial_argument,
    checked_overrides,
    take_weights,
)
from lucidet.cli.inspect_diff import add_diff_arguments, run_diff

EXAMPLES = """\
examples:
  inference:  lucidet inspect output/cells/model_best.pth --image cells.jpg --out DIR
  training:   lucidet inspect --config-file C --dataset coco_2017_train --id 9 --train --out DIR
  in part:    ... --until rpn.assign --out DIR
  two traces: lucidet inspect diff DIR1 DIR2
  two models: lucidet inspect diff OLD.pth NEW.pth --dataset DATA --out DIR
"""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which image goes through which detector; shared with ``lucidet step``."""
    add_config_arguments(parser)
    parser.add_argument("--image", metavar="FILE", help="an image file, without objects")
    parser.add_argument("--dataset", metavar="NAME", help="a registered data set, with objects")
    parser.add_argument(
        "--id", metavar="N", dest="image_id", help="image of it; default: the first"
    )
    add_partial_argument(parser)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="losses and gradients")
    mode.add_argument("--eval", action="store_true", help="detections (the default)")
    parser.add_argument("--until", metavar="STAGE", help="end there: rpn.assign, roi.*, anchors")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.set_defaults(rest=[])


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="show what every stage did with one image, as one page",
        description="Walk one image through training or inference; write report.html, which opens "
        "offline, and the trace behind it. Without --weights the weights are random.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(parser)
    parser.add_argument("--out", default="inspection", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--no-trace", action="store_true", help="write the page only")
    parser.add_argument("--text", action="store_true", help="in the terminal; nothing is written")
    parser.add_argument(
        "--object", type=int, metavar="K", help="with --text: ground-truth box K through all stages"
    )
    add_diff_arguments(parser)
    parser.add_argument("words", nargs="*", metavar="W | diff A B | KEY VALUE", help=OVERRIDES_HELP)


def load_run(args: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    """Return the arguments of ``inspect_image`` that a command line names."""
    from lucidet.checkpoint.description import config_of_weights, description_of_weights
    from lucidet.cli.data_option import located
    from lucidet.config import get_cfg
    from lucidet.config.names import find_config
    from lucidet.inspection.run import find_record

    words = take_weights(args, words)
    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(find_config(args.config_file))
    elif args.weights:
        cfg = config_of_weights(args.weights)
    cfg.merge_from_list(checked_overrides(words))
    cfg.TEST.ALLOW_PARTIAL_WEIGHTS |= args.allow_partial
    if args.dataset is not None:
        args.dataset = located(args.dataset)
    elif args.image is None:
        args.dataset = next(iter(cfg.DATASETS.TRAIN if args.train else cfg.DATASETS.TEST), None)
    described = description_of_weights(args.weights) if args.weights else None
    record = find_record(
        image=args.image,
        dataset=args.dataset,
        image_id=args.image_id,
        classes=described.classes if described and not cfg.MODEL.CLASS_MAP else None,
    )
    return {
        "cfg": cfg,
        "record": record,
        "training": args.train,
        "weights": args.weights,
        "dataset": args.dataset,
        "until": args.until,
        "seed": args.seed,
    }


def run(args: argparse.Namespace) -> int:
    words = [*args.words, *args.rest]
    if words[:1] == ["diff"]:
        return run_diff(args, words[1:])
    from lucidet.explain.inspected import add_explanation, inspected_text
    from lucidet.explain.page.page import TITLES
    from lucidet.inspection.checks import run_checks
    from lucidet.inspection.page.report import write_report
    from lucidet.inspection.run import inspect_image
    from lucidet.utils.logger import setup_logger

    setup_logger()
    if args.object is not None and not args.text:
        raise ValueError("--object is for --text; the page follows every ground-truth box")
    trace = inspect_image(**load_run(args, words), on_done=add_explanation)
    if args.text:
        print(inspected_text(trace, args.object))
        return 1 if trace.context["error"] else 0
    path = write_report(trace, args.out, trace.context.get("explanation"), TITLES)
    if not args.no_trace:
        trace.save(Path(args.out) / "trace")
    for finding in run_checks(trace):
        print(f"{finding.stage}: {finding.check}: {finding.message}")
    if trace.context["error"]:
        print(f"the run stopped: {trace.context['error']}")
    print(f"{path}: {len(trace)} events, {path.stat().st_size / 1e6:.1f} MB")
    return 1 if trace.context["error"] else 0
