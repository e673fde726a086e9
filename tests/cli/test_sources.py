from __future__ import annotations

from pathlib import Path

import pytest

from lucidet.cli.predict import split_inputs
from lucidet.cli.sources import find_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "c.webp", "clip.avi", "notes.txt", "deep/b.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder_gives_its_media_in_order(folder):
    sources, problems = find_sources([str(folder / "in")], folder / "out")
    assert not problems
    out = folder / "out"
    assert [(s.path.name, s.target, s.is_video) for s in sources] == [
        ("a.PNG", out / "a.PNG", False),
        ("b.jpg", out / "b.jpg", False),
        ("c.webp", out / "c.webp.png", False),
        ("clip.avi", out / "clip.avi.mp4", True),
        ("b.jpg", out / "deep/b.jpg", False),
    ]


def test_equal_names_get_a_number_and_patterns_work(folder):
    inputs = [str(folder / "in/b.jpg"), str(folder / "in/deep/b.jpg"), str(folder / "in/*.webp")]
    sources, _ = find_sources(inputs, "out")
    assert [str(s.target) for s in sources] == ["out/b.jpg", "out/b_2.jpg", "out/c.webp.png"]


def test_a_file_with_another_ending_is_tried_as_an_image(folder):
    sources, _ = find_sources([str(folder / "in/notes.txt")], "out")
    assert [str(s.target) for s in sources] == ["out/notes.txt.png"]


def test_what_is_missing_is_named(folder):
    sources, problems = find_sources([str(folder / "empty"), "nowhere.jpg"], "out")
    assert not sources
    assert "empty: no image or video in this folder" in problems[0]
    assert problems[1] == "nowhere.jpg: no such file or folder"


def test_inputs_are_not_overwritten(folder):
    with pytest.raises(ValueError, match=r"a\.PNG would be overwritten"):
        find_sources([str(folder / "in")], folder / "in")


@pytest.mark.parametrize(
    ("words", "inputs", "overrides"),
    [
        ([], [], []),
        (["a.jpg"], ["a.jpg"], []),
        (["DIR", "a.jpg"], ["DIR", "a.jpg"], []),
        (["a.jpg", "MODEL.DEVICE", "cpu"], ["a.jpg"], ["MODEL.DEVICE", "cpu"]),
        (["SEED", "3"], [], ["SEED", "3"]),
        (["A.JPG", "IMG_1.MP4"], ["A.JPG", "IMG_1.MP4"], []),
    ],
)
def test_split_inputs(words, inputs, overrides):
    assert split_inputs(words) == (inputs, overrides)
