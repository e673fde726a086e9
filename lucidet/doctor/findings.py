"""What a check returns: findings, with their cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lucidet.doctor.rules import ERROR, NOTE, RULES, WARNING

__all__ = ["Case", "Finding", "Report", "finding", "merged"]

#: cases that a report keeps of one finding; its count is of all
MOST_CASES = 10_000


@dataclass(frozen=True)
class Case:
    """One place where a finding holds.

    Attributes:
        file: image, annotation file or weights.
        split: ``train``, ``val`` or ``test``; "" where it is of none.
        image_id: as in the annotations.
        annotation_id: as in the annotations; a box's number in its image where it has no id.
        boxes: XYXY, pixels of the upright image.
        other: a second image, of a pair of duplicates.
        text: what is special about this case.
    """

    file: str = ""
    split: str = ""
    image_id: Any = None
    annotation_id: Any = None
    boxes: tuple[tuple[float, ...], ...] = ()
    other: str = ""
    text: str = ""

    def line(self) -> str:
        """Return the case in a line: where it is, and what is special about it.

        >>> Case(file="/data/a.jpg", split="train", image_id=7, text="640 x 480").line()
        'train a.jpg (image 7): 640 x 480'
        """
        name = self.file.replace("\\", "/").rpartition("/")[2]
        ids = [f"image {self.image_id}"] if self.image_id is not None else []
        ids += [f"annotation {self.annotation_id}"] if self.annotation_id is not None else []
        where = " ".join(part for part in (self.split, name) if part)
        where += f" ({', '.join(ids)})" if ids else ""
        return ": ".join(part for part in (where, self.text) if part)


@dataclass(frozen=True)
class Finding:
    """One kind of fault, with every case of it.

    Attributes:
        code: a key of `RULES`.
        severity: ``error``, ``warning`` or ``note``.
        message: what was found, a sentence with numbers.
        repair: what to do.
        count: of cases.
        cases: at most `MOST_CASES` of them.
    """

    code: str
    severity: str
    message: str
    repair: str
    count: int
    cases: tuple[Case, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers, texts and numbers."""
        return {**asdict(self), "title": RULES[self.code].title}


def finding(
    code: str,
    message: str,
    cases: Iterable[Case] = (),
    *,
    severity: str = "",
    repair: str = "",
    count: int | None = None,
) -> Finding:
    """Return a finding; severity and repair are the rule's unless given.

    Args:
        code: a key of `RULES`.
        message: may hold ``{n}``, which becomes the count; a sentence that begins with it (behind
            the split's name) has its first words in the plural, which one case turns into the
            singular.
        cases: where it holds.
        severity, repair: instead of the rule's.
        count: default: of the cases, at least 1.
    """
    rule, listed = RULES[code], tuple(cases)
    number = max(1, len(listed)) if count is None else count
    return Finding(
        code=code,
        severity=severity or rule.severity,
        message=_counted(message, number),
        repair=repair or rule.repair,
        count=number,
        cases=listed[:MOST_CASES],
    )


def _counted(message: str, number: int) -> str:
    """Return a message with its count; of one case in the singular.

    >>> _counted("train: {n} boxes are thin", 1), _counted("{n} boxes have no area", 2)
    ('train: 1 box is thin', '2 boxes have no area')
    """
    if number == 1:
        for plural, singular in _SINGULAR.items():
            message = re.sub(rf"({{n}}(?: image)?) {plural}\b", rf"\1 {singular}", message)
        message = re.sub(r"({n}(?: \w+){1,2}?) are\b", r"\1 is", message)
        message = re.sub(r"({n}(?: \w+){1,2}?) have\b", r"\1 has", message)
    return message.replace("{n}", f"{number:,}")


_SINGULAR = {
    "images": "image",
    "image files": "image file",
    "files": "file",
    "ids": "id",
    "boxes": "box",
    "annotations": "annotation",
    "categories": "category",
    "entries": "entry",
    "classes": "class",
    "pairs": "pair",
    "keys": "key",
    "groups": "group",
    "times": "time",
}


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Return one finding for each code and message pattern, errors first.

    Two checks may see the same fault: cases that agree in file, image and annotation are one.
    """
    by_code: dict[tuple[str, str], Finding] = {}
    for one in findings:
        key = (one.code, "" if one.cases else one.message)
        known = by_code.get(key)
        if known is None:
            by_code[key] = one
            continue
        seen = {(c.file, c.image_id, c.annotation_id) for c in known.cases}
        new = tuple(c for c in one.cases if (c.file, c.image_id, c.annotation_id) not in seen)
        if new:
            text = (
                known.message if one.message == known.message else f"{known.message}; {one.message}"
            )
            by_code[key] = replace(
                known,
                severity=min(known.severity, one.severity, key=_ORDER.index),
                message=text,
                count=known.count + one.count - (len(one.cases) - len(new)),
                cases=(known.cases + new)[:MOST_CASES],
            )
    return sorted(by_code.values(), key=lambda f: (_ORDER.index(f.severity), f.code))


_ORDER = (ERROR, WARNING, NOTE)


@dataclass
class Report:
    """What the doctor says.

    Attributes:
        subject: data, config and weights that were looked at.
        facts: (name, value) of what was understood, for people.
        findings: errors first.
        quick: images were not decoded.
    """

    subject: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    quick: bool = False

    @property
    def counts(self) -> Counter[str]:
        """Findings of each severity."""
        return Counter(finding.severity for finding in self.findings)

    @property
    def status(self) -> int:
        """The exit status: 2 with errors, 1 with warnings, else 0."""
        return 2 if self.counts[ERROR] else 1 if self.counts[WARNING] else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers, texts and numbers."""
        return {
            "subject": self.subject,
            "status": self.status,
            "quick": self.quick,
            "counts": {severity: self.counts[severity] for severity in _ORDER},
            "facts": dict(self.facts),
            "findings": [one.as_dict() for one in self.findings],
        }
