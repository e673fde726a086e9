"""``lucidet inspect diff A B``: two traces, weights, configs or files of detections compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucidet.cli.arguments import checked_overrides

if TYPE_CHECKING:
    from lucidet.explain.compare import ImageChange
    from lucidet.explain.compare_sides import Side
    from lucidet.inspection.trace import Trace

PAGE = "diff.html"


def add_diff_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``diff`` alone has."""
    group = parser.add_argument_group("diff")
    group.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="X",
        help="of two traces: differences up to X count as none",
    )
    group.add_argument(
        "--score",
        type=float,
        default=0.5,
        metavar="X",
        help="detections from this score on are compared; default: %(default)s",
    )


def run_diff(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what differs and write ``diff.html``; return 1 where something does.

    Raises:
        ValueError: not two words, or what they name cannot be compared.
    """
    from lucidet.explain.compare_sides import is_trace

    sides, overrides = list(words[:2]), checked_overrides(words[2:])
    if len(sides) != 2:
        raise ValueError(
            f"lucidet inspect diff takes two traces, got {len(words)}: A B; or two weights, "
            "configs or files of detections"
        )
    if all(is_trace(word) for word in sides):
        return _diff_traces(args, sides)
    return _diff_detections(args, sides, overrides)


def _diff_traces(args: argparse.Namespace, words: list[str]) -> int:
    from lucidet.explain.compare_sides import trace_detections
    from lucidet.inspection.diff import describe, diff_traces
    from lucidet.inspection.trace import Trace

    first, second = (Trace.load(word) for word in words)
    result = diff_traces(first, second, args.tolerance)
    text = describe(result)
    print(text)
    found = [trace_detections(trace) for trace in (first, second)]
    images = [_traced_image(first, found)] if all(f is not None for f in found) else []
    if not args.text:
        notes = [("The first stage that differs", text)]
        _write(args, images, words, lambda _: _traced_picture(first), notes)
    return 1 if result.differences else 0


def _traced_image(trace: Trace, found: list[Any]) -> ImageChange:
    from lucidet.explain.annotations import truth_of_record
    from lucidet.explain.compare import compare_image

    record = trace["input.read"]["record"] if "input.read" in trace else {}
    known = bool(record.get("annotations"))
    return compare_image(
        *found,
        file_name=trace.context.get("file_name", ""),
        image_id=trace.context.get("image_id"),
        size=_traced_size(trace),
        truth=truth_of_record(record) if known else None,
        classes=trace.context.get("classes") or [],
    )


def _traced_size(trace: Trace) -> tuple[int, int]:
    from lucidet.inspection.page.page_data import PageData

    return PageData(trace).original()[1]


def _traced_picture(trace: Trace) -> Any:
    from lucidet.inspection.page.page_data import PageData

    page = PageData(trace)
    return page.array(page.original()[0])


def _diff_detections(args: argparse.Namespace, words: list[str], overrides: list[str]) -> int:
    from lucidet.explain.compare import counts
    from lucidet.explain.compare_sides import config_difference, find_side

    records, classes, dataset = _records(args, words)
    options = {"weights": args.weights, "overrides": overrides, "dataset": dataset}
    first, second = (find_side(word, partial=args.allow_partial, **options) for word in words)
    images = _compared(records, first, second, classes)
    found = counts(images, args.score)
    print(_summary(images, found, args.score))
    if not args.text:
        notes = []
        if first.cfg is not None and second.cfg is not None:
            difference = config_difference(first.cfg, second.cfg)
            notes = [("The configs differ", difference)] if difference else []
        _write(args, images, words, lambda image: _picture(image.file_name), notes)
    return 1 if sum(found.values()) > found["unchanged"] else 0


def _records(
    args: argparse.Namespace, words: list[str]
) -> tuple[list[dict[str, Any]], list[str], str | None]:
    """Return the records that are looked at, names of the classes, and the dataset's name."""
    from lucidet.cli.arguments import is_weights
    from lucidet.cli.data_option import located
    from lucidet.data import DatasetCatalog, MetadataCatalog
    from lucidet.data.specification import dataset_names, is_specification
    from lucidet.inspection.run import find_record

    if args.image is not None:
        return [find_record(image=args.image)], [], None
    name = args.dataset
    if name is None:
        name = _dataset_of([args.weights, *words] if args.weights else words, is_weights)
    name = located(name)
    registered = dataset_names(name)[0] if is_specification(name) else name
    records = DatasetCatalog.get(registered)
    if args.image_id is not None:
        records = [find_record(dataset=name, image_id=args.image_id)]
    return records, list(MetadataCatalog.get(registered).get("thing_classes", []) or []), registered


def _dataset_of(words: list[str], is_weights: Any) -> str:
    """Return the dataset that weights were evaluated on."""
    from lucidet.checkpoint.description import config_of_weights

    for word in words:
        if is_weights(word):
            for name in config_of_weights(word).DATASETS.TEST:
                return name
    raise ValueError("name the images to compare on: --image FILE or --dataset NAME [--id N]")


def _compared(
    records: list[dict[str, Any]], first: Side, second: Side, classes: list[str]
) -> list[ImageChange]:
    from lucidet.cli.progress import progress
    from lucidet.data.detection_utils import read_image
    from lucidet.explain.annotations import truth_of_record
    from lucidet.explain.compare import compare_image

    images = []
    with progress("compare", len(records), "images") as advance:
        for record in records:
            height, width = record.get("height"), record.get("width")
            if height is None or width is None:
                height, width = read_image(record["file_name"], format="BGR").shape[:2]
            image = compare_image(
                first.detect(record),
                second.detect(record),
                file_name=str(record["file_name"]),
                image_id=record.get("image_id"),
                size=(width, height),
                truth=truth_of_record(record) if "annotations" in record else None,
                classes=classes,
            )
            images.append(image)
            advance(1)
    return images


def _picture(file_name: str) -> Any:
    from lucidet.data.detection_utils import read_image

    return read_image(file_name, format="RGB")


def _summary(images: list[ImageChange], found: dict[str, int], score: float) -> str:
    from lucidet.explain.compare import CHANGES, change_of, counts

    known = any(image.known for image in images)
    lines = [f"{len(images)} images, detections with a score of at least {score:g}"]
    for change in CHANGES:
        right = sum(
            bool(row.right[0 if change == "lost" else 1])
            for image in images
            for row in image.rows
            if change_of(row, score) == change
        )
        lines.append(f"  {change:10}{found[change]:6}" + (f", {right} right" if known else ""))
    changed = [(counts([image], score), image) for image in images]
    changed.sort(key=lambda item: item[0]["unchanged"] - sum(item[0].values()))
    for numbers, image in changed[:8] if len(images) > 1 else []:
        numbers.pop("unchanged")
        if sum(numbers.values()):
            text = ", ".join(f"{n} {change}" for change, n in numbers.items() if n)
            lines.append(f"  {Path(image.file_name).name}: {text}")
    return "\n".join(lines)


def _write(
    args: argparse.Namespace,
    images: list[ImageChange],
    words: list[str],
    picture: Any,
    notes: list[tuple[str, str]],
) -> None:
    from lucidet.explain.page.compare_page import compare_page

    path = Path(args.out) / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    titles = _titles(words)
    html = compare_page(images, titles, picture, threshold=args.score, notes=notes)
    path.write_text(html, encoding="utf-8")
    print(path)


def _titles(words: list[str]) -> tuple[str, str]:
    """Return short names of the two sides that differ where the words do.

    >>> _titles(["a/model.pth", "b/model.pth"]), _titles(["x/a.pth", "x/b.pth"])
    (('a/model.pth', 'b/model.pth'), ('a.pth', 'b.pth'))
    """
    names = [Path(word).name or word for word in words]
    if names[0] == names[1]:
        names = ["/".join(Path(word).parts[-2:]) for word in words]
    return names[0], names[1]
