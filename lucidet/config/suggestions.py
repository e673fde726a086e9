"""Which real keys did somebody mean? Names for the error messages of unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

# RES4_DILATION against RES5_DILATION is 0.92, BASE_LRR against BASE_LR 0.93, MAX_ITERS 0.94
CLOSE = 0.84


class UnknownKeyError(KeyError, AttributeError, ValueError):
    """A config key that doesn't exist.

    A KeyError as yacs raises on merging, and an AttributeError as on reading ``cfg.KEY``.
    """

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


def unknown_key(key: str, known: Sequence[str], where: str = "", hint: str = "") -> UnknownKeyError:
    """Return the error for `key`, with the nearest of `known`.

    Args:
        key: dotted path.
        known: every key there is.
        where: the file and line, or what asked for the key.
        hint: what to do if the key is meant.

    >>> print(unknown_key("BASE_LR", ["SOLVER.BASE_LR", "SOLVER.MOMENTUM"], where="a.yaml:3"))
    a.yaml:3: unknown config key 'BASE_LR'; did you mean 'SOLVER.BASE_LR'?
    """
    names = " or ".join(repr(name) for name in nearest_keys(key, known))
    text = f"unknown config key {key!r}" + (f"; did you mean {names}?" if names else "")
    return UnknownKeyError((f"{where}: " if where else "") + text + hint)


def unknown_keys(
    where: Mapping[str, str], known: Sequence[str], filename: str, hint: str
) -> UnknownKeyError:
    """Return one error for all unknown keys of a file.

    Args:
        where: file and line of each unknown key.
        known: every key there is.
        filename: of the file.
        hint: what to do about them.
    """
    if len(where) == 1:
        ((key, line),) = where.items()
        return unknown_key(key, known, line, hint)
    lines = []
    for key, line in where.items():
        near = " or ".join(nearest_keys(key, known))
        lines.append(f"  {line}: {key}" + (f" (did you mean {near}?)" if near else ""))
    return UnknownKeyError(
        f"{filename} has {len(where)} unknown config keys:\n" + "\n".join(lines) + hint
    )


def nearest_keys(key: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the keys that `key` may stand for, best first: misplaced, then misspelt.

    >>> nearest_keys("MODEL.BASE_LR", ["SOLVER.BASE_LR", "MODEL.WEIGHTS"])
    ['SOLVER.BASE_LR']
    >>> nearest_keys("MODEL.WEIGHT", ["SOLVER.BASE_LR", "MODEL.WEIGHTS"])
    ['MODEL.WEIGHTS']
    >>> nearest_keys("MODEL_WEIGHTS", ["SOLVER.BASE_LR", "MODEL.WEIGHTS"])
    ['MODEL.WEIGHTS']
    >>> nearest_keys("", ["SOLVER.BASE_LR"])
    []
    """
    every = list(known)
    same = [name for name in every if _squashed(name) == _squashed(key)]
    if same and key:
        return same[:limit]
    misplaced = [name for name in every if leaf(name) == leaf(key).upper()]
    if misplaced:
        return sorted(misplaced, key=lambda name: -_likeness(key, name))[:limit]
    section, name = _section(key), leaf(key)
    beside = [other for other in every if _section(other) == section]
    close = _closest(name, beside, limit, cutoff=0.6)
    if close and _likeness(name, leaf(close[0])) >= CLOSE:
        return close[:1]
    elsewhere = _closest(name, every, limit, cutoff=CLOSE)
    return (elsewhere + [other for other in close if other not in elsewhere])[:limit]


def mistaken_for(key: str, known: Iterable[str]) -> list[str]:
    """Return the keys that `key` is a misplaced or misspelt copy of: empty for a new name.

    >>> mistaken_for("SOLVER.MAX_ITERS", ["SOLVER.MAX_ITER"])
    ['SOLVER.MAX_ITER']
    >>> mistaken_for("SOLVER.RESET_ITER", ["SOLVER.MAX_ITER"])
    []
    """
    every = list(known)
    name = leaf(key)
    near = nearest_keys(key, every)
    return [n for n in near if _likeness(name, leaf(n)) >= CLOSE or _squashed(n) == _squashed(key)]


def _squashed(key: str) -> str:
    """Return a key without what separates its words: MODEL_WEIGHTS is meant as MODEL.WEIGHTS."""
    return key.replace(".", "").replace("_", "").upper()


def leaf(key: str) -> str:
    """Return the last name of a dotted path."""
    return key.rpartition(".")[2]


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.upper(), b.upper()).ratio()


def _closest(name: str, keys: list[str], limit: int, cutoff: float) -> list[str]:
    """Return the keys whose last name is at least `cutoff` like `name`, best first."""
    matcher = difflib.SequenceMatcher(None, b=name.upper())
    rated = []
    for key in keys:
        matcher.set_seq1(leaf(key).upper())
        # two cheap upper bounds first, as in difflib.get_close_matches
        if min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= cutoff:
            rated.append((matcher.ratio(), key))
    rated.sort(key=lambda pair: -pair[0])
    return [key for likeness, key in rated[:limit] if likeness >= cutoff]


def closest_names(name: str, names: Sequence[str]) -> str:
    """Return a sentence with the names most like `name`.

    >>> closest_names("retinanet_R_50_FPN_2x", ["retinanet_R_50_FPN_1x", "rpn_R_50_C4_1x"])
    'the nearest is retinanet_R_50_FPN_1x'
    """
    close = difflib.get_close_matches(name, names, n=3)
    if not close:
        return f"there are {', '.join(sorted(names)[:5])} ..."
    return f"the nearest {'is' if len(close) == 1 else 'are'} {', '.join(close)}"
