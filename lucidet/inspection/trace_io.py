"""Traces on disk: tensors as safetensors, all else as JSON; loading runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from lucidet.inspection.trace import Event, Thinned, Trace

FORMAT = "lucidet-trace"
VERSION = 1


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
        if not file.is_file():
            raise FileNotFoundError(
                f"no trace at {path}: {file} is missing; `lucidet inspect ... --out DIR` writes "
                "trace.safetensors and trace.json into DIR"
            )
    content = _read_content(json_file)
    tensors = load_file(str(tensor_file))

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
            return Thinned(decode(value["$thinned"]), tuple(value["shape"]), value["stats"])
        return {k: decode(v) for k, v in value["$dict"].items()}

    events = [
        Event(event["name"], {k: decode(v) for k, v in event["values"].items()})
        for event in content["events"]
    ]
    return Trace(events, content["context"])


def _read_content(json_file: Path) -> dict[str, Any]:
    try:
        content = json.loads(json_file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{json_file} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'{json_file} is no trace: it lacks "format": "{FORMAT}"')
    if content["version"] != VERSION:
        raise ValueError(
            f"{json_file} has version {content['version']}, expected {VERSION}; write it anew"
        )
    return content
