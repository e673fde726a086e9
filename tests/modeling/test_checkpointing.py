"""Checkpointed stages: the same numbers, less memory, statistics updated once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.modeling.backbone.checkpointing import checkpointed
from lucidet.modeling.backbone.resnet import BasicStem, ResNet
from tests.modeling.tiny import FPN, RETINANET, record, tiny_config, tiny_model

STAGES = ["res2", "res3", "res4", "res5"]


def resnet(norm: str, stages: list[str], freeze_at: int = 0) -> ResNet:
    torch.manual_seed(0)
    blocks = ResNet.make_default_stages(18, norm=norm)
    return ResNet(
        BasicStem(norm=norm),
        blocks,
        out_features=["res2", "res5"],
        freeze_at=freeze_at,
        checkpoint_stages=stages,
    ).train()


def step(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the gradients and then the buffers of a training step, by name."""
    loss = sum(level.square().mean() for level in net(x).values())
    loss.backward()
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(net.named_buffers())}


def assert_equal(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "naiveSyncBN", "GN", ""])
@pytest.mark.parametrize("stages", [STAGES, ["res4"]])
def test_loss_gradients_and_statistics(norm: str, stages: list[str]) -> None:
    x = torch.randn(2, 3, 64, 64)
    plain, sparing = resnet(norm, []), resnet(norm, stages)
    for _ in range(2):
        assert_equal(step(sparing, x), step(plain, x))
    if norm == "BN":
        assert int(sparing.get_submodule("res4.0.conv1.norm").num_batches_tracked) == 2


def test_frozen_stages() -> None:
    x = torch.randn(1, 3, 64, 64)
    assert_equal(step(resnet("BN", STAGES, 3), x), step(resnet("BN", [], 3), x))


def test_keeps_less() -> None:
    """What autograd holds after the forward pass, in bytes."""

    def held(net: ResNet) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(1, 3, 64, 64))
        weights = {p.data_ptr() for p in net.parameters()}
        return sum(size for pointer, size in sizes.items() if pointer not in weights)

    assert held(resnet("BN", STAGES)) < 0.6 * held(resnet("BN", []))


def test_nothing_runs_twice_without_gradients() -> None:
    calls = []
    net = resnet("BN", STAGES)
    net.get_submodule("res3").register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        net(torch.zeros(1, 3, 64, 64))
    net.eval()(torch.zeros(1, 3, 64, 64))
    assert len(calls) == 2


def test_average_over_all_batches() -> None:
    """`momentum` None is torch's plain average: its weight depends on the count of batches."""
    x = torch.randn(4, 2, 5, 5, requires_grad=True)
    norm = nn.Sequential(nn.BatchNorm2d(2, momentum=None), nn.ReLU())
    other = copy.deepcopy(norm)
    checkpointed(norm, x).sum().backward()
    other(x).sum().backward()
    assert_equal(dict(norm.named_buffers()), dict(other.named_buffers()))


@pytest.mark.parametrize("parts", [FPN, RETINANET])
def test_detector_from_a_config(parts: list[tuple[str, Any]]) -> None:
    images = [record((64, 96), [[5.0, 5, 40, 50]], seed=i) for i in range(2)]
    losses, names = [], []
    for stages in ([], STAGES):
        model = tiny_model(tiny_config(parts, [("MODEL.BACKBONE.CHECKPOINT_STAGES", stages)]))
        torch.manual_seed(1)
        found = model.train()(images)
        sum(found.values()).backward()
        losses.append({name: loss.item() for name, loss in found.items()})
        names.append(list(model.state_dict()))
    assert losses[0] == losses[1]
    assert names[0] == names[1]


def test_unknown_stage() -> None:
    with pytest.raises(ValueError, match=r"CHECKPOINT_STAGES \['res9'\] must be some of.*'res5'"):
        resnet("BN", ["res9"])
