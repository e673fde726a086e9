"""``lucidet weights``: bit-exact round trips, and the YAML that goes with converted weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torchvision.models.detection as detection
from torch import nn

from lucidet import model_zoo
from lucidet.checkpoint import DetectionCheckpointer, load_weights_file
from lucidet.checkpoint.convert import convert, read_renamed
from lucidet.checkpoint.description import config_of_weights
from lucidet.checkpoint.formats import rename_weights
from lucidet.cli.main import main
from lucidet.config import CfgNode, get_cfg
from lucidet.data import MetadataCatalog
from lucidet.modeling import build_model
from tests.checkpoint.foreign import ATSS, FPN, RETINANET, build, caffe2, maskrcnn_benchmark

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = [path.stem for path in sorted((CONFIGS / "torchvision").glob("*_fpn*.yaml"))]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("overrides", [FPN, RETINANET, ATSS], ids=["rcnn", "retinanet", "atss"])
def test_round_trip_is_bit_exact(overrides: list[object]) -> None:
    source = build(*overrides)
    with torch.no_grad():  # numbers that a detour over another type would change
        first = next(source.parameters())
        first.view(-1)[:3] = torch.tensor([float("nan"), -0.0, 1e-42])
    torch.save(source.state_dict(), "a.pth")
    convert("a.pth", "safetensors", "b.safetensors")
    convert("b.safetensors", "pth", "c.pth")
    expected = source.state_dict()
    for path in ("b.safetensors", "c.pth"):
        weights = load_weights_file(path)["model"]
        assert weights.keys() == expected.keys()
        for name, value in weights.items():
            assert value.dtype == expected[name].dtype
            assert value.numpy().tobytes() == expected[name].numpy().tobytes(), name


def effective(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    """Return all values of MODEL, INPUT.FORMAT and TEST, by name; tuples as lists."""
    found: dict[str, object] = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            found |= effective(value, f"{prefix}{key}.")
        elif f"{prefix}{key}".startswith(("MODEL.", "INPUT.FORMAT", "TEST.")):
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


@pytest.mark.parametrize("name", NAMES)
def test_converted_torchvision_gets_the_shipped_config(name: str) -> None:
    """As the weights of a fresh model, whose norms are trainable and of epsilon 1e-5."""
    oracle = getattr(detection, name)(weights=None, weights_backbone=None)
    torch.save(oracle.state_dict(), "tv.pth")
    done = convert("tv.pth", out="ours.safetensors")
    ours, shipped = get_cfg(), get_cfg()
    ours.merge_from_file(str(done.config))
    shipped.merge_from_file(str(CONFIGS / "torchvision" / f"{name}.yaml"))
    assert ours.MODEL.WEIGHTS == "ours.safetensors"
    assert ours.DATASETS.TEST == shipped.DATASETS.TEST
    norm_keys = ("MODEL.RESNETS.NORM_EPS", "MODEL.BACKBONE.FREEZE_AT", "MODEL.WEIGHTS")
    norm_keys += ("MODEL.RESNETS.NORM", "MODEL.MOBILENET.NORM")
    a, b = effective(ours), effective(shipped)
    differ = {k for k in a if a[k] != b[k]} - set(norm_keys)
    if "320" in name:  # nothing in the weights tells it from its larger sister
        differ -= {"MODEL.RPN.PRE_NMS_TOPK_TEST", "MODEL.RPN.POST_NMS_TOPK_TEST"}
    assert differ == set(), {k: (a[k], b[k]) for k in differ}
    ours.MODEL.DEVICE = "cpu"
    model = build_model(ours)
    DetectionCheckpointer(model).load(ours.MODEL.WEIGHTS)
    expected = read_renamed("tv.pth").weights
    assert model.state_dict().keys() <= expected.keys() | model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("name", [name for name in NAMES if "keypoint" not in name])
def test_shipped_class_map_leads_from_labels_to_cocos_classes(name: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "torchvision" / f"{name}.yaml"))
    ids = MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id
    first = 1 if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" else 0  # label of class 0
    class_map = cfg.MODEL.CLASS_MAP
    assert {k + first: own for k, own in enumerate(class_map) if own >= 0} == ids
    assert len(class_map) + first == 91


@pytest.mark.parametrize("classes", [2, 81, 92])
@pytest.mark.parametrize(
    ("name", "key", "less"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "ROI_HEADS", 1),
        ("retinanet_resnet50_fpn", "RETINANET", 0),
        ("fcos_resnet50_fpn", "FCOS", 0),
    ],
)
def test_weights_trained_on_other_data_get_no_class_map(
    name: str, key: str, less: int, classes: int
) -> None:
    with torch.device("meta"):
        oracle = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=classes)
    settings = rename_weights(oracle.state_dict(), False).settings
    assert settings[f"MODEL.{key}.NUM_CLASSES"] == classes - less
    assert not {"MODEL.CLASS_MAP", "DATASETS.TEST"} & set(settings)


@pytest.mark.parametrize(
    ("foreign", "overrides"),
    [("caffe2", FPN), ("caffe2", RETINANET), ("benchmark", ATSS), ("benchmark", FPN)],
)
def test_yaml_builds_a_model_that_the_weights_fill(foreign: str, overrides: list[object]) -> None:
    wide = [  # the standard widths, as far as the weights can't tell them
        *("MODEL.FPN.OUT_CHANNELS", 256, "MODEL.ROI_BOX_HEAD.FC_DIM", 1024),
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256),
        *("MODEL.RESNETS.WIDTH_PER_GROUP", 64, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
    ]
    source = build(*overrides, *wide)
    if foreign == "caffe2":
        blobs = {k: v.numpy() for k, v in caffe2(source.state_dict()).items()}
        Path("in.pkl").write_bytes(pickle.dumps({"blobs": blobs}, 2))
    else:
        torch.save({"model": maskrcnn_benchmark(source.state_dict())}, "in.pkl")
    done = convert("in.pkl", out="out.safetensors")
    cfg = get_cfg()
    cfg.merge_from_file(str(done.config))
    cfg.MODEL.DEVICE = "cpu"
    assert (foreign == "benchmark") == cfg.MODEL.LEGACY_PLUS_ONE
    model = build_model(cfg)
    assert_filled(model, done.renamed.weights)


def assert_filled(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    needed = {name for name in state if "num_batches_tracked" not in name}
    assert set(weights) == needed


# ----------------------------------------------------------------------------------- the command


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    source = build(*FPN)
    torch.save({"model": source.state_dict(), "pixel": 1}, "model_final.pth")
    assert main(["weights", "convert", "model_final.pth", "--to", "safetensors"]) == 0
    out = capsys.readouterr().out
    assert "wrote model_final.safetensors" in out
    assert Path("model_final.yaml").is_file()
    assert main(["weights", "show", "model_final.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "lucidet or detectron2" in out
    assert "MODEL.ROI_HEADS.NUM_CLASSES: 5" in out


def test_input_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(build(*FPN).state_dict(), "a.pth")
    assert main(["weights", "convert", "a.pth", "--to", "pth"]) == 2
    assert "is the input" in capsys.readouterr().err


def test_zoo_name_without_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message that docs/weights.md shows."""
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LUCIDET_OFFLINE", "1")
    address = "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"
    assert main(["weights", "convert", address, "--to", "safetensors"]) == 2
    message = capsys.readouterr().err
    assert f"cannot fetch the weights {address} (LUCIDET_OFFLINE is set)" in message
    assert "Fetch https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/" in message
    assert f"put it here as {tmp_path / 'cache' / 'weights'}" in message
    assert 'MODEL.WEIGHTS "" trains from scratch' in message


def test_zoo_name_takes_the_config_of_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LUCIDET_OFFLINE", "1")
    from lucidet.checkpoint.addresses import url_of
    from lucidet.checkpoint.download import cached_path

    address = "detectron2://COCO-Detection/retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl"
    cached = cached_path(url_of(address))
    cached.parent.mkdir(parents=True)
    published = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    published.MODEL.DEVICE = "cpu"
    arrays = {k: v.numpy() for k, v in build_model(published).state_dict().items()}
    cached.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    done = convert(address)
    cfg = get_cfg()
    cfg.merge_from_file(str(done.config))
    assert cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    assert cfg.SOLVER.BASE_LR == 0.01  # only that config says so
    assert cfg.MODEL.WEIGHTS == "model_final_bfca0b.safetensors"


@pytest.mark.parametrize("overrides", [FPN, RETINANET, ATSS], ids=["rcnn", "retinanet", "atss"])
def test_widths_are_read_off_the_weights(overrides: list[object]) -> None:
    """Narrow models: nothing but the file says that FPN.OUT_CHANNELS is 32."""
    torch.save(build(*overrides).state_dict(), "narrow.pth")
    done = convert("narrow.pth")
    cfg = get_cfg()
    cfg.merge_from_file(str(done.config))
    assert cfg.MODEL.FPN.OUT_CHANNELS == 32
    assert (cfg.MODEL.RESNETS.STEM_OUT_CHANNELS, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS) == (8, 8)
    if overrides is FPN:
        head = cfg.MODEL.ROI_BOX_HEAD
        assert (head.NUM_FC, head.FC_DIM, head.POOLER_RESOLUTION) == (2, 16, 3)
    again = config_of_weights(done.weights)  # the file itself knows
    assert again.MODEL.FPN.OUT_CHANNELS == 32
    again.MODEL.DEVICE = "cpu"
    DetectionCheckpointer(build_model(again), complete=True).load(str(done.weights))


def test_what_no_config_fits_is_not_written() -> None:
    model = build(*FPN, "MODEL.ANCHOR_GENERATOR.SIZES", [[32, 40]] * 5)
    torch.save(model.state_dict(), "six_anchors.pth")
    with pytest.raises(ValueError, match=r"(?s)nothing was written.*--config-file.*another shape"):
        convert("six_anchors.pth", out="ours.safetensors")
    assert not Path("ours.safetensors").exists()
