"""Watch a detector: what each stage received and produced, as a trace to show and to compare.

>>> import torch
>>> from lucidet.utils.probe import probe
>>> with watch() as trace:
...     probe("roi.levels", levels=torch.tensor([0, 2]))
>>> trace
Trace(1 events: roi.levels)
>>> diff(trace, trace).first is None
True

`show(trace)` is its page, `lucidet.inspection.run.inspect_image` what `lucidet inspect` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lucidet.inspection.diff import diff_traces as diff
from lucidet.inspection.trace import Trace, watch

if TYPE_CHECKING:
    from lucidet.inspection.page.report import Page

__all__ = ["Trace", "diff", "show", "watch"]


def show(trace: Trace, folder: Any = None) -> Page:
    """Return the page of a trace: a notebook displays it as the last line of a cell.

    Args:
        trace: of :func:`watch`, `inspect_image` or `Trace.load`.
        folder: where ``report.html`` is written too (one file, opens offline); default: nowhere.
    """
    # a program that only watches needs no templates, charts and colors
    from lucidet.inspection.page.report import Page, write_report

    return Page(trace, None if folder is None else write_report(trace, folder))


# a trace as the last line of a cell shows its page; trace.py itself knows no page
Trace.draw = lambda trace: show(trace)._repr_html_()
