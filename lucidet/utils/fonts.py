"""Fonts for texts of any script: found on the system by fontconfig, or by matplotlib's search.

matplotlib's own copy of DejaVu is on every machine; it has Latin, Greek, Cyrillic and Arabic
letters. For others a font of the system is taken. Where none has them, a text is spelled in ASCII,
and a note says what to install.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import unicodedata
from collections.abc import Iterator

from PIL import ImageFont

__all__ = ["font_for", "legible", "spelled"]

logger = logging.getLogger(__name__)

_TIMEOUT = 20  # seconds: fontconfig may index all fonts at its first call
#: letters of scripts that are written with these packages of Debian and Ubuntu
_PACKAGES = {
    "CJK": "fonts-noto-cjk",
    "HIRAGANA": "fonts-noto-cjk",
    "KATAKANA": "fonts-noto-cjk",
    "HANGUL": "fonts-noto-cjk",
}
_USUAL_PACKAGE = "fonts-noto-core"
#: scripts that have been noted as missing
_NOTED: set[str] = set()


def legible(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return what to draw for `text`, and in which font.

    Args:
        text: one line.
        size: height of the letters in pixels.

    Returns:
        The text itself and a font that has all its letters; spelled in ASCII where there is none.
    """
    if _covers(_default_path(), 0, text):
        return text, font_for(_default_path(), 0, size)
    found = _system_font(frozenset(text))
    if found is not None:
        return text, font_for(*found, size)
    _note_missing(text)
    return spelled(text), font_for(_default_path(), 0, size)


@functools.lru_cache(maxsize=64)
def font_for(path: str, index: int, size: int) -> ImageFont.FreeTypeFont:
    """Return a font file's face number `index` in a size."""
    return ImageFont.truetype(path, size, index=index)


@functools.cache
def _default_path() -> str:
    import matplotlib

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@functools.cache
def _letters(path: str, index: int) -> frozenset[int]:
    """Return the code points that a font has; none where it can't be read or scaled."""
    from matplotlib.ft2font import FT2Font

    try:
        font_for(path, index, 12)  # fonts of coloured bitmaps have one size only
        if index or path.lower().endswith((".ttc", ".otc")):
            return _letters_of_collection(path, index)
        return frozenset(FT2Font(path).get_charmap())
    except Exception:  # broken fonts raise many types
        return frozenset()


def _letters_of_collection(path: str, index: int) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path, face_index=index).get_charmap())
    except TypeError:  # older versions read the first face: those of a collection are alike
        return frozenset(FT2Font(path).get_charmap())


def _covers(path: str, index: int, text: str) -> bool:
    if text.isascii():
        return True
    letters = _letters(path, index)
    return all(ord(c) in letters for c in text if not _is_invisible(c))


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Mn", "Zs")


@functools.lru_cache(maxsize=1024)
def _system_font(characters: frozenset[str]) -> tuple[str, int] | None:
    """Return path and face of a font that has all characters; None if no font has."""
    text = "".join(sorted(c for c in characters if not c.isascii()))
    return next((font for font in _candidates(text) if _covers(*font, text)), None)


def _candidates(text: str) -> Iterator[tuple[str, int]]:
    listed = _from_fontconfig(text)
    if listed is None:
        from matplotlib import font_manager

        listed = [(path, 0) for path in font_manager.findSystemFonts()]
    yield from sorted(set(listed), key=lambda font: (_rank(font[0]), font))


def _from_fontconfig(text: str) -> list[tuple[str, int]] | None:
    """Return the fonts that have all letters by fontconfig's list; None without fontconfig."""
    codes = " ".join(f"{ord(c):x}" for c in text if not _is_invisible(c))
    command = ["fc-list", f":charset={codes}", "--format", "%{index}\t%{file}\n"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    pairs = (line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    # the upper bits number the variations of one face
    return [(path, int(index) & 0xFFFF) for index, path in pairs]


def _rank(path: str) -> tuple[bool, bool, bool]:
    """Return a key by which plain upright fonts without serifs come first."""
    name = os.path.basename(path).lower()
    fancy = any(word in name for word in ("bold", "italic", "oblique", "light", "thin", "black"))
    return fancy, "serif" in name or "mono" in name, "sans" not in name


def spelled(text: str) -> str:
    """Return a text in ASCII by its letters' names, to tell classes apart at least.

    >>> spelled("ネコ"), spelled("猫 17"), spelled("Käse")
    ('NE-KO', '732B 17', 'Kase')
    """
    words: list[str] = []
    apart = False  # whether the next letter is spelled after another
    for character in text:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        if plain:
            words.append(plain)
            apart = False
            continue
        name = _short_name(character)
        if name:
            words.append(f"-{name}" if apart else name)
            apart = True
    return "".join(words)


def _short_name(character: str) -> str:
    """Return the last part of a letter's Unicode name: MO MA of THAI CHARACTER MO MA."""
    if unicodedata.category(character) == "Cf":
        return ""
    name = unicodedata.name(character, f"U-{ord(character):X}")
    for kind in (" SYLLABLE ", " LETTER ", " CHARACTER ", " SIGN ", "IDEOGRAPH-", "U-"):
        if kind in name:
            return name.split(kind, 1)[1]
    return name


def _note_missing(text: str) -> None:
    """Say once for each script that no font has its letters, and what to install."""
    scripts = sorted({unicodedata.name(c, "?").split()[0] for c in text if not c.isascii()})
    if _NOTED.issuperset(scripts):
        return
    _NOTED.update(scripts)
    package = next((_PACKAGES[s] for s in scripts if s in _PACKAGES), _USUAL_PACKAGE)
    logger.warning(
        "no font on this machine has the letters of %r: pictures show %r. Install one, as by "
        "apt-get install %s, or any font with %s letters",
        text,
        spelled(text),
        package,
        ", ".join(scripts).lower(),
    )
