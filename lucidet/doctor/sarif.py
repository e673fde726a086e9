"""A report in SARIF 2.1.0 (OASIS), which code hosts and editors show beside the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lucidet import __version__
from lucidet.doctor.findings import Case, Finding, Report
from lucidet.doctor.rules import RULES

__all__ = ["as_sarif"]

#: results of one finding; more are counted in the first one's message
MOST_RESULTS = 100
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(report: Report) -> dict[str, Any]:
    """Return a report as a SARIF log: a rule for each code, a result for each case."""
    codes = sorted({one.code for one in report.findings})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "lucidet doctor",
                        "version": __version__,
                        "rules": [_rule(code) for code in codes],
                    }
                },
                "results": [
                    result
                    for one in report.findings
                    for result in _results(one, codes.index(one.code))
                ],
            }
        ],
    }


def _rule(code: str) -> dict[str, Any]:
    rule = RULES[code]
    return {
        "id": code,
        "shortDescription": {"text": rule.title},
        "help": {"text": rule.repair},
        "defaultConfiguration": {"level": rule.severity},
    }


def _results(one: Finding, index: int) -> list[dict[str, Any]]:
    base = {"ruleId": one.code, "ruleIndex": index, "level": one.severity}
    text = f"{one.message}. Repair: {one.repair}"
    if not one.cases:
        return [{**base, "message": {"text": text}}]
    results = []
    for number, case in enumerate(one.cases[:MOST_RESULTS]):
        own = f"{case.line()}. {text}" if number == 0 else case.line()
        result = {**base, "message": {"text": own or text}}
        if case.file:
            result["locations"] = [_location(case)]
        results.append(result)
    return results


def _location(case: Case) -> dict[str, Any]:
    path = Path(case.file)
    uri = case.file if "://" in case.file or not path.is_absolute() else path.as_uri()
    found: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}}}
    if case.image_id is not None:
        name = f"image {case.image_id}"
        if case.annotation_id is not None:
            name += f", annotation {case.annotation_id}"
        found["logicalLocations"] = [{"name": name}]
    return found
