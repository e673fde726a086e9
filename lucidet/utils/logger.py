"""Loggers for console and files, rate-limited messages and plain-text tables."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

__all__ = [
    "setup_logger",
    "create_small_table",
    "create_table",
    "log_first_n",
    "log_every_n",
    "log_every_n_seconds",
]

_DATE_FORMAT = "%m/%d %H:%M:%S"
_COLOURS = {
    logging.WARNING: "\033[33m",
    logging.ERROR: "\033[1;31m",
    logging.CRITICAL: "\033[1;31m",
}
_GREEN, _RESET = "\033[32m", "\033[0m"


class _Formatter(logging.Formatter):
    """Time, logger's name with its first part shortened, message; level where it is a warning."""

    def __init__(self, name: str, abbrev_name: str, color: bool) -> None:
        super().__init__(datefmt=_DATE_FORMAT)
        self._name = name
        self._abbrev = abbrev_name
        self._color = color

    def _short(self, name: str) -> str:
        inside = name == self._name or name.startswith(self._name + ".")
        if not inside:
            return name
        return (self._abbrev + name[len(self._name) :]).lstrip(".")

    def formatMessage(self, record: logging.LogRecord) -> str:
        head = f"[{self.formatTime(record, _DATE_FORMAT)} {self._short(record.name)}]:"
        level = "" if record.levelno < logging.WARNING else f"{record.levelname}: "
        if self._color and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            head = f"{_GREEN}{head}{_RESET}"
            if level:
                level = f"{_COLOURS[record.levelno]}{level}{_RESET}"
        return f"{head} {level}{record.message}"


class _StdoutHandler(logging.StreamHandler):
    """Writes to what ``sys.stdout`` is *now*: a live progress bar replaces it for a while."""

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.INFO)  # details of a run are for the log file

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout


def _log_file(output: str | os.PathLike[str], rank: int) -> Path:
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    return path.with_name(f"{path.name}.rank{rank}") if rank > 0 else path


def setup_logger(
    output: str | os.PathLike[str] | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "lucidet",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Let the logger `name` write to the console (rank 0) and to a file.

    Calling it again adds only what is not there yet, so no line is written twice.

    Args:
        output: a folder (the file is ``log.txt`` in it) or a file ending in .txt or .log;
            None for no file. Ranks above 0 write to ``....rank1`` and so on.
        distributed_rank: rank of this process.
        color: colour the console where it is a terminal (and ``NO_COLOR`` is not set).
        name: the logger's name.
        abbrev_name: what stands for `name` in each line, "" for nothing; None: `name` itself.
        enable_propagation: hand messages to the root logger too.
        configure_stdout: write to the console at all. It shows messages from INFO on, the file
            those of DEBUG too.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    abbreviation = name if abbrev_name is None else abbrev_name

    has_console = any(isinstance(h, _StdoutHandler) for h in logger.handlers)
    if configure_stdout and distributed_rank == 0 and not has_console:
        console = _StdoutHandler()
        console.setFormatter(_Formatter(name, abbreviation, color))
        logger.addHandler(console)

    if output is not None:
        path = _log_file(output, distributed_rank)
        files = {h.baseFilename for h in logger.handlers if isinstance(h, logging.FileHandler)}
        if os.path.abspath(path) not in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(path, encoding="utf-8")
            handler.setFormatter(
                logging.Formatter(
                    "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt=_DATE_FORMAT
                )
            )
            logger.addHandler(handler)
    return logger


# ------------------------------------------------------------------------- rate-limited messages

_counts: Counter[Any] = Counter()
_times: dict[Any, float] = {}


def _caller(depth: int = 2) -> tuple[tuple[str, int, str], str]:
    """Return (file, line, function) of whoever called the logging function, and its module."""
    frame = sys._getframe(depth)
    here = (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    module = frame.f_globals.get("__name__", "lucidet")
    return here, "lucidet" if module == "__main__" else module


def log_first_n(
    lvl: int,
    msg: str,
    n: int = 1,
    *,
    name: str | None = None,
    key: str | tuple[str, ...] = "caller",
) -> None:
    """Log `msg` the first `n` times only.

    Args:
        lvl: level, such as ``logging.WARNING``.
        msg: the message.
        n: how many times.
        name: logger; the caller's module by default.
        key: what is counted: "caller" (the place in the code), "message", or both as a tuple.
    """
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or not set(keys) <= {"caller", "message"}:
        raise ValueError(f"key must be 'caller', 'message' or both, got {key!r}")
    place, module = _caller()
    counted = tuple(place if k == "caller" else msg for k in keys)
    _counts[counted] += 1
    if _counts[counted] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log `msg` at the first, (n+1)-th, (2n+1)-th ... call from the same place."""
    place, module = _caller()
    counted = ("every", place)
    _counts[counted] += 1
    if n == 1 or _counts[counted] % n == 1:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log `msg` unless the same place has done so less than `n` seconds ago."""
    place, module = _caller()
    now = time.monotonic()
    if place not in _times or now - _times[place] >= n:
        _times[place] = now
        logging.getLogger(name or module).log(lvl, msg)


# ------------------------------------------------------------------------------------ tables


def create_table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], floatfmt: str = ".3f"
) -> str:
    """Return `rows` under `headers` as a Markdown table; numbers to the right, None as empty.

    >>> print(create_table(["category", "AP"], [["person", 53.21], ["bus", None]]))
    | category |     AP |
    |:---------|-------:|
    | person   | 53.210 |
    | bus      |        |
    """

    def text(value: Any) -> str:
        if value is None:
            return ""
        return format(value, floatfmt) if isinstance(value, float) else str(value)

    cells = [[text(value) for value in row] for row in rows]
    is_number = [
        any(isinstance(row[c], (int, float)) for row in rows)
        and all(row[c] is None or isinstance(row[c], (int, float)) for row in rows)
        for c in range(len(headers))
    ]
    widths = [
        max([len(str(header)), *(len(row[c]) for row in cells)]) for c, header in enumerate(headers)
    ]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, is_number, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 1) + ":" if right else ":" + "-" * (width + 1)
        for width, right in zip(widths, is_number, strict=True)
    )
    return "\n".join([line([str(h) for h in headers]), f"|{rule}|", *map(line, cells)])


def create_small_table(small_dict: Mapping[str, Any]) -> str:
    """Return a table of one row: the dict's keys above, its values below.

    >>> print(create_small_table({"AP": 37.9, "AP50": 58.8}))
    |     AP |   AP50 |
    |-------:|-------:|
    | 37.900 | 58.800 |
    """
    return create_table(list(small_dict), [list(small_dict.values())])
