"""Images that occur twice, within a split or in two: equal, re-encoded, resized, turned.

Candidates are found by their hash (see `appearance`), and confirmed by their pixels.
"""

# N images of all splits, V = 8 turns and mirrorings

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lucidet.data.image_io import read_image
from lucidet.doctor.appearance import VARIANTS, hashes, turned
from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.images import Picture
from lucidet.doctor.material import Split

__all__ = ["Pair", "check_duplicates", "find_pairs"]

#: bits of 63 that the hashes of one image may differ by: re-encoding takes 3, a third more light 8
MOST_BITS = 10
#: Correlation of two thumbnails from which on they show the same image. Of 28 000 pairs of COCO and
#: bccd images that differ, none comes over 0.57; re-encoded or resized ones keep 0.99.
SAME = 0.9
#: pairs whose files are compared pixel by pixel under a turn
_MOST_COMPARED = 200
_BLOCK = 256
_TURNS = (
    "",
    "mirrored left to right",
    "mirrored top to bottom",
    "turned by 180 degrees",
    "transposed",
    "turned by 90 degrees",
    "turned by 270 degrees",
    "transposed and turned",
)


class Pair(NamedTuple):
    """Two images that are the same; positions over all splits, first < second.

    Attributes:
        exact: every pixel is equal (after the turn).
        variant: the turn, as in `appearance.turned`; 0 is none.
        correlation: of the thumbnails, at most 1.
    """

    first: int
    second: int
    exact: bool
    variant: int
    correlation: float


def check_duplicates(
    splits: Sequence[Split], pictures: Sequence[Sequence[Picture]]
) -> list[Finding]:
    """Return findings about images that occur twice; a file that is in two splits is another's."""
    places = [(split, n) for split in splits for n in range(len(split.records))]
    names = [str(split.records[n]["file_name"]) for split, n in places]
    groups: dict[str, list[Case]] = {}
    kept: set[int] = set()  # one image of each group is left
    for pair in find_pairs([picture for own in pictures for picture in own], names):
        (split, n), (other, m) = places[pair.first], places[pair.second]
        if names[pair.first] == names[pair.second]:
            continue
        across = split is not other
        code = ("leak-" if across else "duplicate-") + ("exact" if pair.exact else "near")
        turn = f" {_TURNS[pair.variant]}" if pair.variant else ""
        if not across and pair.second in kept:
            continue
        kept |= set() if across else {pair.second}
        same = "the same pixels as" if pair.exact else f"correlation {pair.correlation:.3f} with"
        text = f"{same} {split.role} {split.case(n).line().removeprefix(split.role + ' ')}{turn}"
        groups.setdefault(code, []).append(other.case(m, text, other=names[pair.first]))
    held_out = max(1, sum(len(s.records) for s in splits if not s.role.startswith("train")))
    messages = {
        "leak-exact": "{n} times the same image is in two splits",
        "leak-near": "{n} times nearly the same image is in two splits",
        "duplicate-exact": "{n} images are in their split twice, pixel by pixel",
        "duplicate-near": "{n} images are in their split twice, nearly the same",
    }
    findings = []
    for code, cases in groups.items():
        images = len({case.file for case in cases})
        share = f": {images / held_out:.1%} of the held-out images" if "leak" in code else ""
        findings.append(finding(code, messages[code] + share, cases))
    return findings


def find_pairs(pictures: Sequence[Picture], names: Sequence[str]) -> Iterator[Pair]:
    """Yield the pairs of images that are the same.

    Args:
        pictures: N; those that cannot be decoded have no pair.
        names: of their files.
    """
    there = [n for n, picture in enumerate(pictures) if picture.seen is not None]
    if len(there) < 2:
        return
    seen = [pictures[n].seen for n in there]
    digests = [s.digest for s in seen if s is not None]
    thumbs = np.stack([s.thumb for s in seen if s is not None])
    normal = _normalized(thumbs)
    compared = 0
    for i, j, bits in _close(hashes(thumbs)):
        if digests[i] == digests[j]:
            yield Pair(there[i], there[j], True, 0, 1.0)
            continue
        scores = {
            int(v): float(normal[i].ravel() @ turned(normal[j], int(v)).ravel())
            for v in np.flatnonzero(bits)
        }
        variant = max(scores, key=lambda v: (round(scores[v], 4), -v))
        if scores[variant] < SAME:
            continue
        exact = False
        if variant and scores[variant] > 0.99 and compared < _MOST_COMPARED:
            compared += 1
            exact = _equal(names[there[i]], names[there[j]], variant)
        yield Pair(there[i], there[j], exact, variant, min(1.0, scores[variant]))


def _normalized(thumbs: np.ndarray) -> np.ndarray:
    """Return thumbnails of mean 0 and length 1; those of one color become 0 and are like none."""
    values = thumbs.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True))
    return values / np.where(length > THUMB_NOISE, length, np.inf)


#: length below which a thumbnail has one color: half a grey level in each of its pixels
THUMB_NOISE = 32.0


def _close(codes: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield i < j whose hashes are close, and under which turns (V,) bool of j.

    Args:
        codes: (V, N) of `hashes`. The turn of j that looks like i has the hash of i.
    """
    count = codes.shape[1]
    for start in range(0, count, _BLOCK):
        own = codes[0, start : start + _BLOCK]
        rest = codes[:, start:]
        near = np.empty((VARIANTS, len(own), rest.shape[1]), bool)
        for variant in range(VARIANTS):
            bits = np.bitwise_count(own[:, None] ^ rest[variant][None])
            np.less_equal(bits, MOST_BITS, out=near[variant])
        rows, columns = np.nonzero(near.any(axis=0))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            if i < j:
                yield start + i, start + j, near[:, i, j]


def _equal(first: str, second: str, variant: int) -> bool:
    ours = read_image(first, format="RGB")
    theirs = turned(read_image(second, format="RGB"), variant)
    return ours.shape == theirs.shape and bool((ours == theirs).all())
