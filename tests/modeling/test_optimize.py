"""The quicker form of a detector gives what the detector gives, and follows its changes."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lucidet.bench import models
from lucidet.config import get_cfg
from lucidet.data.detection_utils import read_image
from lucidet.engine import DefaultPredictor
from lucidet.evaluation import inference_on_dataset
from lucidet.layers import Conv2d, FrozenBatchNorm2d, get_norm
from lucidet.modeling import build_model
from lucidet.modeling.backbone.resnet_blocks import BasicBlock, BottleneckBlock
from lucidet.modeling.optimize import OptimizedModel, fold_norm
from lucidet.modeling.optimize.convolution import FusedConv, why_not_fused
from lucidet.modeling.optimize.fusing import fused
from lucidet.modeling.optimize.on_host import detections_on_host
from lucidet.structures import Boxes, Instances
from tests.modeling.host_waits import counted_host_waits
from tests.modeling.operator_count import counted_operators
from tests.modeling.test_cuda_graphs import Eager

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NARROW = [
    "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM", 64,
]  # fmt: skip


def randomised(module: nn.Module) -> nn.Module:
    """Give every norm statistics of its own, so that folding them wrongly would show."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if hasattr(part, "running_mean"):
            size = part.running_mean.shape
            part.running_mean.copy_(0.1 * torch.randn(size, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(size, generator=generator))
    return module.eval()


def detector(name: str, *options: Any) -> nn.Module:
    """Return a small detector whose predicting layers say something."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"COCO-Detection/{name}.yaml"))
    cfg.merge_from_list([*NARROW, *options])
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for part_name, part in model.named_modules():
            if part_name.endswith(("cls_score", "objectness_logits", "ctrness")):
                part.weight.mul_(30)
                if part_name.endswith("head.cls_score"):
                    part.bias.fill_(-3.0)
    return randomised(model)


def images(count: int = 2) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [{"image": torch.rand(3, 96, 128, generator=generator) * 255} for _ in range(count)]


def same(a: Any, b: Any) -> torch.Tensor:
    """Return (len(a), len(b)): which detections are the same."""
    near = (a.pred_boxes.tensor[:, None] - b.pred_boxes.tensor).abs().amax(dim=2) < 0.1
    near &= (a.scores[:, None] - b.scores).abs() < 1e-3
    return near & (a.pred_classes[:, None] == b.pred_classes)


def assert_same_detections(got: list[Any], expected: list[Any]) -> int:
    """Boxes within 0.1 pixel, scores within 1e-3, same classes; return how many there are."""
    total = 0
    for one, other in zip(got, expected, strict=True):
        a, b = one["instances"], other["instances"]
        assert len(a) == len(b)
        near = same(a, b)
        # nearly equal scores may change places
        assert near.any(dim=1).all()
        assert near.any(dim=0).all()
        total += len(a)
    return total


NAMES = ["faster_rcnn_R_50_FPN_1x", "retinanet_R_50_FPN_1x", "atss_R_50_FPN_1x", "fcos_R_50_FPN_1x"]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_same_detections(name: str) -> None:
    model = detector(name)
    assert assert_same_detections(OptimizedModel(model)(images()), model(images())) > 0


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", ""])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, F.relu, nn.ReLU()])
@torch.no_grad()
def test_convolution(norm: str, bias: bool, activation: Any) -> None:
    layer = Conv2d(
        4, 6, 3, padding=1, stride=2, bias=bias, norm=get_norm(norm, 6), activation=activation
    )
    randomised(layer)
    quick = fused(layer)
    assert isinstance(quick, FusedConv)
    for shape in [(2, 4, 9, 7), (1, 4, 1, 1), (0, 4, 5, 5)]:
        x = torch.randn(shape)
        torch.testing.assert_close(quick(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["GN", "LN"])
def test_a_norm_that_looks_at_its_input_stays(norm: str) -> None:
    assert fused(Conv2d(4, 32, 3, norm=get_norm(norm, 32))) is None


def test_what_computes_otherwise_stays() -> None:
    class Own(Conv2d):
        pass

    assert fused(Own(4, 4, 3)) is None
    assert fused(Conv2d(4, 4, 3, activation=torch.tanh)) is None
    assert fused(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")) is None
    assert fused(nn.Conv2d(4, 4, 3, padding="same")) is None
    assert fused(nn.Sequential(nn.ReLU(), nn.Linear(3, 3))) is None
    assert fused(nn.Sequential()) is None


@pytest.mark.parametrize(
    "block",
    [
        BasicBlock(8, 8, norm="BN"),
        BasicBlock(8, 16, stride=2, norm="BN"),
        BottleneckBlock(8, 8, bottleneck_channels=4, norm="BN"),
        BottleneckBlock(8, 16, bottleneck_channels=4, stride=2, num_groups=2, norm="FrozenBN"),
    ],
)
@torch.no_grad()
def test_blocks_leave_their_input_alone(block: nn.Module) -> None:
    randomised(block)
    stage = nn.Sequential(block)
    x = torch.randn(1, 8, 10, 9)
    before = x.clone()
    for module in (block, stage):
        quick = fused(module)
        assert quick is not None
        torch.testing.assert_close(quick(x), module(x), atol=1e-5, rtol=1e-5)
        assert torch.equal(x, before)


def test_fold_norm_by_hand() -> None:
    """y = (2 x - 1) / sqrt(4) * 3 + 5 = 3 x + 3.5."""
    norm = FrozenBatchNorm2d(1, eps=0.0)
    norm.load_state_dict(
        {
            "weight": torch.tensor([3.0]),
            "bias": torch.tensor([5.0]),
            "running_mean": torch.tensor([1.0]),
            "running_var": torch.tensor([4.0]),
        }
    )
    weight, bias = fold_norm(torch.full((1, 1, 1, 1), 2.0), None, norm)
    assert (weight.item(), bias.item()) == (3.0, 3.5)


@torch.no_grad()
def test_the_model_is_not_touched() -> None:
    model = detector(NAMES[0])
    before = copy.deepcopy(model.state_dict())
    modules = list(model.modules())
    OptimizedModel(model)(images(1))
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))


@torch.no_grad()
def test_changes_count_from_the_next_call() -> None:
    model = detector(NAMES[1])
    twin = OptimizedModel(model)
    twin(images(1))
    model.backbone.bottom_up.stem.conv1.weight.mul_(0.5)
    assert_same_detections(twin(images(1)), model(images(1)))
    model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()})
    assert_same_detections(twin(images(1)), model(images(1)))
    model.max_detections_per_image = 3
    assert len(twin(images(1))[0]["instances"]) == 3
    model.backbone.fpn_output3 = nn.Conv2d(32, 32, 3, padding=1)
    assert_same_detections(twin(images(1)), model(images(1)))


@torch.no_grad()
def test_hooks_are_called() -> None:
    model = detector(NAMES[1])
    twin = OptimizedModel(model)
    twin(images(1))
    seen = []
    parts = [model.backbone, model.backbone.bottom_up.res3[0], model.backbone.bottom_up.stem.conv1]
    handles = [p.register_forward_hook(lambda *_, i=i: seen.append(i)) for i, p in enumerate(parts)]
    twin(images(1))
    assert sorted(seen) == [0, 1, 2]
    for handle in handles:
        handle.remove()
    twin(images(1))
    assert len(seen) == 3


def test_when_the_model_runs_itself() -> None:
    model = detector(NAMES[1])
    twin = OptimizedModel(model)
    assert "gradients" in twin.why_not()
    with torch.no_grad():
        assert twin.why_not() == ""
        model.train()
        assert "training" in twin.why_not()
        assert "none of lucidet's detectors" in OptimizedModel(nn.Identity()).why_not()
        with torch.autocast("cpu"):
            assert "autocast" in OptimizedModel(model.eval()).why_not()
    assert OptimizedModel(str)(3) == "3"


@torch.no_grad()
def test_a_copy_has_its_own_twin() -> None:
    model = detector(NAMES[1])
    twin = OptimizedModel(model)
    twin(images(1))
    other = copy.deepcopy(twin)
    assert other.model is not model
    assert_same_detections(other(images(1)), twin(images(1)))
    torch.save(model.state_dict(), io.BytesIO())


@torch.no_grad()
def test_the_plain_operators_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a torch without the fused convolutions."""
    model = detector(NAMES[0])
    expected = OptimizedModel(model)(images())
    monkeypatch.setattr("lucidet.modeling.optimize.convolution.why_not_fused", lambda: "a test")
    plain = OptimizedModel(model)
    assert_same_detections(plain(images()), expected)
    assert plain._optimized is not None
    convs = [m for m in plain._optimized.modules() if isinstance(m, FusedConv)]
    assert len(convs) > 20
    assert not any(conv._fused for conv in convs)


def test_why_not_fused_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    why_not_fused.cache_clear()
    monkeypatch.setattr(
        "lucidet.modeling.optimize.convolution._one", lambda *_: torch.zeros(1, 16, 6, 7)
    )
    assert "not exact" in why_not_fused()
    why_not_fused.cache_clear()

    def absent(*_: Any) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr("lucidet.modeling.optimize.convolution._packed", absent)
    assert "no such operator" in why_not_fused()
    why_not_fused.cache_clear()


@pytest.mark.parametrize("optimize", [True, False])
def test_the_switch_of_predictor_and_evaluation(
    optimize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"COCO-Detection/{NAMES[1]}.yaml"))
    cfg.merge_from_list([*NARROW, "TEST.OPTIMIZE", optimize, "INPUT.MIN_SIZE_TEST", 64])
    predictor = DefaultPredictor(cfg)
    predictor(np.zeros((32, 40, 3), np.uint8))
    assert (predictor._optimized is not None) is optimize

    calls = []
    forward = FusedConv.forward
    monkeypatch.setattr(FusedConv, "forward", lambda *a: calls.append(1) or forward(*a))
    inference_on_dataset(detector(NAMES[1]), [images(1)], None, optimize=optimize)
    assert bool(calls) is optimize


@torch.no_grad()
def test_a_forward_put_on_an_object_is_called() -> None:
    model = detector(NAMES[1])
    stem = model.backbone.bottom_up.stem
    stem.forward = lambda x: type(stem).forward(stem, x) * 0
    assert_same_detections(OptimizedModel(model)(images(1)), model(images(1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FasterRCNN", "RetinaNet", "ATSS"])
@torch.no_grad()
def test_real_images(name: str, datasets_dir: Path) -> None:
    """The same count, boxes within 0.1 pixel and scores within 1e-3, ResNet-50, short side 128.

    Random weights give many nearly equal scores, so that in one image or another the 100th and the
    101st change places, of which one can lie outside the image and be dropped.
    """
    model = models.detector(name)
    twin = OptimizedModel(model)
    total, other_count = 0, 0
    for path in sorted((datasets_dir / "coco").rglob("*.jpg"))[:40:2]:
        pixels = torch.from_numpy(read_image(path, "BGR").copy()).permute(2, 0, 1).float()
        scale = 128 / min(pixels.shape[1:])
        small = F.interpolate(pixels[None], scale_factor=scale, mode="bilinear")[0]
        ours, plain = (net([{"image": small}])[0]["instances"] for net in (twin, model))
        near = same(ours, plain)
        for found, unmatched in ((ours, ~near.any(dim=1)), (plain, ~near.any(dim=0))):
            assert (found.scores[unmatched] < found.scores.min() + 1e-3).all()
        total += len(ours)
        other_count += len(ours) != len(plain)
    assert total > 200
    assert other_count <= 1


# ------------------------------------------------------------------------------------ on a GPU


@pytest.mark.parametrize("name", NAMES[:2])
@torch.no_grad()
def test_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs and one copy of the detections: the same detections, on the host."""
    model = detector(name)
    expected = OptimizedModel(model)(images())
    optimized = OptimizedModel(model, capture=Eager)
    for _ in range(4):
        with counted_operators(monkeypatch) as operators:
            got = optimized(images())
            assert all(one["instances"].scores.device.type == "cpu" for one in got)
    assert optimized._graphs is not None
    assert [part.capture.forwards for part in optimized._graphs.parts] == [2, 2]
    assert_same_detections(got, expected)
    copied = [key[1] for _, key in operators.by("operator", "place") if key[0] == "aten::_to_copy"]
    assert sum("on_host" in where for where in copied) == 1
    with counted_host_waits(monkeypatch) as waits:
        optimized(images(3))
    assert len(waits) == 1, waits.places


def test_detections_on_host_of_any_kind() -> None:
    instances = Instances((4, 6), pred_boxes=Boxes(torch.rand(3, 4)), scores=torch.rand(3))
    instances.pred_classes = torch.tensor([5, 2**40, 1])
    instances.names = ["a", "b", "c"]
    instances.good = torch.tensor([True, False, True])
    instances.half = torch.rand(3).half()
    empty = Instances((2, 2), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    found = detections_on_host([{"instances": instances, "more": 3}, {"proposals": empty}])
    assert found[0]["more"] == 3
    assert found[0]["instances"].image_size == (4, 6)
    for name, value in instances.get_fields().items():
        got = found[0]["instances"].get(name)
        if name == "pred_boxes":
            assert torch.equal(got.tensor, value.tensor)
        else:
            assert got == value if name == "names" else torch.equal(got, value)
    assert found[1]["proposals"].pred_boxes.tensor.shape == (0, 4)
    assert detections_on_host([]) == []
    assert detections_on_host([{"instances": Instances((1, 1))}])[0]["instances"].get_fields() == {}


def test_weights_are_cast_once() -> None:
    """What autocast computes with is what it would cast in every call."""
    linear, conv = nn.Linear(4, 3), Conv2d(4, 6, 3, norm=get_norm("FrozenBN", 6))
    x, maps = torch.randn(2, 4), torch.randn(1, 4, 5, 5)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        quick = fused(linear, torch.bfloat16)
        assert torch.equal(quick(x), linear(x))
        quick = fused(randomised(conv), torch.bfloat16)
        assert quick._weight.dtype == torch.bfloat16
        torch.testing.assert_close(quick(maps), conv(maps), atol=0.05, rtol=0.05)
