"""Class names of any script on pictures: in a font that has them, else spelled, with a note."""

from __future__ import annotations

import os

import matplotlib
import numpy as np
import pytest

from lucidet.utils import fonts
from lucidet.utils.canvas import VisImage

NAMES = {
    "Chinese": ("猫咪", "狗狗"),
    "Japanese": ("ネコ", "イヌ"),
    "Korean": ("고양이", "강아지"),
    "Hindi": ("बिल्ली", "कुत्ता"),
    "Thai": ("แมว", "หมา"),
    "Tamil": ("பூனை", "நாய்"),
    "Arabic": ("قطة", "كلب"),
    "Russian": ("кот", "кит"),
    "Vietnamese": ("mèo", "chó"),
    "emoji": ("🐱", "🐶"),
}


def drawn(name: str) -> np.ndarray:
    picture = VisImage(np.zeros((30, 300, 3), np.uint8))
    picture.text(name, (0, 0), (255, 255, 255), 16)
    return picture.get_image()


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine whose only font is matplotlib's own."""
    monkeypatch.setattr(fonts, "_from_fontconfig", lambda text: [])
    fonts._system_font.cache_clear()
    monkeypatch.setattr(fonts, "_NOTED", set())
    yield
    fonts._system_font.cache_clear()


@pytest.mark.parametrize("script", NAMES)
def test_names_are_told_apart_where_no_font_has_them(no_fonts, script):
    one, other = NAMES[script]
    assert (drawn(one) != drawn(other)).any()


@pytest.mark.parametrize("script", NAMES)
def test_names_are_told_apart_with_the_fonts_of_this_machine(script):
    one, other = NAMES[script]
    assert (drawn(one) != drawn(other)).any()
    text, _ = fonts.legible(one, 16)
    assert text in (one, fonts.spelled(one))


@pytest.mark.parametrize(
    ("text", "shown", "note"),
    [
        ("猫 17", "732B 17", "fonts-noto-cjk, or any font with cjk letters"),
        ("고양이", "GO-YANG-I", "fonts-noto-cjk, or any font with hangul letters"),
        ("แมว", "SARA AE-MO MA-WO WAEN", "fonts-noto-core, or any font with thai letters"),
        ("बिल", "BA-I-LA", "fonts-noto-core, or any font with devanagari letters"),
    ],
)
def test_a_missing_script_is_spelled_and_said_once(no_fonts, caplog, text, shown, note):
    for _ in range(2):
        assert fonts.legible(text, 12)[0] == shown
    assert caplog.text.count(f"has the letters of {text!r}: pictures show {shown!r}") == 1
    assert note in caplog.text


def test_a_font_of_the_system_is_taken_where_it_has_the_letters(no_fonts, monkeypatch):
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    listed = [(os.path.join(folder, f"STIXGeneral{kind}.ttf"), 0) for kind in ("Bol", "")]
    listed += [(os.path.join(folder, "no_such_font.ttf"), 0)]
    monkeypatch.setattr(fonts, "_from_fontconfig", lambda text: listed)
    character = next(
        chr(code)
        for code in sorted(fonts._letters(*listed[1]) - fonts._letters(fonts._default_path(), 0))
        if not fonts._is_invisible(chr(code))
    )
    text, font = fonts.legible(character, 12)
    assert (text, font.path) == (character, listed[1][0])


def test_without_fontconfig_matplotlib_searches(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert fonts._from_fontconfig("猫") is None
    assert all(os.path.isfile(path) for path, _ in fonts._candidates("猫"))


def test_empty_and_plain_texts_stay():
    for text in ("", "cat", "Käse", "two words"):
        assert fonts.legible(text, 12)[0] == text
        assert fonts.spelled(text).isascii()
