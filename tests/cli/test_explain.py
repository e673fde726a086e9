"""``lucidet explain`` and ``inspect --text``, from the command line."""

from __future__ import annotations

import json

import pytest

from lucidet.cli.main import main
from lucidet.explain.kinds import FATES


def _run(tiny, *words: str) -> int:
    return main(
        ["explain", "--config-file", str(tiny.config), "--weights", str(tiny.weights), *words]
    )


@pytest.fixture
def dataset(tiny_dataset) -> str:
    return str(tiny_dataset / "shapes")


def test_a_dataset_gives_a_funnel_with_examples(tiny, dataset, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert _run(tiny, "--dataset", dataset, "--out", str(out)) == 0
    funnel = json.loads((out / "explain.json").read_text())
    assert sum(funnel["fates"].values()) == funnel["objects"] > 0
    assert all(fate in FATES for fate in funnel["fates"])
    for of_kind in funnel["examples"].values():
        for example in (one for examples in of_kind.values() for one in examples):
            assert (out / example["page"]).is_file()
            found = json.loads((out / example["page"]).with_suffix(".json").read_text())
            assert found["image"]["image_id"] == example["image_id"]
    printed = capsys.readouterr().out
    assert f"{funnel['objects']} ground-truth boxes" in printed
    assert printed.splitlines()[-1] == str(out / "explain.html")


def _first_id(dataset: str) -> str:
    from lucidet.data import DatasetCatalog
    from lucidet.data.specification import dataset_names

    return str(DatasetCatalog.get(dataset_names(dataset)[0])[0]["image_id"])


def test_one_box_in_twenty_lines(tiny, dataset, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = ["--dataset", dataset, "--id", _first_id(dataset), "--text"]
    for more in ([], ["--object", "0"], ["--detection", "0"]):
        capsys.readouterr()
        assert _run(tiny, *one, *more) == 0
        lines = capsys.readouterr().out.splitlines()
        lines = [line for line in lines if "lucidet.checkpoint" not in line]
        assert 2 <= len(lines) <= 20
    assert not (tmp_path / "explanation").exists()


def test_one_image_with_heat_maps(tiny, dataset, tmp_path) -> None:
    out = tmp_path / "out"
    one = ["--dataset", dataset, "--id", _first_id(dataset), "--heat-maps", "--out", str(out)]
    assert _run(tiny, *one) == 0
    assert json.loads((out / "explain.json").read_text())["format"] == "lucidet-explanation"


def test_images_are_named_by_their_files(tiny, dataset, capsys) -> None:
    from lucidet.data import DatasetCatalog
    from lucidet.data.specification import dataset_names

    file = DatasetCatalog.get(dataset_names(dataset)[0])[0]["file_name"]
    for words in ([dataset, file], ["--dataset", dataset, "--id", file]):
        capsys.readouterr()
        assert _run(tiny, *words, "--text") == 0
        assert file in capsys.readouterr().out
    assert _run(tiny, dataset, "other.jpg", "--text") == 2
    assert "has no image 'other.jpg'" in capsys.readouterr().err
    assert _run(tiny, dataset, "another") == 2
    assert "is a second dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--object", "0"], "need one image: --id N"),
        (["--id", "1", "--object", "0", "--detection", "1"], "exclude each other"),
        (["--id", "none-such"], "has no image 'none-such'"),
        (["--max-images", "0"], "must be at least 1"),
        (["--iou", "1.5"], "must be in 0 < IoU <= 1"),
    ],
)
def test_errors_teach(tiny, dataset, capsys, words, message) -> None:
    assert _run(tiny, "--dataset", dataset, *words) == 2
    assert message in capsys.readouterr().err


def test_a_box_that_is_not_there(tiny, dataset, capsys) -> None:
    one = ["--dataset", dataset, "--id", _first_id(dataset), "--text"]
    assert _run(tiny, *one, "--object", "99") == 2
    assert "no ground-truth box 99" in capsys.readouterr().err


def test_a_detector_must_be_named(capsys) -> None:
    assert main(["explain", "--dataset", "coco_2017_val"]) == 2
    assert "lucidet explain WEIGHTS" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["--eval", "--train"])
@pytest.mark.parametrize("more", [[], ["--object", "0"]])
def test_inspect_in_the_terminal(tiny, dataset, capsys, mode, more) -> None:
    line = ["inspect", "--config-file", str(tiny.config), "--weights", str(tiny.weights), mode]
    line += ["--dataset", dataset, "--id", _first_id(dataset), "--text", *more]
    assert main(line) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = [one for one in lines if "lucidet.checkpoint" not in one]
    assert 2 <= len(lines) <= 20


def test_the_page_of_an_inspection_has_the_fates(tiny, dataset, tmp_path) -> None:
    line = ["inspect", "--config-file", str(tiny.config), "--weights", str(tiny.weights)]
    line += ["--dataset", dataset, "--id", _first_id(dataset), "--out", str(tmp_path)]
    assert main(line) == 0
    context = json.loads((tmp_path / "trace.json").read_text())["context"]
    assert context["explanation"]["objects"]
    assert all(own["text"] in json.dumps(context) for own in context["explanation"]["objects"])
