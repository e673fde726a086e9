"""``lucidet config``: show effective values with their origin, check and translate files."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from lucidet.cli.arguments import add_words, split_words

DESCRIPTION = """\
  show       every effective value and where it was set: default, FILE:LINE or command line
  check      read a file and say whether lucidet builds what it asks for
  translate  print a file in maskrcnn-benchmark's, FCOS' or ATSS' names in lucidet's
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "config",
        help="show, check and translate config files",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in {"show": "effective values with origins", "check": "check a config"}.items():
        action = actions.add_parser(name, help=text)
        action.add_argument("--config-file", default="", metavar="FILE", help="YAML config file")
        if name == "show":
            action.add_argument(
                "--changed", action="store_true", help="only values that are not the default"
            )
        add_words(action)
    action = actions.add_parser("translate", help="maskrcnn-benchmark's names into lucidet's")
    action.add_argument("file", metavar="FILE", help="YAML config file")
    parser.set_defaults(opts=[], rest=[])


def run(args: argparse.Namespace) -> int:
    if args.action == "translate":
        return translate(args.file)
    config_file, overrides = split_words([*args.opts, *args.rest])
    cfg = _load(args.config_file or config_file, overrides)
    if args.action == "check":
        return check(cfg)
    show(cfg, changed_only=args.changed)
    return 0


def _load(config_file: str, opts: list[str]) -> Any:
    from lucidet.config import get_cfg
    from lucidet.config.names import find_config

    logging.basicConfig(format="%(message)s")  # notes of a translation
    cfg = get_cfg()
    if config_file:
        cfg.merge_from_file(find_config(config_file))
    cfg.merge_from_list(opts)
    return cfg


def show(cfg: Any, changed_only: bool = False) -> None:
    """Print ``KEY: value  # origin`` for each key, sorted."""
    from lucidet.config.values import to_yaml

    rows = []
    for key, node in sorted(cfg._leaves(), key=lambda leaf: leaf[0]):
        origin = cfg.origin(key)
        if origin != "default" or not changed_only:
            rows.append((f"{key}: {to_yaml(node._raw(key.rpartition('.')[2]))}", origin))
    width = max((len(text) for text, _ in rows if len(text) <= 72), default=0)
    for text, origin in rows:
        print(f"{text:<{width}}  # {origin}")


def check(cfg: Any) -> int:
    """Build the model, without memory for its weights; return the exit code.

    Keys of MODEL that nothing has read by then are named: they have no effect.
    """
    from lucidet.config.checks import check_supported
    from lucidet.model_zoo.listing import count_parameters

    try:
        check_supported(cfg)
        size = count_parameters(cfg)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for key in cfg.unread_keys():
        if key.startswith("MODEL.") and key != "MODEL.WEIGHTS":
            name = cfg.MODEL.META_ARCHITECTURE
            print(f"note: {key} has no effect in this {name} ({cfg.origin(key)})", file=sys.stderr)
    print(f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}: is built, {size:,} parameters")
    return 0


def translate(file: str) -> int:
    """Print a file in lucidet's names; what has no counterpart goes to the error stream."""
    from lucidet.config import CfgNode, get_cfg, maskrcnn_benchmark
    from lucidet.config.files import read_config

    content = read_config(file)
    cfg = get_cfg()
    if not maskrcnn_benchmark.is_maskrcnn_benchmark(content.values, cfg._known()):
        raise ValueError(
            f"{file} is not in maskrcnn-benchmark's names (no CONV_BODY, RPN_ONLY, ATSS_ON ...); "
            "if it is in detectron2's, it needs no translation"
        )
    translated, notes = maskrcnn_benchmark.translate(content, file)
    cfg._merge(translated.values, lambda key: translated.origins.get(key, file))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"# translated from {file}")
    print(CfgNode({**translated.values, "VERSION": 2}).dump(), end="")
    return 0
