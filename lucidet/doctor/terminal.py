"""A report as text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lucidet.doctor.findings import Finding, Report
from lucidet.doctor.rules import ERROR, NOTE, RULES, WARNING
from lucidet.utils.logger import create_table

__all__ = ["as_text", "findings_text"]

EXAMPLES = 3
WIDTH = 100


def as_text(report: Report) -> str:
    """Return facts, findings with examples and repair, and a line that counts them."""
    lines = [report.subject] if report.subject else []
    width = max((len(name) for name, _ in report.facts), default=0)
    lines += [f"  {name:<{width}}  {text}" for name, text in report.facts]
    if report.findings:
        rows = [[f.severity, f.code, f.count, RULES[f.code].title] for f in report.findings]
        table = create_table(["severity", "code", "count", "what"], rows)
        lines += ["", table, "", findings_text(report.findings)]
    return "\n".join([*lines, "", verdict(report)])


def findings_text(findings: Sequence[Finding]) -> str:
    """Return each finding: severity, code, message, examples, repair."""
    blocks = []
    for one in findings:
        head = f"{one.severity:<7}  {one.code}: {RULES[one.code].title} ({one.count:,})"
        body = [_wrapped(line, "  ") for line in one.message.splitlines() or [""]]
        body += [_wrapped(f"- {case.line()}", "    ") for case in one.cases[:EXAMPLES]]
        if len(one.cases) > EXAMPLES:
            body.append(f"    - and {one.count - EXAMPLES:,} more")
        body.append(_wrapped(f"repair: {one.repair}", "  "))
        blocks.append("\n".join([head, *body]))
    return "\n".join(blocks)


def verdict(report: Report) -> str:
    """Return a line that counts the findings."""
    counts = report.counts
    if not report.findings:
        return "no findings"
    parts = [f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in (ERROR, WARNING, NOTE)]
    return ", ".join(parts)


def _wrapped(text: str, indent: str) -> str:
    if text.lstrip().startswith("|"):  # a table
        return indent + text
    more = indent + "  "
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=more,
        break_long_words=False,
        break_on_hyphens=False,
    )
