"""Match the categories of a file to a given class list by their names."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

__all__ = ["match_classes"]

logger = logging.getLogger(__name__)


def match_classes(
    names: Sequence[str],
    classes: Sequence[str] | None,
    where: str,
    owner: str,
    used: Collection[str] | None = None,
) -> list[str]:
    """Return the class list for a file's categories: `classes` where they are given.

    A list in another order, or with fewer names, is matched by name with a warning.

    Args:
        names: of the file's categories, in the order of their ids.
        classes: that are expected; None takes the file's.
        where: the file or dataset of `names`, for messages.
        owner: the dataset of `classes`, for messages.
        used: those of `names` that have annotations; others may be unknown. Default: all.

    Raises:
        ValueError: a category in use is not among `classes`; names both lists.

    >>> match_classes(["dog", "cat"], ["cat", "dog"], "val.json", "train")
    ['cat', 'dog']
    """
    if classes is None or list(classes) == list(names):
        return list(names)
    unknown = [n for n in names if n not in classes and (used is None or n in used)]
    if unknown:
        raise ValueError(
            f"{where} has the categories {list(names)}, but {owner!r} has the classes "
            f"{list(classes)}: {unknown} are not among them. Classes are matched by their names: "
            "write them alike, or register the file under another name"
        )
    logger.warning(
        "%s has the categories %s, %r has the classes %s: matched by name",
        where,
        list(names),
        owner,
        list(classes),
    )
    return list(classes)
