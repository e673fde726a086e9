"""Arguments that several commands share, with detectron2's names; no torch in here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

OVERRIDES_HELP = (
    "changes of the config: KEY VALUE or KEY=VALUE, such as SOLVER.IMS_PER_BATCH 2 "
    "INPUT.MIN_SIZE_TRAIN='(800,)'"
)
# config keys that are not inside a section; every other key has a dot in it
TOP_LEVEL_KEYS = (
    "OUTPUT_DIR",
    "SEED",
    "VERSION",
    "VIS_PERIOD",
    "CUDNN_BENCHMARK",
    "FLOAT32_PRECISION",
)


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add ``--config-file`` and ``--weights``."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        required=required,
        help="YAML config file, or the name of a config of the zoo (lucidet models)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default=None,
        help="file or address of weights, or none for random ones; default: the config's "
        "MODEL.WEIGHTS",
    )


def add_partial_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow-partial``."""
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="go on although the weights lack tensors of the model, or hold others",
    )


def is_weights(word: str) -> bool:
    """Return whether a word names weights: a file by its suffix, or an address.

    >>> is_weights("output/model_final.pth"), is_weights("torchvision://fcos_resnet50_fpn")
    (True, True)
    >>> is_weights("photos/a.jpg"), is_weights("https://host/a.jpg")
    (False, False)
    """
    suffixes = (".pth", ".pt", ".pkl", ".safetensors", ".bin", ".pyth", ".ckpt")
    schemes = ("detectron2://", "torchvision://", "catalog://")
    return word.lower().endswith(suffixes) or word.startswith(schemes)


def take_weights(args: argparse.Namespace, words: Sequence[str]) -> list[str]:
    """Set ``args.weights`` from the first word, if it names weights; return the other words."""
    words = [word for word in words if word != "--"]
    if args.weights is None and words and is_weights(words[0]):
        args.weights = words.pop(0)
    return words


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the short options of ``lucidet train``, which decide about its config."""
    parser.add_argument("--model", metavar="NAME", help="a config of the zoo: lucidet models")
    parser.add_argument("--epochs", type=float, metavar="N", help="how often each image is seen")
    parser.add_argument("--batch", type=int, metavar="B", help="images of one update")
    parser.add_argument(
        "--size", type=int, metavar="S", help="length of the images' longer side, pixels"
    )


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how many processes run, on which machines."""
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs *per machine*")
    parser.add_argument("--num-machines", type=int, default=1, help="machines in all")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine")
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="where the processes meet: tcp://HOST:PORT of machine 0, the same on all machines; "
        "auto: a free port, for one machine",
    )
    parser.add_argument(
        "--dist-timeout",
        type=float,
        metavar="SECONDS",
        help="how long a process waits for the others before it is said which one froze; default: "
        "LUCIDET_DIST_TIMEOUT, else 600",
    )


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add ``[FILE.yaml] KEY VALUE ...``; options may stand before, between and after them."""
    parser.add_argument(
        "opts", nargs="*", default=[], metavar="FILE.yaml | KEY VALUE", help=OVERRIDES_HELP
    )
    parser.set_defaults(rest=[])


def is_config_key(word: str) -> bool:
    """Return whether a word looks like a config key, ``SOLVER.BASE_LR`` or ``SEED``.

    >>> is_config_key("INPUT.MIN_SIZE_TRAIN"), is_config_key("B.JPG"), is_config_key("photos")
    (True, True, False)
    """
    dotted = re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+", word)
    return word in TOP_LEVEL_KEYS or dotted is not None


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split positional words into a config file, "" where there is none, and overrides.

    >>> split_words(["retinanet_R_50_FPN_1x", "SOLVER.MAX_ITER=40", "SEED", "1"])
    ('retinanet_R_50_FPN_1x', ['SOLVER.MAX_ITER', '40', 'SEED', '1'])
    """
    words = [word for word in words if word != "--"]
    first_is_file = bool(words) and not is_config_key(words[0].partition("=")[0])
    if first_is_file and len(words) % 2 == 0 and "=" not in " ".join(words):
        first_is_file = words[0].endswith((".yaml", ".yml")) or "/" in words[0]
    return (words[0] if first_is_file else ""), checked_overrides(words[first_is_file:])


def checked_overrides(opts: Sequence[str]) -> list[str]:
    """Return the overrides in pairs; ``KEY=VALUE`` becomes KEY, VALUE.

    Raises:
        ValueError: an option stands after the first KEY, or a KEY has no VALUE.

    >>> checked_overrides(["SOLVER.BASE_LR=0.01", "MODEL.WEIGHTS", "a=b.pth"])
    ['SOLVER.BASE_LR', '0.01', 'MODEL.WEIGHTS', 'a=b.pth']
    """
    waiting = [item for item in opts if item != "--"]
    overrides: list[str] = []
    while waiting:
        key, equals, value = waiting[0].partition("=")
        if equals and is_config_key(key):
            overrides += [key, value]
            del waiting[0]
            continue
        if waiting[0].startswith("--"):
            raise ValueError(
                f"{waiting[0]} stands after KEY VALUE overrides; put options before them"
            )
        if len(waiting) == 1:
            raise ValueError(
                f"overrides come in pairs KEY VALUE, got {len(opts)} words: {' '.join(opts)}"
            )
        overrides += waiting[:2]
        del waiting[:2]
    return overrides
