"""Published dense configs, and the ATSS authors' own file, train on real files; a demo predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lucidet.cli.main import main
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets import register_coco_instances
from lucidet.engine import default_argument_parser
from lucidet.engine.run import main as run
from tests.config.maskrcnn_benchmark_files import ATSS as AUTHORS_FILE
from tests.test_overfit_dense import eight_images

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "COCO-Detection"

#: everything small, so that an iteration takes a second
SMALL = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.WEIGHTS", ""),
    *("MODEL.RESNETS.NORM", "BN"),  # without weights a frozen norm does nothing
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "32"),
    *("MODEL.FPN.OUT_CHANNELS", "64"),
    *("INPUT.MIN_SIZE_TRAIN", "(56, 64)"),
    *("INPUT.MAX_SIZE_TRAIN", "96"),
    *("INPUT.MIN_SIZE_TEST", "64"),
    *("INPUT.MAX_SIZE_TEST", "96"),
    *("DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.IMS_PER_BATCH", "2"),
    *("SOLVER.MAX_ITER", "2"),
]
NARROW = ["MODEL.RESNETS.WIDTH_PER_GROUP", "8"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def real_files(datasets_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIDET_DATASETS", str(datasets_dir))


def train(file: Path, out: Path, *more: str) -> dict[str, float]:
    """Run ``lucidet train`` for two iterations without an evaluation; return the last losses."""
    words = [*SMALL, "DATASETS.TEST", "()", "OUTPUT_DIR", str(out), *more]
    assert main(["train", "--config-file", str(file), *words]) == 0
    lines = (out / "metrics.json").read_text().splitlines()
    return json.loads(lines[-1])


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("retinanet_R_50_FPN_1x.yaml", NARROW),
        ("retinanet_R_50_FPN_3x.yaml", NARROW),
        ("retinanet_R_101_FPN_3x.yaml", NARROW),
        ("fcos_R_50_FPN_1x.yaml", NARROW),
        ("atss_R_50_FPN_1x.yaml", NARROW),
        ("atss_R_101_FPN_2x.yaml", NARROW),
        ("atss_X_101_32x8d_FPN_2x.yaml", ["MODEL.RESNETS.WIDTH_PER_GROUP", "1"]),
        ("atss_dcnv2_R_50_FPN_1x.yaml", NARROW),
        ("atss_dcnv2_R_101_FPN_2x.yaml", NARROW),
        ("atss_dcnv2_X_101_32x8d_FPN_2x.yaml", ["MODEL.RESNETS.WIDTH_PER_GROUP", "1"]),
    ],
)
def test_published_configs_train(file: str, more: list[str], tmp_path: Path) -> None:
    last = train(CONFIGS / file, tmp_path, *more)
    assert last["iteration"] == 1
    assert 0 < last["total_loss"] < 100


@pytest.mark.parametrize(
    "body", ["R-50-FPN-RETINANET", "R-101-FPN-RETINANET", "X-101-32x8d-FPN-RETINANET"]
)
@pytest.mark.parametrize("deformable", [False, True])
def test_the_authors_file_trains_unchanged(body: str, deformable: bool, tmp_path: Path) -> None:
    """Weights, sizes and numbers of iterations come from the command line, all else from it."""
    text = AUTHORS_FILE.replace("R-50-FPN-RETINANET", body)
    if deformable:
        stages = "STAGE_WITH_DCN: (False, True, True, True)\n    WITH_MODULATED_DCN: True\n    "
        text = text.replace("BACKBONE_OUT_CHANNELS", f"{stages}BACKBONE_OUT_CHANNELS")
        text = text.replace("USE_DCN_IN_TOWER: False", "USE_DCN_IN_TOWER: True")
    file = tmp_path / "theirs.yaml"
    file.write_text(text)
    width = ["MODEL.RESNETS.WIDTH_PER_GROUP", "1"] if body.startswith("X") else NARROW
    last = train(file, tmp_path / "out", *width)
    assert last["iteration"] == 1
    assert 0 < last["loss_centerness"] < 10


def test_the_demo_of_atss(tmp_path: Path, datasets_dir: Path) -> None:
    """``lucidet predict`` as in the issue, with thresholds of single classes."""
    config = CONFIGS / "atss_R_50_FPN_1x.yaml"
    train(config, tmp_path / "run", *NARROW)
    images = tmp_path / "demo-images"
    images.mkdir()
    for image in sorted((datasets_dir / "coco" / "val2017").iterdir())[:2]:
        (images / image.name).symlink_to(image)
    weights = str(tmp_path / "run" / "model_final.pth")
    out = tmp_path / "out"
    # a fresh head scores 0.07, the square root of prior x centerness: everything but people
    command = ["predict", "--config-file", str(config), "--weights", weights, str(images)]
    thresholds = ["--score-threshold", "0.01", "--class-thresholds", "person=0.99"]
    small = [word for pair in zip(SMALL[::2], SMALL[1::2], strict=True) for word in pair]
    assert main([*command, "--out", str(out), *thresholds, *small[:2], *small[4:], *NARROW]) == 0
    found = json.loads((out / "predictions.json").read_text())
    assert found
    assert "person" not in {record["category"] for record in found}
    assert {path.suffix for path in out.iterdir()} == {".json", ".jpg"}


def test_evaluation_with_views(
    tmp_path: Path, datasets_dir: Path, request: pytest.FixtureRequest
) -> None:
    """``TEST.AUG.ENABLED`` adds results of their own, after those of single views."""
    coco, name = datasets_dir / "coco", "evaluation_with_views"
    register_coco_instances(name, {}, eight_images(coco, tmp_path), coco / "val2017")
    request.addfinalizer(lambda: (DatasetCatalog.remove(name), MetadataCatalog.remove(name)))
    aug = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 64)", "TEST.AUG.FUSION", "vote"]
    config = str(CONFIGS / "retinanet_R_50_FPN_1x.yaml")
    words = ["OUTPUT_DIR", str(tmp_path), "DATASETS.TEST", f"('{name}',)"]
    words += ["TEST.ALLOW_PARTIAL_WEIGHTS", "True"]  # random ones
    args = default_argument_parser().parse_args(
        ["--config-file", config, "--eval-only", *SMALL, *NARROW, *aug, *words]
    )
    assert {"bbox", "bbox_TTA"} <= set(run(args))
