"""Observation points in the data path.

A component calls ``probe("rpn.assign", image=i, labels=labels)`` with values that already exist.
Nobody watching: one look at a global list. Somebody watching: each watcher is called and copies
what it wants to keep at once, because callers may overwrite those values in place afterwards.
A probe returns nothing, so it can't change the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Watcher = Callable[[str, dict[str, Any]], None]

_watchers: list[Watcher] = []


def probe(name: str, /, **values: Any) -> None:
    """Show `values` under `name` (``component.noun``) to whoever watches; free when nobody does.

    While a graph is being captured (torch.compile, torch.export) nothing is shown: there are no
    values yet.
    """
    if _watchers and not torch.compiler.is_compiling():
        _notify(name, values)


def probe_images(
    name: str, /, num_images: int, values: Callable[[int], dict[str, Any] | None]
) -> None:
    """Show one event for each image of a batch, with its number as `image`.

    `values`, image 0..N-1 -> what to show (None: nothing), is called only while there is a watcher.
    """
    if _watchers and not torch.compiler.is_compiling():
        for image in range(num_images):
            if (shown := values(image)) is not None:
                _notify(name, {"image": image, **shown})


@torch.compiler.disable
def _notify(name: str, values: dict[str, Any]) -> None:
    with torch.no_grad():
        for watcher in tuple(_watchers):
            watcher(name, values)


def is_watched() -> bool:
    """Return whether anybody watches; for callers outside the data path only."""
    return bool(_watchers)


@contextmanager
def watching(watcher: Watcher) -> Iterator[Watcher]:
    """Call `watcher(name, values)` at every probe inside the ``with`` block.

    >>> seen = []
    >>> with watching(lambda name, values: seen.append((name, values["labels"]))):
    ...     probe("rpn.assign", labels=3)
    >>> probe("rpn.assign", labels=4)
    >>> seen
    [('rpn.assign', 3)]
    """
    _watchers.append(watcher)
    try:
        yield watcher
    finally:
        _watchers.remove(watcher)
