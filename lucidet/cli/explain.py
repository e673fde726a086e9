"""``lucidet explain``: why a ground-truth box was missed, and where a detection comes from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.cli.arguments import (
    OVERRIDES_HELP,
    add_config_arguments,
    add_partial_argument,
    checked_overrides,
    is_config_key,
    take_weights,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

EXAMPLES = """\
examples:
  a validation set:   lucidet explain output/cells/model_best.pth --out DIR
  other data:         lucidet explain output/cells/model_best.pth FOLDER
  single images:      lucidet explain --config-file C --weights W --dataset NAME --id 9 25
  in the terminal:    ... --id 9 --text               every ground-truth box of the image
                      ... --id 9 --text --object 3    box 3, stage by stage
                      ... --id 9 --text --detection 0 back to its anchor
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="why was this object missed, where does this detection come from",
        description="Follow every ground-truth box through anchors, proposals, NMS, scores and "
        "thresholds to where it was lost, and every detection back to its anchor. Of a dataset: "
        "the share lost at each stage, with examples.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--dataset",
        metavar="NAME|SPEC",
        help="images with annotations: a registered dataset, a folder or a file; default: "
        "DATASETS.TEST",
    )
    parser.add_argument(
        "--id",
        metavar="N",
        dest="image_ids",
        nargs="+",
        default=[],
        help="these images only, by id or file name",
    )
    parser.add_argument(
        "--max-images", type=int, metavar="N", help="of a dataset, its first N images"
    )
    parser.add_argument(
        "--iou",
        type=float,
        default=0.5,
        metavar="X",
        help="IoU from which a detection counts; default: %(default)s",
    )
    parser.add_argument("--object", type=int, metavar="K", help="with --text: this box, from 0 on")
    parser.add_argument(
        "--detection", type=int, metavar="K", help="with --text: this detection, from 0 on"
    )
    parser.add_argument(
        "--heat-maps", action="store_true", help="what the best detections looked at, with --id"
    )
    parser.add_argument("--text", action="store_true", help="in the terminal; no page")
    parser.add_argument("--out", default="explanation", metavar="DIR", help="default: %(default)s")
    add_partial_argument(parser)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="W | DATA | IMAGE | KEY VALUE",
        help=f"weights, a dataset, images of it; then {OVERRIDES_HELP}",
    )
    parser.set_defaults(rest=[])


def run(args: argparse.Namespace) -> int:
    from lucidet.utils.logger import setup_logger

    words = _take_data(args, take_weights(args, [*args.words, *args.rest]))
    _check(args)
    setup_logger()
    explainer, dataset, classes = load(args, words)
    if args.image_ids:
        return images(args, explainer, dataset, classes)
    return whole_dataset(args, explainer, dataset, classes)


def _take_data(args: argparse.Namespace, words: list[str]) -> list[str]:
    """Take a folder or file with annotations, and images of it, from the words before KEY VALUE."""
    words = list(words)
    while words and not is_config_key(words[0].partition("=")[0]):
        word = words.pop(0)
        if Path(word).suffix.lower() in IMAGE_SUFFIXES:
            args.image_ids.append(word)
        elif args.dataset is None:
            args.dataset = word
        else:
            raise ValueError(
                f"{word!r} is a second dataset beside {args.dataset!r}; explain takes one"
            )
    return words


def _check(args: argparse.Namespace) -> None:
    single = args.object is not None or args.detection is not None
    if single and len(args.image_ids) != 1:
        raise ValueError("--object and --detection need one image: --id N")
    if args.object is not None and args.detection is not None:
        raise ValueError("--object and --detection exclude each other: ask for one at a time")
    if args.max_images is not None and args.max_images < 1:
        raise ValueError(f"--max-images must be at least 1, got {args.max_images}")


def load(args: argparse.Namespace, words: list[str]) -> tuple[Any, str, Sequence[str] | None]:
    """Return the explainer, the dataset's name or specification, and the weights' classes."""
    from lucidet.checkpoint.description import config_of_weights, description_of_weights
    from lucidet.cli.data_option import located
    from lucidet.config import get_cfg
    from lucidet.config.names import find_config
    from lucidet.explain.explainer import Explainer

    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(find_config(args.config_file))
    elif args.weights and args.weights != "none":
        cfg = config_of_weights(args.weights)
    else:
        raise ValueError(
            "name a detector: lucidet explain WEIGHTS, of a training with lucidet, or "
            "--config-file C --weights W"
        )
    cfg.merge_from_list(checked_overrides(words))
    cfg.TEST.ALLOW_PARTIAL_WEIGHTS |= args.allow_partial
    weights = "" if args.weights == "none" else args.weights or cfg.MODEL.WEIGHTS
    dataset = located(args.dataset) if args.dataset else next(iter(cfg.DATASETS.TEST), None)
    if dataset is None:
        raise ValueError(
            "name images with annotations: --dataset NAME, or a folder or file; the config has no "
            "DATASETS.TEST"
        )
    described = description_of_weights(weights) if weights else None
    classes = described.classes if described and not cfg.MODEL.CLASS_MAP else None
    name = _registered(dataset, classes)
    explainer = Explainer(cfg, weights, dataset=name, match_iou=args.iou)
    return explainer, dataset, classes


def _registered(dataset: str, classes: Sequence[str] | None) -> str:
    from lucidet.data.specification import dataset_names, is_specification

    return dataset_names(dataset, classes=classes)[0] if is_specification(dataset) else dataset


def images(
    args: argparse.Namespace, explainer: Any, dataset: str, classes: Sequence[str] | None
) -> int:
    """Explain the images that ``--id`` names."""
    from lucidet.explain.output import PAGE, page_name, write_image
    from lucidet.explain.text import detection_text, image_text, object_text

    records = [_record(dataset, name, classes) for name in args.image_ids]
    for record in records:
        explanation = explainer.explain(record)
        if args.object is not None:
            print(object_text(explanation, args.object))
        elif args.detection is not None:
            print(detection_text(explanation, args.detection))
        else:
            print(image_text(explanation))
        if not args.text:
            name = PAGE if len(records) == 1 else page_name(record)
            path = Path(args.out, name)
            write_image(explainer, record, path, explanation=explanation, heat=args.heat_maps)
            print(path)
    return 0


def _record(dataset: str, name: str, classes: Sequence[str] | None) -> dict[str, Any]:
    """Return the record of an image of the dataset, by its id or its file."""
    from lucidet.data import DatasetCatalog
    from lucidet.data.specification import every_split, is_specification
    from lucidet.inspection.run import find_record

    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        return find_record(dataset=dataset, image_id=name, classes=classes)
    parts = [_registered(dataset, classes)]
    if is_specification(dataset):
        parts += every_split(dataset, classes)
    records = [record for part in parts for record in DatasetCatalog.get(part)]
    # the file itself; else the first of its name
    same = [r for r in records if Path(r["file_name"]).resolve() == Path(name).resolve()]
    same += [r for r in records if Path(r["file_name"]).name == Path(name).name]
    if same:
        return same[0]
    raise ValueError(
        f"dataset {dataset!r} has no image {Path(name).name!r}, so its annotations are not known; "
        "name the dataset that has it with --dataset"
    )


def whole_dataset(
    args: argparse.Namespace, explainer: Any, dataset: str, classes: Sequence[str] | None
) -> int:
    """Explain all images: the funnel, and pages of its examples."""
    from lucidet.cli.progress import progress
    from lucidet.data import DatasetCatalog
    from lucidet.explain.funnel import Funnel
    from lucidet.explain.text import funnel_text

    records = DatasetCatalog.get(_registered(dataset, classes))[: args.max_images]
    if not any("annotations" in record for record in records):
        raise ValueError(
            f"dataset {dataset!r} has no annotations, without which nothing is missed; name "
            "another with --dataset"
        )
    funnel = Funnel(explainer.classes)
    with progress("explain", len(records), "images") as advance:
        for record in records:
            funnel.add(explainer.explain(record, details=False))
            advance(1)
    content = funnel.to_json()
    print(funnel_text(content))
    if not args.text:
        print(_write(args, explainer, records, content, dataset))
    return 0


def _write(
    args: argparse.Namespace,
    explainer: Any,
    records: list[dict[str, Any]],
    content: dict[str, Any],
    dataset: str,
) -> Path:
    """Write the page of the funnel, and those of its examples."""
    from lucidet.explain.output import IMAGES, PAGE, page_name, write_funnel, write_image

    weights = Path(args.weights).name if args.weights else "the config's weights"
    content |= {"title": f"explain: {dataset}", "subtitle": f"{explainer.name}, {weights}"}
    pages: dict[int, str] = {}
    for of_kind in content["examples"].values():
        for example in (one for examples in of_kind.values() for one in examples):
            position = example["position"]
            if position not in pages:
                pages[position] = f"{IMAGES}/{page_name(records[position])}"
            example["page"] = pages[position]
    for position, page in pages.items():
        path = Path(args.out, page)
        write_image(explainer, records[position], path, heat=args.heat_maps, back=f"../{PAGE}")
    path = Path(args.out, PAGE)
    write_funnel(content, path)
    return path
