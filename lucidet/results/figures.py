"""The figures of the results page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lucidet.analysis.judged import Judged
from lucidet.analysis.most_confused import most_confused
from lucidet.results.measured import Series

__all__ = ["confusion_figure", "metric_figure", "precision_recall_figure"]

#: more classes than this have one mean curve instead of one each
_CLASSES_DRAWN = 12


@contextmanager
def _axes(width: float = 6.0, height: float = 4.0) -> Iterator[tuple[Figure, Axes]]:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    yield figure, figure.add_subplot()


def metric_figure(title: str, series: Mapping[str, Series]) -> Figure:
    """Return curves over iterations, one line a measurement; a log axis for the losses."""
    with _axes() as (figure, axes):
        for name, (iterations, values) in series.items():
            marker = "o" if len(values) < 30 else ""
            axes.plot(iterations, values, label=name, marker=marker, markersize=3, linewidth=1.2)
        lowest = min(value for own in series.values() for value in own.values)
        if title == "Losses" and lowest > 0:
            axes.set_yscale("log")
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def precision_recall_figure(judged: Judged) -> Figure:
    """Return precision over recall at IoU 0.5: each class, or the mean of many."""
    precision = judged.curves.precision[0, :, :, 0, -1]  # (R, K)
    recall = np.linspace(0.0, 1.0, len(precision))
    known = [k for k in range(len(judged.classes)) if (precision[:, k] > -1).all()]
    with _axes() as (figure, axes):
        if len(known) <= _CLASSES_DRAWN:
            for k in known:
                label = f"{judged.classes[k]} (AP50 {judged.curves.ap(iou=0.5, category=k):.1f})"
                axes.plot(recall, precision[:, k], label=label, linewidth=1.2)
        if known:
            label = f"mean of {len(known)} classes (AP50 {judged.curves.ap(iou=0.5):.1f})"
            axes.plot(recall, precision[:, known].mean(axis=1), "k", label=label, linewidth=2)
            axes.legend(fontsize=8, loc="lower left")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title("Precision and recall at IoU 0.5")
        axes.grid(alpha=0.3)
    return figure


def confusion_figure(judged: Judged) -> Figure:
    """Return the confusion matrix: each row adds up to 1, its counts are written in the cells."""
    shown = most_confused(judged.confusion)
    counts = judged.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(judged.confusion[shown].sum(axis=1, keepdims=True), 1)
    names = [*judged.classes, "background"]
    labels = [names[k] for k in shown]
    side = max(4.0, 0.42 * len(shown) + 2.2)
    with _axes(side + 1.0, side) as (figure, axes):
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
        axes.set_xticks(range(len(shown)), labels, rotation=90 if len(shown) > 6 else 30)
        axes.set_yticks(range(len(shown)), labels)
        for row, column in zip(*counts.nonzero(), strict=True):
            color = "white" if shares[row, column] > 0.6 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
        axes.set(xlabel="detected as", ylabel="ground truth")
        axes.set_title(f"Confusion at IoU 0.5, score at least {judged.threshold:.2f}")
    return figure
