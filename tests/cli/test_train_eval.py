from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lucidet.cli import train
from lucidet.cli.arguments import split_words
from lucidet.cli.short_training import write_config
from lucidet.data.datasets.shapes import CLASS_NAMES
from tests.cli.test_main import lucidet

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_train_then_eval_through_the_command(tiny, tiny_dataset):
    config = ("--config-file", str(tiny.config))
    out = ("OUTPUT_DIR", str(tiny_dataset / "run"))
    data = {"LUCIDET_DATASETS": str(tiny_dataset)}
    done = lucidet("train", *config, "--num-gpus", "0", *out, **data)
    assert done.returncode == 0, done.stderr
    weights = tiny_dataset / "run" / "model_final.pth"
    assert weights.is_file()
    done = lucidet("eval", *config, "--weights", str(weights), *out, **data)
    assert done.returncode == 0, done.stderr
    assert "copypaste: AP,AP50,AP75,APs,APm,APl" in done.stdout
    found = tiny_dataset / "run" / "inference" / "coco_instances_results.json"
    assert isinstance(json.loads(found.read_text()), list)


@pytest.mark.slow
def test_eval_of_missing_weights_names_the_file(tiny, tiny_dataset):
    out = ("OUTPUT_DIR", str(tiny_dataset / "run"))
    words = ("--config-file", str(tiny.config), "--weights", "not/there.pth", *out)
    done = lucidet("eval", *words, LUCIDET_DATASETS=str(tiny_dataset))
    assert done.returncode == 2
    assert "not/there.pth" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo_runs_from_anywhere_and_trains_once(tmp_path):
    script = [sys.executable, str(ROOT / "tools" / "demo.py"), "--fast", "--out", "demo"]
    first, second = (
        subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        for _ in range(2)
    )
    for done in (first, second):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "AP50 on" in done.stdout
        assert "lucidet predict --config-file" in done.stdout
    assert "lucidet train --config-file" in first.stdout
    log = (tmp_path / "demo" / "faster_rcnn_R_18_FPN" / "log.txt").read_text()
    for listing in ("Environment info", "GeneralizedRCNN("):
        assert listing in log
        assert listing not in first.stdout
    assert "Already trained" in second.stdout
    assert "lucidet eval --config-file" in second.stdout
    assert list((tmp_path / "demo" / "predictions").glob("*.jpg"))
    assert (tmp_path / "demo" / "faster_rcnn_R_18_FPN" / "config.yaml").is_file()


def test_config_files_are_named_in_three_ways():
    """``FILE.yaml``, ``--config-file NAME`` and ``KEY=VALUE``, in any order with options."""
    parsed = [
        ["retinanet_R_50_FPN_1x.yaml", "SOLVER.MAX_ITER=40", "SEED", "1"],
        ["retinanet_R_50_FPN_1x.yaml", "SOLVER.MAX_ITER", "40", "SEED=1"],
    ]
    for words in parsed:
        expected = ["SOLVER.MAX_ITER", "40", "SEED", "1"]
        assert split_words(words) == ("retinanet_R_50_FPN_1x.yaml", expected)
    assert split_words([]) == ("", [])
    assert split_words(["SEED", "1"]) == ("", ["SEED", "1"])
    shown = [
        lucidet("config", "show", *words).stdout
        for words in (
            ("--config-file", "COCO-Detection/retinanet_R_50_FPN_1x.yaml", "SOLVER.MAX_ITER", "7"),
            ("retinanet_R_50_FPN_1x", "SOLVER.MAX_ITER=7"),
        )
    ]
    assert "SOLVER.MAX_ITER: 7" in shown[0]
    assert shown[0] == shown[1]


@pytest.mark.slow
def test_one_command_trains_on_a_dataset(tiny_dataset, monkeypatch):
    monkeypatch.chdir(tiny_dataset)
    data = {"LUCIDET_DATASETS": str(tiny_dataset)}
    small = ("MODEL.RESNETS.STEM_OUT_CHANNELS=8", "MODEL.RESNETS.RES2_OUT_CHANNELS=8")
    words = ("--data", "shapes", "--model", "retinanet_R_18_FPN", "--size", "64", *small)
    done = lucidet("train", *words, "--batch", "2", "SOLVER.MAX_ITER", "2", **data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random weights" in done.stdout
    folder = tiny_dataset / "output" / "shapes_retinanet_R_18_FPN"
    assert (folder / "model_final.pth").is_file()
    assert "MAX_ITER: 2\n" in (folder / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "output/shapes_retinanet_R_18_FPN_3"),
        (["--overwrite"], "output/shapes_retinanet_R_18_FPN_2"),
        (["--resume"], "output/shapes_retinanet_R_18_FPN_2"),
        (["OUTPUT_DIR=used"], "used-2"),
        (["OUTPUT_DIR=used", "--overwrite"], "used"),
        (["OUTPUT_DIR=new"], "new"),
    ],
)
def test_an_earlier_run_keeps_its_config(tiny_dataset, tmp_path, monkeypatch, options, expected):
    """Each run of the one command writes its config where its checkpoints will be."""
    monkeypatch.chdir(tmp_path)
    for folder in ("used", *(f"output/shapes_retinanet_R_18_FPN{n}" for n in ("", "_2"))):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "last_checkpoint").write_text("model_0000001.pth")
    parser = argparse.ArgumentParser()
    train.add_parser(parser.add_subparsers())
    words = [
        "train",
        "--data",
        str(tiny_dataset / "shapes"),
        "--model",
        "retinanet_R_18_FPN",
        *options,
    ]
    args = parser.parse_args(words)
    path, _ = write_config(args, split_words([*args.opts, *args.rest])[1])
    assert Path(path).parent == Path(expected)
    written = {p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("config.yaml")}
    assert written == {expected}
    assert f"OUTPUT_DIR: {expected}\n" in Path(path).read_text()


@pytest.mark.slow
def test_weights_need_nothing_else(tiny, tiny_dataset, monkeypatch):
    """Trained once; then eval, predict and inspect from the weights alone, from another folder."""
    data = {"LUCIDET_DATASETS": str(tiny_dataset)}
    out = tiny_dataset / "run"
    words = ("--config-file", str(tiny.config), "OUTPUT_DIR", str(out))
    assert lucidet("train", *words, **data).returncode == 0
    weights = str(out / "model_final.pth")
    monkeypatch.chdir(tiny.folder)
    done = lucidet("eval", weights, **data)
    assert done.returncode == 0, done.stderr
    assert (out / "evaluation" / "inference").is_dir()
    # without the data: names come with the weights
    words = ("--score-threshold", "0", "--out", str(out / "predictions"))
    done = lucidet("predict", weights, str(tiny.images), *words, LUCIDET_DATASETS="/nowhere")
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "predictions" / "predictions.json").read_text())
    assert {record["category"] for record in found} <= set(CLASS_NAMES)
    image = str(tiny.images / "a.jpg")
    words = ("--image", image, "--out", str(out / "page"), "--no-trace")
    done = lucidet("inspect", weights, *words, LUCIDET_DATASETS="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "circle" in (out / "page" / "report.html").read_text()
    # another class count: what would be re-initialized is an error
    partial = ("MODEL.ROI_HEADS.NUM_CLASSES=4", "--out", str(out / "p"))
    done = lucidet("predict", weights, image, *partial)
    assert done.returncode == 2
    assert "of another shape" in done.stderr
    assert lucidet("predict", weights, image, "--allow-partial", *partial).returncode == 0
