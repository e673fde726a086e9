"""Arguments that several commands share, with detectron2's names; no torch in here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

OVERRIDES_HELP = (
    "changes of the config, at the end: KEY VALUE pairs such as SOLVER.IMS_PER_BATCH 2 "
    "INPUT.MIN_SIZE_TRAIN '(800,)'"
)


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add ``--config-file`` and ``--weights``."""
    parser.add_argument(
        "--config-file", default="", metavar="FILE", required=required, help="YAML config file"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default=None,
        help="model weights; the config's MODEL.WEIGHTS without it",
    )


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how many processes run, on which machines."""
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs *per machine*")
    parser.add_argument("--num-machines", type=int, default=1, help="machines in all")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine")
    parser.add_argument(
        "--dist-url",
        default=default_dist_url(),
        help="where the processes meet: tcp://HOST:PORT of machine 0, the same on all machines",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add ``KEY VALUE ...`` at the end of the line."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help=OVERRIDES_HELP
    )


def default_dist_url() -> str:
    """Return an address on this machine; the port differs between users."""
    user = os.getuid() if sys.platform != "win32" else 1
    return f"tcp://127.0.0.1:{2**15 + 2**14 + hash(user) % 2**14}"


def checked_overrides(opts: Sequence[str]) -> list[str]:
    """Return the overrides; an option that slipped behind them is an error.

    Raises:
        ValueError: an option stands after the first KEY, or a KEY has no VALUE.
    """
    overrides = list(opts)
    if overrides[:1] == ["--"]:
        overrides = overrides[1:]
    late = [item for item in overrides[::2] if item.startswith("--")]
    if late:
        raise ValueError(f"{late[0]} stands after KEY VALUE overrides; put options before them")
    if len(overrides) % 2:
        raise ValueError(
            f"overrides come in pairs KEY VALUE, got {len(overrides)} words: {' '.join(overrides)}"
        )
    return overrides
