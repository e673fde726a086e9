"""What the rules make of a dataset: tables by size and class, for terminal, JSON and page."""

# M ground-truth boxes, K classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidet.coverage.measure import Coverage
from lucidet.coverage.objects import Objects
from lucidet.coverage.proposal import Proposal
from lucidet.utils.logger import create_table

__all__ = ["CoverageReport", "Row", "as_text", "summarize"]

#: names of sizes, and the root of the area that each ends at, pixels of the resized image
SIZES = (("under 8", 8.0), ("8 to 32", 32.0), ("32 to 96", 96.0), ("over 96", np.inf))
CLASSES_SHOWN = 20
OBJECTS_LISTED = 10_000


@dataclass(frozen=True)
class Row:
    """What a group of boxes gets.

    Attributes:
        count: boxes.
        best_iou: mean of the IoU with the best anchor; NaN for locations.
        covered: share, 0..1, with a best IoU of 0.5 or more; NaN for locations.
        without: boxes without a positive.
        low_quality: boxes all of whose positives are low-quality matches.
        positives: mean of a box.
        median: of the positives of a box.
    """

    count: int
    best_iou: float
    covered: float
    without: int
    low_quality: int
    positives: float
    median: float

    def cells(self) -> list[Any]:
        """Return the row of a table."""
        share = 100 / max(1, self.count)
        return [
            self.count,
            _number(self.best_iou, 2),
            _number(100 * self.covered, 1),
            f"{self.without:,} ({self.without * share:.1f} %)",
            f"{self.low_quality:,} ({self.low_quality * share:.1f} %)",
            _number(self.positives, 1),
            _number(self.median, 0),
        ]


HEADERS = (
    "boxes",
    "best IoU",
    "IoU >= 0.5, %",
    "no positive",
    "low-quality only",
    "positives",
    "median",
)


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


@dataclass
class CoverageReport:
    """The answer of ``lucidet coverage``.

    Attributes:
        subject: data and config.
        size: shorter side and bound of the longer one, pixels.
        objects: M boxes.
        results: of each rule.
        proposal: None where the config's rule has no anchors to choose.
        compared: the max-IoU rule before and after the proposal, on a sample.
    """

    subject: str
    size: tuple[int, int]
    objects: Objects
    results: list[Coverage]
    proposal: Proposal | None = None
    compared: tuple[Row, Row] | None = None

    @property
    def own(self) -> Coverage:
        """The result of the config's own rule."""
        return next(result for result in self.results if result.scheme.own)

    def by_size(self) -> list[tuple[str, list[Row]]]:
        """Return for each size a row of each rule."""
        side, groups, low = np.sqrt(self.objects.areas), [], 0.0
        for name, high in SIZES:
            inside = (side >= low) & (side < high)
            groups.append((name, [summarize(result, inside) for result in self.results]))
            low = high
        return groups

    def by_class(self) -> list[tuple[str, list[Row]]]:
        """Return for each class with boxes a row of each rule; least covered first."""
        groups = []
        for k, name in enumerate(self.objects.classes):
            inside = self.objects.category == k
            if inside.any():
                groups.append((name, [summarize(result, inside) for result in self.results]))
        place = self.results.index(self.own)
        return sorted(groups, key=lambda g: -g[1][place].without / g[1][place].count)

    def uncovered(self) -> np.ndarray:
        """Return rows of boxes that have no positive under the config's own rule."""
        return np.flatnonzero(self.own.positives == 0)

    def as_dict(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return plain containers, texts and numbers; boxes in pixels of the resized image."""
        names = [result.scheme.name for result in self.results]

        def rows(group: list[Row]) -> dict[str, Any]:
            return {n: _plain(row) for n, row in zip(names, group, strict=True)}

        every = np.ones(len(self.objects.boxes), bool)
        numbers = _numbers_in_image(self.objects.image)
        return {
            "subject": self.subject,
            "size": list(self.size),
            "rules": {
                r.scheme.name: {"config": r.scheme.source, "own": r.scheme.own}
                for r in self.results
            },
            "all": rows([summarize(result, every) for result in self.results]),
            "by_size": {name: rows(group) for name, group in self.by_size()},
            "by_class": {name: rows(group) for name, group in self.by_class()},
            "without_positive": [
                {
                    "image_id": records[self.objects.records[self.objects.image[row]]]["image_id"],
                    "number": int(numbers[row]),
                    "class": self.objects.classes[self.objects.category[row]],
                    "box": [round(float(v), 1) for v in self.objects.boxes[row]],
                }
                for row in self.uncovered()[:OBJECTS_LISTED].tolist()
            ],
            "proposal": self._proposal(),
        }

    def _proposal(self) -> dict[str, Any] | None:
        if self.proposal is None:
            return None
        found = self.proposal
        return {
            "sizes": found.sizes,
            "ratios": found.ratios,
            "changed": found.changed,
            "shape_covered": list(found.covered),
            "compared": [_plain(row) for row in self.compared or ()],
        }


def _plain(row: Row) -> dict[str, Any]:
    return {k: None if v != v else v for k, v in row.__dict__.items()}


def _numbers_in_image(image: np.ndarray) -> np.ndarray:
    first = np.searchsorted(image, image)
    return np.arange(len(image)) - first


def summarize(result: Coverage, rows: np.ndarray) -> Row:
    """Return what the chosen boxes (M,) bool get under a rule."""
    positives, low = result.positives[rows], result.low_quality[rows]
    best = result.best_iou[rows]
    shapes, some = result.scheme.shapes, len(positives) > 0
    return Row(
        count=len(positives),
        best_iou=float(best.mean()) if shapes and some else float("nan"),
        covered=float((best >= 0.5).mean()) if shapes and some else float("nan"),
        without=int((positives == 0).sum()),
        low_quality=int(((low == positives) & (low > 0)).sum()),
        positives=float(positives.mean()) if some else float("nan"),
        median=float(np.median(positives)) if some else float("nan"),
    )


def as_text(report: CoverageReport) -> str:
    """Return the report for the terminal."""
    every = np.ones(len(report.objects.boxes), bool)
    images = len(report.objects.sizes)
    rules = [_rule(result) for result in report.results]
    lines = [
        f"{report.subject}",
        f"  {len(every):,} boxes in {images:,} images, resized to {report.size[0]} x "
        f"{report.size[1]}",
        "",
        create_table(
            ["rule", *HEADERS],
            [[n, *summarize(r, every).cells()] for n, r in zip(rules, report.results, strict=True)],
        ),
        "",
        _groups("size, pixels", report.by_size(), report.results),
        "",
        _groups("class", report.by_class()[:CLASSES_SHOWN], report.results),
    ]
    more = len(report.by_class()) - CLASSES_SHOWN
    lines += [f"and {more} classes more"] if more > 0 else []
    return "\n".join([*lines, "", *proposal_lines(report)])


def _rule(result: Coverage) -> str:
    own = "the config's" if result.scheme.own else result.scheme.source
    return f"{result.scheme.name} ({own})"


def _groups(title: str, groups: list[tuple[str, list[Row]]], results: list[Coverage]) -> str:
    """Return a table: of each rule the share without a positive, and the positives of a box."""
    headers = [title, "boxes"]
    headers += [
        f"{r.scheme.name}: {what}" for r in results for what in ("no positive, %", "positives")
    ]
    rows = [
        [
            name,
            rows[0].count,
            *(
                text
                for row in rows
                for text in (
                    _number(100 * row.without / row.count if row.count else np.nan, 1),
                    _number(row.positives, 1),
                )
            ),
        ]
        for name, rows in groups
    ]
    return create_table(headers, rows)


def proposal_lines(report: CoverageReport) -> list[str]:
    """Return what is proposed and what it would change."""
    found = report.proposal
    if found is None:
        name = report.own.scheme.name
        return [f"{name} has no anchor sizes and ratios to choose: nothing is proposed"]
    before, after = (f"{share:.1%}" for share in found.covered)
    if not found.changed:
        return [f"the config's anchors fit: {before} of the boxes reach IoU 0.5 with their shape"]
    lines = [
        f"proposed anchors: {after} of the boxes reach IoU 0.5 with their best shape, {before} now",
        found.yaml().rstrip(),
    ]
    if report.compared is not None:
        old, new = report.compared
        lines += [
            f"on {old.count:,} boxes: without a positive {old.without:,} -> {new.without:,}, "
            f"low-quality only {old.low_quality:,} -> {new.low_quality:,}, positives "
            f"{old.positives:.1f} -> {new.positives:.1f}, best IoU {old.best_iou:.2f} -> "
            f"{new.best_iou:.2f}",
            "weights of a trained head expect the anchors that they were trained with",
        ]
    return lines
