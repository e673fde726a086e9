"""A trace: what every probe of a run showed, copied at once, to look at, save and compare.

>>> import torch
>>> from lucidet.utils.probe import probe
>>> with watch() as trace:
...     probe("roi.levels", levels=torch.tensor([0, 2]))
>>> trace["roi.levels"]["levels"]
tensor([0, 2])
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lucidet._regular_file import check_regular, read_regular
from lucidet.inspection.event import LARGEST_TENSOR, Event, Thinned, snapshot
from lucidet.utils.probe import watching

__all__ = ["Reached", "Trace", "load_trace", "save_trace", "trace_files", "watch"]

FORMAT = "lucidet-trace"
VERSION = 1


class Reached(BaseException):
    """Ends a watched run at the stage asked for; not an error, so that nothing else catches it."""


@dataclass
class Trace:
    """Events in the order in which they happened, and what is known about the run.

    Attributes:
        events: one a probe call.
        context: plain data on the run: config, classes, limits; empty for ``watch()`` alone.
    """

    events: list[Event] = field(default_factory=list)
    context: dict[str, Any] = field(default_factory=dict)

    #: what a notebook shows for a trace; `lucidet.inspection` sets it, as a trace knows no page
    draw: ClassVar[Callable[[Trace], str] | None] = None

    def __getitem__(self, name: str) -> Event:
        """Return the last event called `name`; see :meth:`all` for every one."""
        found = self.all(name)
        if not found:
            seen = ", ".join(dict.fromkeys(event.name for event in self.events)) or "nothing"
            raise KeyError(f"no event {name!r} in this trace; it has {seen}")
        return found[-1]

    def __contains__(self, name: object) -> bool:
        return any(event.name == name for event in self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def all(self, pattern: str) -> list[Event]:
        """Return the events whose name matches `pattern`: ``rpn.assign``, ``rpn.*``."""
        return [e for e in self.events if fnmatch.fnmatchcase(e.name, pattern)]

    def add(self, name: str, values: dict[str, Any], largest: int = LARGEST_TENSOR) -> Event:
        """Append an event with copies of `values`; `largest`: see `snapshot`."""
        event = Event(name, {key: snapshot(value, largest) for key, value in values.items()})
        self.events.append(event)
        return event

    def save(self, path: Any) -> None:
        """Write ``PATH.safetensors`` (tensors) and ``PATH.json`` (all else)."""
        save_trace(self, path)

    @staticmethod
    def load(path: Any) -> Trace:
        """Return the trace that :meth:`save` wrote; nothing in the files is run."""
        return load_trace(path)

    def _repr_html_(self) -> str | None:
        """Return the page of this trace, for notebooks; see `lucidet.inspection.show`."""
        return None if Trace.draw is None else Trace.draw(self)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for event in self.events:
            counts[event.name] = counts.get(event.name, 0) + 1
        names = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in counts.items())
        return f"Trace({len(self.events)} events: {names})"


@contextlib.contextmanager
def watch(
    trace: Trace | None = None,
    *,
    until: str | None = None,
    only: Collection[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    largest: int = LARGEST_TENSOR,
) -> Iterator[Trace]:
    """Record every probe inside the ``with`` block.

    Args:
        trace: to append to; default: a new one.
        until: a name or pattern such as ``rpn.assign``: the block ends there, as if done.
        only: names of the probes that are recorded; default: all.
        on_event: called with each event when it has been recorded.
        largest: bytes of one tensor that are kept; of a larger one its first rows.
    """
    trace = trace if trace is not None else Trace()
    reached = Reached()

    def watcher(name: str, values: dict[str, Any]) -> None:
        if only is not None and name not in only:
            return
        event = trace.add(name, values, largest)
        if on_event is not None:
            on_event(event)
        if until is not None and fnmatch.fnmatchcase(name, until):
            raise reached

    with watching(watcher):
        try:
            yield trace
        except Reached as signal:
            if signal is not reached:
                raise


def trace_files(path: Any) -> tuple[Path, Path]:
    """Return the safetensors and the JSON file of a trace called `path`.

    A folder means the files called ``trace`` in it; a suffix of either file is taken off.

    >>> [file.name for file in trace_files("run/a.json")]
    ['a.safetensors', 'a.json']
    """
    path = Path(path)
    if path.is_dir():
        path = path / "trace"
    if path.suffix in (".json", ".safetensors"):
        path = path.with_suffix("")
    return path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")


def save_trace(trace: Trace, path: Any) -> None:
    """Write ``PATH.safetensors`` and ``PATH.json``."""
    tensors: dict[str, Tensor] = {}

    def encode(value: Any, key: str) -> Any:
        if isinstance(value, Tensor):
            tensors[key] = value.contiguous()
            return {"$tensor": key}
        if isinstance(value, Thinned):
            rows = encode(value.rows, key)
            return {"$thinned": rows, "shape": list(value.shape), "stats": value.stats}
        if isinstance(value, dict):
            return {"$dict": {k: encode(v, f"{key}.{k}") for k, v in value.items()}}
        if isinstance(value, list):
            return [encode(item, f"{key}.{i}") for i, item in enumerate(value)]
        return value

    events = [
        {
            "name": event.name,
            "values": {k: encode(v, f"{i}.{event.name}.{k}") for k, v in event.values.items()},
        }
        for i, event in enumerate(trace.events)
    ]
    tensor_file, json_file = trace_files(path)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(tensor_file))
    content = {"format": FORMAT, "version": VERSION, "context": trace.context, "events": events}
    json_file.write_text(json.dumps(content, indent=1))


def load_trace(path: Any) -> Trace:
    """Return a saved trace.

    Args:
        path: either file, their common name without suffix, or the folder of ``trace.json``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the JSON is none of a trace.
    """
    tensor_file, json_file = trace_files(path)
    for file in (tensor_file, json_file):
        if not file.exists():
            raise FileNotFoundError(
                f"no trace at {path}: {file} is missing; `lucidet inspect ... --out DIR` writes "
                "trace.safetensors and trace.json into DIR"
            )
    content = _read_content(json_file)
    tensors = _read_tensors(tensor_file)

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$tensor" in value:
            if value["$tensor"] not in tensors:
                raise ValueError(f"{tensor_file} lacks the tensor {value['$tensor']!r}")
            return tensors[value["$tensor"]]
        if "$thinned" in value:
            rows, shape = decode(value["$thinned"]), [int(n) for n in value["shape"]]
            if not isinstance(rows, Tensor):
                raise TypeError("the rows of a thinned tensor are no tensor")
            return Thinned(rows, tuple(shape), dict(value["stats"]))
        return {k: decode(v) for k, v in value["$dict"].items()}

    try:
        events = [
            Event(_text(event["name"]), {k: decode(v) for k, v in event["values"].items()})
            for event in content["events"]
        ]
        return Trace(events, dict(content["context"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{json_file} is no trace as `lucidet inspect` writes it ({type(error).__name__}: "
            f"{str(error)[:80]}); write it again"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the name of an event is a {type(value).__name__}")
    return value


def _read_tensors(tensor_file: Path) -> dict[str, Tensor]:
    check_regular(tensor_file, "weights")
    try:
        return load_file(str(tensor_file))
    except (SafetensorError, OverflowError, ValueError) as error:
        raise ValueError(f"{tensor_file} is damaged ({error}); write the trace again") from error


def _read_content(json_file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(json_file, "text").decode())
    except (ValueError, RecursionError) as error:  # also: no text, a number of 5000 digits
        raise ValueError(f"{json_file} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'{json_file} is no trace: it lacks "format": "{FORMAT}"')
    if content.get("version") != VERSION:
        raise ValueError(
            f"{json_file} has version {str(content.get('version'))[:40]}, expected {VERSION}; "
            "write it again"
        )
    return content
