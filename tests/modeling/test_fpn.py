"""Feature pyramids: names, shapes, fusion, top blocks, agreement with detectron2."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from lucidet.config import CfgNode, get_cfg
from lucidet.layers import ShapeSpec
from lucidet.modeling.backbone import Backbone, build_backbone
from lucidet.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from lucidet.structures import ImageList

NAMES = ["res2", "res3", "res4", "res5"]


class Given(Backbone):
    """Maps of given channels; each map is the image, averaged over its cells, repeated."""

    def __init__(self, channels: dict[str, int], strides: dict[str, int]) -> None:
        super().__init__()
        self._out_features = list(channels)
        self._out_feature_channels = channels
        self._out_feature_strides = strides

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {
            name: torch.nn.functional.avg_pool2d(x[:, :1], stride).expand(
                -1, self._out_feature_channels[name], -1, -1
            )
            for name, stride in self._out_feature_strides.items()
        }


def bottom_up(levels: tuple[int, ...] = (2, 3, 4, 5)) -> Given:
    return Given({f"res{i}": 2 * i for i in levels}, {f"res{i}": 2**i for i in levels})


def check(fpn: FPN, images: Tensor) -> dict[str, Tensor]:
    outputs = fpn(images)
    assert list(outputs) == list(fpn.output_shape())
    for name, shape in fpn.output_shape().items():
        height, width = (-(-side // shape.stride) for side in images.shape[2:])
        assert outputs[name].shape == (len(images), shape.channels, height, width), name
    return outputs


@pytest.mark.parametrize("norm", ["", "BN", "GN", "SyncBN"])
@pytest.mark.parametrize("fuse_type", ["sum", "avg"])
def test_shapes(norm: str, fuse_type: str) -> None:
    fpn = FPN(bottom_up(), NAMES, 32, norm, LastLevelMaxPool(), fuse_type).eval()
    check(fpn, torch.randn(2, 3, 96, 64))
    assert list(fpn.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    assert [s.stride for s in fpn.output_shape().values()] == [4, 8, 16, 32, 64]
    assert fpn.size_divisibility == 32
    assert fpn.padding_constraints == {"square_size": 0}
    assert ("fpn_lateral2.bias" in fpn.state_dict()) == (norm == "")


def test_fusion_by_hand() -> None:
    for fuse_type, factor in (("sum", 1.0), ("avg", 0.5)):
        fpn = FPN(bottom_up((4, 5)), ["res4", "res5"], 3, fuse_type=fuse_type)
        x = torch.randn(1, 3, 64, 64)
        maps = fpn.bottom_up(x)
        coarse = fpn.fpn_lateral5(maps["res5"])
        enlarged = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        fine = (fpn.fpn_lateral4(maps["res4"]) + enlarged) * factor
        outputs = fpn(x)
        assert torch.allclose(outputs["p4"], fpn.fpn_output4(fine), atol=1e-6)
        assert torch.allclose(outputs["p5"], fpn.fpn_output5(coarse), atol=1e-6)
        assert fpn.lateral_convs == [fpn.fpn_lateral5, fpn.fpn_lateral4]
        assert fpn.output_convs == [fpn.fpn_output5, fpn.fpn_output4]


def test_p6_is_every_second_cell_of_p5() -> None:
    fpn = FPN(bottom_up(), NAMES, 4, top_block=LastLevelMaxPool())
    outputs = fpn(torch.randn(1, 3, 96, 160))
    assert torch.equal(outputs["p6"], outputs["p5"][:, :, ::2, ::2])


@pytest.mark.parametrize("source", ["res5", "p5"])
def test_p6_and_p7(source: str) -> None:
    top = LastLevelP6P7(10 if source == "res5" else 4, 4, source)
    fpn = FPN(bottom_up((3, 4, 5)), NAMES[1:], 4, top_block=top)
    x = torch.randn(1, 3, 128, 64)
    outputs = check(fpn, x)
    assert list(outputs) == ["p3", "p4", "p5", "p6", "p7"]
    given = fpn.bottom_up(x)["res5"] if source == "res5" else outputs["p5"]
    assert torch.equal(outputs["p6"], top.p6(given))
    assert torch.equal(outputs["p7"], top.p7(outputs["p6"].relu()))


def test_any_size_of_image() -> None:
    """Padding to `size_divisibility` is usual; without it the levels still fit each other."""
    net = small(get_cfg(), "build_resnet_fpn_backbone")
    assert net(torch.randn(1, 3, 75, 101))["p2"].shape[2:] == (19, 26)


def test_square_padding_is_handed_on() -> None:
    fpn = FPN(bottom_up(), NAMES, 4, square_pad=512)
    assert fpn.padding_constraints == {"square_size": 512}
    images = [torch.zeros(3, 40, 60), torch.zeros(3, 100, 20)]
    batch = ImageList.from_tensors(
        images, fpn.size_divisibility, padding_constraints=fpn.padding_constraints
    )
    assert batch.tensor.shape == (2, 3, 512, 512)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fuse_type": "max"}, "FUSE_TYPE must be 'sum' or 'avg', got 'max'"),
        (
            {"in_features": ["res2", "res9"]},
            r"IN_FEATURES \['res2', 'res9'\].*RESNETS.OUT_FEATURES",
        ),
        ({"in_features": []}, "IN_FEATURES"),
        ({"in_features": ["res2", "res4"]}, r"strides \[4, 16\]"),
        ({"in_features": ["res3", "res2"]}, r"strides \[8, 4\]"),
    ],
)
def test_bad_arguments(changed: dict, message: str) -> None:
    arguments = {"bottom_up": bottom_up(), "in_features": NAMES, "out_channels": 4, **changed}
    with pytest.raises(ValueError, match=message):
        FPN(**arguments)


def small(cfg: CfgNode, name: str, **resnets: object) -> Backbone:
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.OUT_FEATURES = NAMES
    cfg.MODEL.FPN.IN_FEATURES = NAMES
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    for key, value in resnets.items():
        setattr(cfg.MODEL.RESNETS, key, value)
    return build_backbone(cfg)


@pytest.mark.parametrize("source", ["res5", "p5"])
def test_where_p6_starts_is_a_key(source: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.FPN.TOP_BLOCK_IN_FEATURE = source
    net = small(cfg, "build_retinanet_resnet_fpn_backbone")
    assert net.top_block.in_feature == source
    assert net.top_block.p6.in_channels == (64 if source == "res5" else 8)
    check(net, torch.randn(1, 3, 128, 128))


def test_every_parameter_learns() -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    net = small(cfg, "build_retinanet_resnet_fpn_backbone", NORM="BN")
    sum(out.square().sum() for out in net(torch.randn(1, 3, 128, 128)).values()).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


# ---- detectron2's names and numbers


def r50_fpn(name: str = "build_resnet_fpn_backbone", first: int = 0) -> Backbone:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.RESNETS.OUT_FEATURES = NAMES[first:]
    cfg.MODEL.FPN.IN_FEATURES = NAMES[first:]
    return build_backbone(cfg)


def r50_names(prefix: str, blocks: tuple[int, ...]) -> set[str]:
    """Return detectron2's names of a ResNet-50 with FrozenBN."""
    convs = ["stem.conv1"]
    for stage, count in enumerate(blocks, start=2):
        for block in range(count):
            parts = ["shortcut"] * (block == 0) + ["conv1", "conv2", "conv3"]
            convs += [f"res{stage}.{block}.{part}" for part in parts]
    norms = ["weight", "bias", "running_mean", "running_var"]
    return {f"{prefix}{conv}.weight" for conv in convs} | {
        f"{prefix}{conv}.norm.{leaf}" for conv in convs for leaf in norms
    }


def test_state_dict_names_of_r50_fpn() -> None:
    with torch.device("meta"):
        state = r50_fpn().state_dict()
    expected = r50_names("bottom_up.", (3, 4, 6, 3))
    for level in (2, 3, 4, 5):
        expected |= {
            f"fpn_{part}{level}.{leaf}"
            for part in ("lateral", "output")
            for leaf in ("weight", "bias")
        }
    assert set(state) == expected
    assert state["bottom_up.stem.conv1.weight"].shape == (64, 3, 7, 7)
    assert state["bottom_up.res2.0.shortcut.norm.running_mean"].shape == (256,)
    assert state["fpn_lateral2.weight"].shape == (256, 256, 1, 1)
    assert state["fpn_output5.weight"].shape == (256, 256, 3, 3)


def test_state_dict_names_of_retinanets_pyramid() -> None:
    with torch.device("meta"):
        state = r50_fpn("build_retinanet_resnet_fpn_backbone", first=1).state_dict()
    top = {name for name in state if name.startswith("top_block")}
    assert top == {f"top_block.{p}.{leaf}" for p in ("p6", "p7") for leaf in ("weight", "bias")}
    assert state["top_block.p6.weight"].shape == (256, 2048, 3, 3)
    assert not any(name.startswith("fpn_lateral2") for name in state)


def load_recipe(fixtures_dir: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", fixtures_dir / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def give_recipe_weights(model: torch.nn.Module, recipe: ModuleType, prefix: str) -> None:
    """Load what the fixtures' recipe makes of the names that a detector would give."""
    shapes = {prefix + name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in recipe.state_dict(shapes).items()
    }
    model.load_state_dict(state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "build"),
    [
        ("faster_rcnn_R_50_FPN", r50_fpn),
        ("faster_rcnn_R_50_C4", lambda: build_backbone(get_cfg(), ShapeSpec(channels=3))),
        (
            "retinanet_R_50_FPN",
            lambda: r50_fpn("build_retinanet_resnet_fpn_backbone", first=1),
        ),
    ],
)
def test_features_agree_with_detectron2(fixtures_dir: Path, file: str, build) -> None:
    fixture = np.load(fixtures_dir / f"detectron2_{file}.npz", allow_pickle=False)
    model = build().eval()
    give_recipe_weights(model, load_recipe(fixtures_dir), "backbone.")
    mean = torch.tensor(get_cfg().MODEL.PIXEL_MEAN).view(3, 1, 1)
    images = [torch.from_numpy(fixture[f"in/image/{i}"]).float() - mean for i in range(2)]
    with torch.no_grad():
        outputs = model(ImageList.from_tensors(images, model.size_divisibility).tensor)
    names = {key.split("/")[2] for key in fixture.files if key.startswith("out/features/")}
    assert set(outputs) == names
    for name, out in outputs.items():
        assert out.shape == tuple(fixture[f"out/features/{name}/shape"])
        flat = out.double().flatten()
        sample = flat[torch.linspace(0, len(flat) - 1, 64).long()].numpy()
        expected = fixture[f"out/features/{name}/sample"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(sample, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
        statistics = [flat.mean().item(), flat.std().item()]
        np.testing.assert_allclose(
            statistics, fixture[f"out/features/{name}/mean_std"], rtol=1e-4, atol=1e-4
        )
