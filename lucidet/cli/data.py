"""``lucidet data``: show what is understood of a dataset, and write it as COCO JSON."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucidet.data.specification.datasets import Dataset

EXAMPLES = """\
SPEC is a folder or file whose layout is recognized, or says what it is:
  lucidet data show cells/                         COCO, VOC, YOLO, CVAT or CSV
  lucidet data show coco:train.json@images         a COCO file and the folder of its images
  lucidet data show voc:VOCdevkit/VOC2007:trainval a folder and a split
  lucidet data show cells/,more_cells/             joined; classes are matched by name
  lucidet data convert yolo:data.yaml --to coco --out cells_coco
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data",
        help="show what is understood of a dataset, and convert it to COCO JSON",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="splits, classes, boxes, what was dropped; a picture")
    convert = actions.add_parser("convert", help="write COCO JSON")
    for action in (show, convert):
        action.add_argument("spec", nargs="+", metavar="SPEC", help="several are joined")
    show.add_argument(
        "--out",
        default="data_show",
        metavar="DIR|FILE.png",
        help="where ten images with their boxes are drawn; default: %(default)s",
    )
    show.add_argument("--images", type=int, default=10, metavar="N", help="default: %(default)s")
    show.add_argument("--no-picture", action="store_true", help="text only")
    convert.add_argument("--to", default="coco", choices=("coco",), help="default: %(default)s")
    convert.add_argument("--out", required=True, metavar="DIR", help="folder of the new files")
    convert.add_argument(
        "--copy", action="store_true", help="copy the images too; else they stay where they are"
    )


def run(args: argparse.Namespace) -> int:
    messages = logging.getLogger("lucidet.data.specification")
    level = messages.level
    messages.setLevel(logging.ERROR)  # what was dropped is in the text that is printed
    try:
        datasets = read(args.spec)
        return show(args, datasets) if args.action == "show" else convert(args, datasets)
    finally:
        messages.setLevel(level)


def read(spec: list[str]) -> list[Dataset]:
    """Return the splits of a specification, or the one that it names."""
    from lucidet.data.specification.register import described, every_split

    return [described(name) for name in every_split(spec)]


def show(args: argparse.Namespace, datasets: list[Dataset]) -> int:
    """Print a summary and draw the contact sheet."""
    from lucidet.data.specification.contact_sheet import write_contact_sheet
    from lucidet.data.specification.summary import summary

    print(summary(datasets))
    if args.no_picture:
        return 0
    path = Path(args.out)
    if path.suffix.lower() != ".png":
        path = path / "contact_sheet.png"
    records = [record for dataset in datasets for record in dataset.records()]
    problems = write_contact_sheet(records, datasets[0].classes, path, max(1, args.images))
    for problem in problems:
        print(problem)
    print(f"\n{path}: {min(max(1, args.images), len(records))} images with their boxes")
    return 0


def convert(args: argparse.Namespace, datasets: list[Dataset]) -> int:
    """Write COCO files and say how to use them."""
    from lucidet.data.specification.convert import write_coco

    out = Path(args.out)
    files, root = write_coco(datasets, out, args.copy)
    for dataset, file in zip(datasets, files, strict=True):
        records = dataset.records()
        boxes = sum(len(record["annotations"]) for record in records)
        print(f"{file}: {len(records)} images, {boxes} boxes, {len(dataset.classes)} classes")
    for dataset in datasets[:1]:
        for line in dataset.report.lines():
            print(line)
    print(f"use it as {out}" if args.copy else f"use it as coco:{out}@{root}")
    return 0
