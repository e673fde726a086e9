"""Recognize a config in maskrcnn-benchmark's names (also FCOS', ATSS') and translate it.

After the authors' config reference. Every key of the file ends in one of three ways: translated;
named in a note, because it has no effect here; or an error, because it is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from lucidet.config.files import ConfigContent
from lucidet.config.maskrcnn_benchmark import model_rules
from lucidet.config.maskrcnn_benchmark.keys import KEYS
from lucidet.config.maskrcnn_benchmark.source import (
    Source,
    Target,
    flat_values,
    reason_without_effect,
)

logger = logging.getLogger(__name__)

# one of these is enough; of the others two are needed, since one may be a slip (WEIGHT, WEIGHTS),
# more than half of the keys that lucidet doesn't know, and more than there are keys that only
# lucidet knows
_MARKS = frozenset(
    {
        "MODEL.BACKBONE.CONV_BODY",
        "MODEL.RPN_ONLY",
        "MODEL.ATSS_ON",
        "MODEL.FCOS_ON",
        "MODEL.RETINANET_ON",
        "DATALOADER.SIZE_DIVISIBILITY",
    }
)


class Translation(NamedTuple):
    """A translated file: lucidet's keys with their origins, and a sentence for each lost key."""

    content: ConfigContent
    notes: list[str]


def is_maskrcnn_benchmark(values: dict[str, Any], known: Collection[str]) -> bool:
    """Return whether a file's values are in maskrcnn-benchmark's names.

    Args:
        values: nested.
        known: the keys of the config that they are for.

    >>> is_maskrcnn_benchmark({"MODEL": {"ATSS_ON": True}}, ["MODEL.WEIGHTS"])
    True
    >>> is_maskrcnn_benchmark({"MODEL": {"WEIGHT": "R-50.pkl"}}, ["MODEL.WEIGHTS"])  # a slip
    False
    """
    keys = list(flat_values(values))
    given = [key for key in keys if key not in known]
    if not _MARKS.isdisjoint(given):
        return True
    theirs = [key for key in given if key in KEYS or reason_without_effect(key)]
    ours = [
        key for key in keys if key in known and key not in KEYS and not reason_without_effect(key)
    ]
    return len(theirs) >= 2 and len(theirs) > max(len(ours), len(given) // 2)


def translate(content: ConfigContent, filename: str) -> Translation:
    """Translate a file into lucidet's keys.

    Raises:
        ValueError: keys that nobody knows (all are named, with the nearest), or a value that
            lucidet has no counterpart for.
    """
    source = Source(content, filename)
    target = Target(source)
    model_rules.apply(source, target)
    for key in source.unused():
        reason = reason_without_effect(key) or "the detector of this file doesn't use it"
        if key.startswith("TEST.BBOX_AUG.") and not source["TEST.BBOX_AUG.ENABLED"]:
            reason = "TEST.BBOX_AUG.ENABLED is False"
        target.note(f"{source.origin(key)}: {key} has no effect here: {reason}")
    return Translation(target.content, target.notes)


def translate_and_log(content: ConfigContent, filename: str) -> ConfigContent:
    """Translate, and log what has no counterpart."""
    translated, notes = translate(content, filename)
    told = "".join(f"\n  {note}" for note in notes)
    logger.warning("%s is in maskrcnn-benchmark's names and was translated%s", filename, told)
    return translated
