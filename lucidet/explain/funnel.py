"""Over a dataset: at which stage ground-truth boxes are lost, and what mending it would bring."""

# D detections, M ground-truth boxes of the dataset, K classes

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucidet.explain.kinds import FATES, IGNORED, LOST, VERDICTS
from lucidet.explain.mending import MatchedDataset
from lucidet.explain.record import DetectionRecord, Explanation, ObjectRecord

__all__ = ["CROWDING", "Funnel"]

FORMAT = "lucidet-funnel"
VERSION = 1

#: highest IoU with another ground-truth box, from which on a box is called so
CROWDING = {"alone": 0.0, "touching": 0.1, "crowded": 0.4}
#: examples that are kept for each fate and verdict
EXAMPLES = 8

_FATE = {name: i for i, name in enumerate(FATES)}
_VERDICT = {name: i for i, name in enumerate(VERDICTS)}


@dataclass
class Funnel:
    """Counts over the images that were added.

    >>> Funnel(["cat"]).to_json()["objects"]
    0
    """

    classes: list[str]
    images: int = 0
    _fates: list[int] = field(default_factory=list)
    _labels: list[int] = field(default_factory=list)
    _sizes: list[str] = field(default_factory=list)
    _crowding: list[str] = field(default_factory=list)
    _detections: list[np.ndarray] = field(default_factory=list)
    _examples: dict[str, dict[str, list[dict[str, Any]]]] = field(
        default_factory=lambda: {"objects": {}, "detections": {}}
    )

    def add(self, explanation: Explanation) -> None:
        """Count one image."""
        for found in explanation.objects:
            self._fates.append(_FATE[found.fate])
            self._labels.append(found.label)
            self._sizes.append(found.size)
            self._crowding.append(crowding_of(found.crowding))
            if found.fate in LOST:
                self._keep_example("objects", found.fate, explanation, found)
        rows = np.zeros((len(explanation.detections), 3))
        for i, own in enumerate(explanation.detections):
            rows[i] = own.score, own.label, _VERDICT[own.verdict]
            if own.verdict not in ("true_positive", "ignored"):
                self._keep_example("detections", own.verdict, explanation, own)
        self._detections.append(rows)
        self.images += 1

    def _keep_example(
        self,
        what: str,
        kind: str,
        explanation: Explanation,
        own: ObjectRecord | DetectionRecord,
    ) -> None:
        """Keep the first of an image, as long as there is room."""
        kept = self._examples[what].setdefault(kind, [])
        if len(kept) < EXAMPLES and (not kept or kept[-1]["position"] != self.images):
            image = explanation.image
            names = {"image_id": image["image_id"], "file_name": image["file_name"]}
            place = {"position": self.images, "index": own.index, "box": own.box}
            kept.append({**place, **names, "text": own.text})

    @property
    def objects(self) -> int:
        """Ground-truth boxes that count."""
        return sum(fate != _FATE[IGNORED] for fate in self._fates)

    def matched(self) -> MatchedDataset:
        """Return detections and boxes in arrays, for the AP."""
        rows = np.concatenate(self._detections) if self._detections else np.zeros((0, 3))
        verdict = rows[:, 2].astype(np.int64)
        fates, labels = np.array(self._fates, np.int64), np.array(self._labels, np.int64)
        counted = fates != _FATE[IGNORED]
        most = int(max(rows[:, 1].max(initial=0), labels.max(initial=0))) + 1
        return MatchedDataset(
            scores=rows[:, 0],
            labels=rows[:, 1].astype(np.int64),
            correct=verdict == _VERDICT["true_positive"],
            ignored=verdict == _VERDICT["ignored"],
            verdict=verdict,
            truth_labels=labels[counted],
            fate=fates[counted],
            num_classes=max(most, len(self.classes)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data.

        ``objects`` (that count), ``ignored``, ``fates`` (of those that count; they sum to
        ``objects``), ``by`` size, class and crowding the same, ``verdicts``, ``ap50`` in percent,
        ``mend``: for each fate the AP50 if its boxes were detected, scoring above all others, and
        ``without``: for each verdict the AP50 if these detections were not there; ``examples`` of
        ``objects`` by fate and of ``detections`` by verdict: position among the images, index,
        box, image_id, file_name, text.
        """
        names = list(FATES)
        counts = Counter(names[fate] for fate in self._fates)
        ignored = counts.pop(IGNORED, 0)
        matched = self.matched()
        wrong = [v for v in VERDICTS if v not in ("true_positive", "ignored")]
        present = [fate for fate in LOST if counts[fate]]
        mended = matched.ap_with_fate_mended([_FATE[fate] for fate in present])
        verdicts = np.bincount(matched.verdict, minlength=len(VERDICTS))
        shown = np.flatnonzero(verdicts)
        return {
            "format": FORMAT,
            "version": VERSION,
            "images": self.images,
            "objects": self.objects,
            "ignored": ignored,
            "fates": {fate: counts[fate] for fate in FATES if counts[fate]},
            "by": {
                "size": self._groups(self._sizes, ("small", "medium", "large")),
                "class": self._groups(self._class_names(), self.classes),
                "crowding": self._groups(self._crowding, tuple(CROWDING)),
            },
            "verdicts": {list(VERDICTS)[v]: int(verdicts[v]) for v in shown},
            "ap50": _percent(matched.ap()),
            "mend": {f: _percent(ap) for f, ap in zip(present, mended, strict=True)},
            "without": {
                v: _percent(matched.ap_without_verdict(_VERDICT[v]))
                for v in wrong
                if verdicts[_VERDICT[v]]
            },
            "examples": self._examples,
        }

    def _class_names(self) -> list[str]:
        known = len(self.classes)
        return [self.classes[k] if k < known else f"class {k}" for k in self._labels]

    def _groups(self, values: list[str], order: Any) -> dict[str, dict[str, int]]:
        """Return for each value the counts of fates; the values in `order`, others after them."""
        names = list(FATES)
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for value, fate in zip(values, self._fates, strict=True):
            if names[fate] != IGNORED:
                found[value][names[fate]] += 1
        keys = [key for key in order if key in found] + [k for k in found if k not in order]
        return {key: {f: found[key][f] for f in FATES if found[key][f]} for key in keys}


def crowding_of(iou: float) -> str:
    """Return what a box is called by its highest IoU with another.

    >>> crowding_of(0.0), crowding_of(0.5)
    ('alone', 'crowded')
    """
    return next(name for name, low in reversed(CROWDING.items()) if iou >= low)


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * value, 2)
