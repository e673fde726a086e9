"""Convolution and frozen norm as one convolution: the plain form's numbers, and its gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.layers import Conv2d, FrozenBatchNorm2d, get_norm
from lucidet.layers.fast.frozen_norm import folded, frozen_norms_folded
from lucidet.modeling.backbone.resnet import BasicStem, ResNet
from tests.modeling.operator_count import counted_operators


def randomized(module: nn.Module) -> nn.Module:
    """Give every frozen norm statistics that differ from the identity's."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            for buffer in norm.buffers():
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return module.train()


def small_net(checkpoint_stages: tuple[str, ...] = (), freeze_at: int = 2) -> ResNet:
    torch.manual_seed(0)
    stages = ResNet.make_default_stages(18, norm="FrozenBN")
    net = ResNet(
        BasicStem(norm="FrozenBN"),
        stages,
        out_features=["res2", "res5"],
        freeze_at=freeze_at,
        checkpoint_stages=checkpoint_stages,
    )
    return randomized(net)  # type: ignore[return-value]


def result(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the output and all gradients of a module."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    y = module(x)
    y = sum(v.square().mean() for v in y.values()) if isinstance(y, dict) else y
    y.square().sum().backward()
    grads = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, **grads}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-5) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        scale = float(value.abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(got[name], value, rtol=rtol, atol=rtol * scale, msg=name)


@pytest.fixture(autouse=True)
def on_a_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrozenBatchNorm2d, "fold_on", ("cpu", "cuda"))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what computes a module's results in the plain form."""

    def compute(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(FrozenBatchNorm2d, "fold_on", ())
            return result(module, x)

    return compute


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 9, 7), (1, 4, 1, 1), (0, 4, 5, 5)])
def test_convolution(bias: bool, frozen: bool, shape: Any, plain: Any) -> None:
    layer = randomized(Conv2d(4, 6, 3, padding=1, stride=2, bias=bias, norm=FrozenBatchNorm2d(6)))
    if frozen:
        layer.weight.requires_grad_(False)
    assert folded(layer) is not None
    x = torch.randn(shape)
    assert_same(result(layer, x), plain(layer, x))


@pytest.mark.parametrize("checkpointed", [(), ("res3", "res4")])
def test_whole_net(checkpointed: tuple[str, ...], plain: Any) -> None:
    net, x = small_net(checkpointed), torch.randn(2, 3, 64, 64)
    assert_same(result(net, x), plain(net, x), rtol=1e-4)


def test_channels_last(plain: Any) -> None:
    net, x = small_net(), torch.randn(2, 3, 64, 64)
    expected = plain(net, x)
    assert_same(result(net.to(memory_format=torch.channels_last), x), expected, rtol=1e-4)


def test_autocast(plain: Any) -> None:
    net, x = small_net(), torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, expected = result(net, x), plain(net, x)
    for name in expected:
        across = torch.cosine_similarity(got[name].flatten(), expected[name].flatten(), dim=0)
        assert across > 0.97, name


def test_a_frozen_weight_is_folded_once_and_again_when_it_changes() -> None:
    layer = randomized(Conv2d(4, 6, 3, bias=False, norm=FrozenBatchNorm2d(6)))
    layer.weight.requires_grad_(False)
    first = folded(layer)
    assert folded(layer)[0] is first[0]
    changes = [
        lambda: layer.weight.mul_(2),
        lambda: layer.norm.running_var.add_(1),
        lambda: layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}),
        lambda: layer.double(),
        lambda: layer.to(memory_format=torch.channels_last),
    ]
    for change in changes:
        before = folded(layer)
        change()
        weight, bias = folded(layer)
        assert weight is not before[0]
        scale, shift = layer.norm.scale_and_shift()
        torch.testing.assert_close(weight, layer.weight * scale.view(-1, 1, 1, 1))
        torch.testing.assert_close(bias, shift)
    other = copy.deepcopy(layer)
    other.weight.zero_()
    assert folded(other)[0].abs().sum() == 0
    assert folded(layer)[0].abs().sum() > 0


def test_a_frozen_weight_that_learns_again(plain: Any) -> None:
    layer = randomized(Conv2d(4, 6, 3, bias=False, norm=FrozenBatchNorm2d(6)))
    layer.weight.requires_grad_(False)
    layer(torch.randn(1, 4, 5, 5))
    layer.weight.requires_grad_(True)
    x = torch.randn(1, 4, 5, 5)
    assert_same(result(layer, x), plain(layer, x))


def test_what_stays_plain() -> None:
    class Standardized(Conv2d):
        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Any) -> Tensor:
            return super()._conv_forward(x, weight - weight.mean(), bias)

    class Own(FrozenBatchNorm2d):
        pass

    frozen = FrozenBatchNorm2d(4)
    assert folded(Conv2d(4, 4, 3, norm=frozen).eval()) is None
    assert folded(Standardized(4, 4, 3, norm=frozen)) is None
    assert folded(Conv2d(4, 4, 3, norm=Own(4))) is None
    assert folded(Conv2d(4, 32, 3, norm=get_norm("GN", 32))) is None
    assert folded(Conv2d(4, 4, 3, norm=get_norm("BN", 4))) is None
    assert folded(Conv2d(4, 4, 3)) is None


def test_hooks_of_the_norm_are_called() -> None:
    layer = Conv2d(4, 4, 3, norm=FrozenBatchNorm2d(4))
    seen = []
    layer.norm.register_forward_hook(lambda *_: seen.append(1))
    layer(torch.randn(1, 4, 5, 5))
    assert seen == [1]


def test_nothing_is_left_behind() -> None:
    """The state dict, copies and an unused layer's gradient are as before."""
    stage = randomized(nn.ModuleList(Conv2d(3, 3, 1, norm=FrozenBatchNorm2d(3)) for _ in range(2)))
    for layer in stage:
        layer.bias = None
    keys = list(stage.state_dict())
    with frozen_norms_folded(stage):
        stage[0](torch.randn(1, 3, 2, 2)).sum().backward()
    assert stage[0].weight.grad is not None
    assert stage[1].weight.grad is None
    assert list(stage.state_dict()) == keys
    copy.deepcopy(stage)[0](torch.randn(1, 3, 2, 2)).sum().backward()


def test_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two for a stage's products, and one for their gradients, whatever its depth."""
    net = small_net()
    x = torch.randn(1, 3, 64, 64)
    for _ in range(2):  # the second finds the scales
        with counted_operators(monkeypatch) as operators:
            net(x)["res5"].sum().backward()
    count = {key[0]: n for n, key in operators.by("operator")}
    assert count["aten::_foreach_mul"] == 6  # res3 to res5, both ways
    assert count["aten::convolution"] == 20
    assert "aten::mul" not in count
    assert "aten::rsqrt" not in count
