"""``lucidet models``: the configs that come with lucidet, and their weights."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = """\
examples:
  all:              lucidet models
  some:             lucidet models retinanet R_50
  for programs:     lucidet models --json
  one is trained:   lucidet train --data FOLDER --model faster_rcnn_R_18_FPN
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "models",
        help="list configs: backbone, published AP, size, weights",
        description="The configs of the model zoo, for --model and --config-file. `here`: its "
        "weights (without trained ones, those that training starts from) need no download.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only names that hold all words")
    parser.add_argument("--json", action="store_true", help="a list of objects, with all numbers")


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from lucidet.model_zoo.listing import list_models

    entries = list(list_models(args.words))
    if args.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
        return 0
    if not entries:
        raise ValueError(f"no config's name holds {' and '.join(args.words)}; see lucidet models")
    rows = [("model", "backbone", "AP", "parameters", "here", "weights (from: of the start)")]
    for entry in entries:
        figure = "-" if entry.box_ap is None else f"{entry.box_ap:.1f}"
        figure += " recall" if entry.measure == "recall" else ""
        address = entry.weights or (f"from: {entry.start}" if entry.start else "from: random")
        size = f"{entry.parameters / 1e6:.1f} M"
        here = "yes" if entry.on_disk else "no"
        rows.append((entry.name, entry.backbone, figure, size, here, address))
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        cells[3] = row[3].rjust(widths[3])
        print("  ".join(cells).rstrip())
    return 0
