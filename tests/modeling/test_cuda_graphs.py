"""Graphed parts on a CPU: a capture that computes eagerly, with a graph's way of using memory."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.layers import FrozenBatchNorm2d
from lucidet.modeling.optimize.cuda_graphs import FlatGradients, Replay, gradients_of
from lucidet.modeling.optimize.graphed_parts import GraphedParts
from tests.modeling.tiny import ATSS, FPN, RETINANET, record, tiny_config, tiny_model


class Eager:
    """Captures as a CUDA graph would, but runs the function again at each replay."""

    made: list[Eager]

    def __init__(self) -> None:
        self.captures = self.forwards = self.backwards = 0

    def __call__(
        self,
        function: Callable[..., list[Tensor]],
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor] | None,
    ) -> Replay:
        self.captures += 1
        static = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        outputs = function(*static)  # a warm-up: statistics of norms move
        results = [torch.full_like(output.detach(), torch.nan) for output in outputs]
        grad_outputs = [
            torch.zeros_like(r) if o.requires_grad else None
            for r, o in zip(results, outputs, strict=True)
        ]
        of_inputs, of_parameters = gradients_of(outputs, static, parameters)
        grad_inputs = [None if g is None else torch.zeros_like(g) for g in of_inputs]
        flat = FlatGradients(parameters or [], [g is not None for g in of_parameters])
        live: list[Any] = []

        def forward() -> None:
            self.forwards += 1
            with torch.set_grad_enabled(parameters is not None):
                live[:] = function(*static)
            with torch.no_grad():
                for result, output in zip(results, live, strict=True):
                    result.copy_(output)

        def backward() -> None:
            self.backwards += 1
            for_inputs, found = gradients_of(live, static, parameters, grad_outputs)
            for place, gradient in zip(grad_inputs, for_inputs, strict=True):
                if place is not None:
                    place.copy_(gradient)
            flat.store(found)

        done = backward if parameters is not None else None
        return Replay(static, results, forward, grad_outputs, grad_inputs, flat, done)


def graphed(model: nn.Module, training: bool = True, **options: Any) -> GraphedParts:
    return GraphedParts(model, training=training, capture=Eager, **options)


def images(size: tuple[int, int] = (64, 96), count: int = 2, seed: int = 0) -> list[Any]:
    boxes = [[5.0, 5, 40, 50], [30, 20, 60, 60]]
    return [record(size, boxes, seed=seed + i) for i in range(count)]


def step(model: nn.Module, batch: Any, parts: GraphedParts | None = None) -> dict[str, Tensor]:
    """Add gradients of a batch; return the losses."""
    torch.manual_seed(1)
    if parts is None:
        losses = model(batch)
    else:
        with parts.in_use():
            losses = model(batch)
    sum(losses.values()).backward()
    return {name: loss.detach().clone() for name, loss in losses.items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        atol = 1e-5 * float(value.abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=atol, msg=name)


FROZEN = [("MODEL.RESNETS.NORM", "FrozenBN"), ("MODEL.BACKBONE.FREEZE_AT", 2)]


def pair(parts: list[Any], *more: list[Any]) -> tuple[nn.Module, nn.Module]:
    """Return a model and its copy, in training mode."""
    model = tiny_model(tiny_config(parts, *more)).train()
    return model, copy.deepcopy(model)


@pytest.mark.parametrize("parts", [FPN, RETINANET, ATSS], ids=["rcnn", "retinanet", "atss"])
@pytest.mark.parametrize("kind", ["BN", "FrozenBN", "folded"])
def test_training_is_the_same(parts: list[Any], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, gradients, and the statistics of norms, of six steps; four of them are replays."""
    more = [] if kind == "BN" else FROZEN
    if kind == "folded":
        monkeypatch.setattr(FrozenBatchNorm2d, "fold_on", ("cpu",))
    plain, model = pair(parts, more)
    runner = graphed(model)
    rate = 1e-8 if more else 1e-3  # without norms that adapt, activations are large
    optimizers = [torch.optim.SGD(m.parameters(), lr=rate) for m in (plain, model)]
    for index in range(6):
        batch = images(seed=10 * index)
        for optimizer in optimizers:
            optimizer.zero_grad()
        assert_close(step(model, batch, runner), step(plain, batch))
        assert_close(gradients(model), gradients(plain))
        for optimizer in optimizers:
            optimizer.step()
        assert_close(model.state_dict(), plain.state_dict())
    for part in runner.parts:
        assert (part.capture.captures, part.capture.backwards) == (1, 4)


def test_accumulated_gradients() -> None:
    """Of several batches, and of several shapes: what is kept is not the graph's memory."""
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model)
    for _ in range(3):
        for size in ((64, 96), (64, 64)):
            step(model, images(size), runner)
    model.zero_grad()
    plain = copy.deepcopy(model)
    for index, size in enumerate([(64, 96), (64, 96), (64, 64), (64, 96)]):
        step(model, images(size, seed=index), runner)
        step(plain, images(size, seed=index))
    assert_close(gradients(model), gradients(plain))


def test_autocast() -> None:
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(3):
            step(model, images(), runner)
        plain = copy.deepcopy(model)
        got, expected = step(model, images(), runner), step(plain, images())
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-2, atol=1e-2)
    keys = set(runner.parts[0].replays)
    step(model, images(), runner)  # without it: another graph
    assert set(runner.parts[0].replays) == keys
    assert len(runner.parts[0].seen) == 2


def test_few_shapes_are_kept() -> None:
    """The one that was not used for longest goes; a shape is captured at its third time."""
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model, max_shapes=2)
    backbone = runner.parts[0]
    sizes = [(64, 64), (64, 96), (32, 64)]
    for size in sizes[:2]:
        for times in (0, 0, 1):
            step(model, images(size), runner)
            assert (backbone.capture.captures > sizes.index(size)) == bool(times)
    step(model, images(sizes[0]), runner)
    for times in range(6):  # a third shape has to come twice as often
        assert backbone.capture.captures == 2 + times // 6
        step(model, images(sizes[2]), runner)
    assert len(backbone.replays) == 2
    forwards = backbone.capture.forwards
    step(model, images(sizes[0]), runner)
    assert backbone.capture.forwards == forwards + 1  # still there
    step(model, images(sizes[1]), runner)
    assert backbone.capture.forwards == forwards + 1


def test_too_many_shapes(caplog: pytest.LogCaptureFixture) -> None:
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model, max_shapes=1)
    with caplog.at_level(logging.INFO, "lucidet"):
        runner.parts[0]._captures = 4  # so many were captured for hardly more uses
        for _ in range(15):
            step(model, images((64, 64)), runner)
    assert "backbone runs without CUDA graphs: images come in too many shapes" in caplog.text
    assert not runner.parts[0].replays


def test_images_are_padded_to_few_sizes() -> None:
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model, bucket=128)
    for size in ((64, 96), (100, 128), (30, 30)):
        step(model, images(size), runner)
    assert runner.parts[0].capture.captures == 1
    assert model.padding_multiple == 1
    assert model.preprocess_image(images((64, 96))).tensor.shape[-2:] == (64, 96)


def test_only_in_the_block() -> None:
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model)
    for _ in range(4):
        step(model, images(), runner)
    replays = runner.parts[0].capture.forwards
    model(images())
    copy.deepcopy(model)(images())
    assert runner.parts[0].capture.forwards == replays
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_changed_weights() -> None:
    """Weights that move in place count at the next replay; new and frozen ones make a new graph."""
    _, model = pair(RETINANET, FROZEN)
    runner = graphed(model)
    for _ in range(4):
        step(model, images(), runner)
    plain = copy.deepcopy(model)
    changes = [
        lambda m: m.backbone.fpn_output3.weight.data.mul_(0.5),
        lambda m: m.load_state_dict({k: v * 0.9 for k, v in m.state_dict().items()}),
        lambda m: m.backbone.bottom_up.res2.requires_grad_(True),
        lambda m: setattr(m.backbone.fpn_output3, "weight", nn.Parameter(torch.ones(64, 64, 3, 3))),
    ]
    for change in changes:
        for each in (model, plain):
            with torch.no_grad():
                change(each)
            each.zero_grad()
        assert_close(step(model, images(), runner), step(plain, images()))
        assert_close(gradients(model), gradients(plain))


class TestFallBack:
    """What a graph can't do runs as it is, and the log says why, once."""

    @pytest.fixture
    def model(self) -> nn.Module:
        return pair(RETINANET, FROZEN)[0]

    def said(self, model: nn.Module, caplog: pytest.LogCaptureFixture, capture: Any = Eager) -> str:
        runner = GraphedParts(model, training=True, capture=capture)
        with caplog.at_level(logging.INFO, "lucidet"):
            for _ in range(4):
                step(model, images(), runner)
        lines = [r.getMessage() for r in caplog.records]
        assert len(lines) == len(set(lines))
        assert not runner.parts[0].replays
        return "\n".join(lines)

    def test_hooks(self, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        seen: list[int] = []
        model.backbone.fpn_output3.register_forward_hook(lambda *_: seen.append(1))
        assert "a hook watches a Conv2d in it" in self.said(model, caplog)
        assert len(seen) == 4

    def test_replaced_forward(self, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        conv = model.backbone.fpn_output3
        conv.forward = lambda x: type(conv).forward(conv, x)
        assert "the forward of a Conv2d in it was replaced" in self.said(model, caplog)

    def test_checkpointed(self, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        model.backbone.bottom_up.checkpoint_stages = frozenset(["res4"])
        assert "CHECKPOINT_STAGES" in self.said(model, caplog)

    def test_exchanged_statistics(self, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        model.backbone.bottom_up.res5.add_module("norm", nn.SyncBatchNorm(256))
        assert "statistics between processes" in self.said_of_key(model)

    def said_of_key(self, model: nn.Module) -> str:
        runner = graphed(model)
        with torch.enable_grad():
            return runner.parts[0].why_not()

    def test_capture_that_fails(self, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(Eager):
            def __call__(self, *args: Any) -> Replay:
                raise RuntimeError("operation not permitted when stream is capturing")

        found = self.said(model, caplog, Broken)
        assert "backbone runs without CUDA graphs: RuntimeError: operation not perm" in found

    def test_called_twice(self, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        runner = graphed(model)
        x = torch.randn(1, 3, 64, 64)
        with caplog.at_level(logging.INFO, "lucidet"):
            for _ in range(4):
                with runner.in_use():
                    first, second = model.backbone(x)["p3"], model.backbone(x * 2)["p3"]
        assert "more than once a step" in caplog.text
        assert not torch.equal(first, second)

    def test_errors_of_the_model_stay_its_own(self, model: nn.Module) -> None:
        class Wrong(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                raise KeyError("p9")

        model.backbone = Wrong()
        for _ in range(4):
            with pytest.raises(KeyError, match="p9"), graphed(model).in_use():
                model.backbone(torch.zeros(1))


@torch.no_grad()
def test_inference_is_the_same() -> None:
    model = pair(RETINANET, FROZEN)[0].eval()
    runner = graphed(model, training=False)
    for index in range(5):
        batch = images(seed=index)
        expected = model(batch)
        with runner.in_use():
            got = model(batch)
        for one, other in zip(got, expected, strict=True):
            assert torch.equal(one["instances"].scores, other["instances"].scores)
    assert runner.parts[0].capture.forwards == 3
    model.train()
    with runner.in_use(), torch.enable_grad():
        model(images())  # not by a graph of inference
    assert runner.parts[0].capture.forwards == 3


def test_flat_gradients() -> None:
    """Copies, with the parameters' strides; unused ones stay None; two types."""
    last = torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)
    parameters = [torch.zeros(2, 3), last, torch.zeros(5), torch.zeros(2, dtype=torch.float64)]
    flat = FlatGradients(parameters, [True, True, False, True])
    given = [torch.randn(p.shape, dtype=p.dtype) for p in parameters]
    flat.store([given[0], given[1], None, given[3]])
    fresh = flat.fresh()
    flat.store([torch.zeros_like(g) for g in given])
    assert fresh[2] is None
    for index in (0, 1, 3):
        assert torch.equal(fresh[index], given[index])
        assert fresh[index].stride() == parameters[index].stride()
    assert FlatGradients([], []).fresh() == []
