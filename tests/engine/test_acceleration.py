"""Compiled parts and the memory format: the same numbers, and the model stays what it was."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lucidet.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, acceleration
from lucidet.engine.acceleration import (
    CompiledParts,
    GraphedParts,
    faster_parts,
    wants_channels_last,
)
from lucidet.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from lucidet.modeling.optimize import OptimizedModel
from lucidet.utils.events import EventStorage
from tests.modeling.test_cuda_graphs import Eager
from tests.modeling.tiny import ATSS, FCOS, FPN, RETINANET, record, tiny_config, tiny_model

IMAGES = [record((64, 96), [[5.0, 5, 40, 50], [30, 20, 80, 60]], seed=i) for i in range(2)]
# of 18 layers: torch traces each one
SHALLOW = [("MODEL.RESNETS.DEPTH", 18)]


class Small(nn.Module):
    """The parts of a one-stage detector that count here; its batch is a list of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, batch: list[float]) -> dict[str, Tensor]:
        images = torch.tensor(batch).view(-1, 1, 1, 1) * torch.linspace(0, 1, 81).view(1, 1, 9, 9)
        return {"loss_cls": self.head(self.backbone(images)).square().mean()}


class Counter:
    """A backend that runs the graph as it is."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def broken(graph: Any, inputs: Any) -> Any:
    raise OSError("no C++ compiler found")


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch.compiler.reset()


def model_of(parts: list[tuple[str, Any]], *more: list[tuple[str, Any]]) -> nn.Module:
    return tiny_model(tiny_config(parts, *more)).train()


def losses(
    model: nn.Module,
    compiled: CompiledParts | None = None,
    batch: Any = IMAGES,
    statistics: bool = False,
) -> dict[str, Tensor]:
    """Return the losses of a trainer's step and the gradients.

    Batch norms use their running statistics unless `statistics`: those of a few cells make
    gradients that hang on the last bit.
    """
    found: dict[str, Tensor] = {}
    handle = model.register_forward_hook(lambda *args: found.update(args[2]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loop = SimpleTrainer(model, [batch], optimizer, compiled=compiled)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(statistics)
    torch.manual_seed(1)
    with EventStorage():
        loop.run_step()
    handle.remove()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {**{name: loss.detach() for name, loss in found.items()}, **gradients}


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=rtol, atol=rtol, msg=name)


# -------------------------------------------------------------------------------------- compiling


def test_compiled_step(caplog: pytest.LogCaptureFixture) -> None:
    plain, model = Small(), Small()
    backend = Counter()
    compiled = CompiledParts(model, backend)
    with caplog.at_level(logging.WARNING):
        for batch in ([1.0, 2.0], [3.0, 4.0, 5.0]):
            found = losses(model, compiled, batch, statistics=True)
            assert_close(found, losses(plain, None, batch, statistics=True), rtol=1e-6)
    assert "is not compiled" not in caplog.text
    assert backend.graphs == 2  # the backbone and the head, and not anew for another size
    assert_close(model.state_dict(), plain.state_dict(), rtol=1e-6)


def test_only_steps_are_compiled() -> None:
    model, backend = Small(), Counter()
    compiled = CompiledParts(model, backend)
    losses(model, compiled, [1.0, 2.0])
    graphs = backend.graphs
    model.eval()([1.0])
    copy.deepcopy(model).train()([1.0])
    assert backend.graphs == graphs
    assert all("forward" not in module.__dict__ for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("parts", [FPN, RETINANET], ids=["two stages", "one stage"])
def test_detectors(parts: list[tuple[str, Any]]) -> None:
    plain, model = model_of(parts, SHALLOW), model_of(parts, SHALLOW)
    backend = Counter()
    assert_close(losses(model, CompiledParts(model, backend)), losses(plain), rtol=1e-5)
    assert backend.graphs >= 2
    graphs = backend.graphs
    with torch.no_grad():
        model.eval()(IMAGES)
        OptimizedModel(model)(IMAGES)
    assert backend.graphs == graphs


def test_backend_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    plain, model = Small(), Small()
    compiled = CompiledParts(model, broken)
    with caplog.at_level(logging.WARNING, "lucidet"):
        found = losses(model, compiled, [1.0, 2.0])
    assert_close(found, losses(plain, None, [1.0, 2.0]), rtol=1e-6)
    said = [r.getMessage() for r in caplog.records if r.name == "lucidet.engine.acceleration"]
    assert len(said) == 2
    start = "SOLVER.COMPILE: backbone is not compiled, but runs as it is: BackendCompilerFailed: "
    assert said[0].startswith(start)
    assert "no C++ compiler found" in said[0]
    caplog.clear()
    losses(model, compiled, [1.0, 2.0])  # not tried, and not said, again
    assert "is not compiled" not in caplog.text


def test_system_that_cannot_compile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("torch.compile is not supported on Python 4")

    model = Small()
    monkeypatch.setattr(torch, "compile", refuse)
    with caplog.at_level(logging.WARNING, "lucidet"):
        found = losses(model, CompiledParts(model), [1.0])
    assert "backbone is not compiled, but runs as it is: RuntimeError: torch.compile" in caplog.text
    assert "loss_cls" in found


def test_errors_of_the_model_stay_its_own() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("p9")

    model = Small()
    model.backbone = Wrong()
    with pytest.raises(KeyError, match="p9"):
        losses(model, CompiledParts(model, Counter()), [1.0])


def test_model_of_other_parts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lucidet"):
        CompiledParts(nn.Linear(1, 1))
    assert "Linear has none of backbone, head, proposal_generator.rpn_head" in caplog.text


def test_with_checkpointed_stages() -> None:
    """The statistics of the norms are updated once here too."""

    def small(sparing: bool) -> Small:
        model = Small()
        blocks = ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=4, norm="BN")
        stem = BasicStem(1, 4, norm="BN")
        stages = ["res2"] if sparing else []
        net = ResNet(stem, [blocks], out_features=["res2"], checkpoint_stages=stages)
        model.backbone = nn.Sequential(net, _Only("res2"))
        return model

    torch.manual_seed(0)
    plain = small(sparing=False)
    model = small(sparing=True)
    model.load_state_dict(plain.state_dict())
    compiled = CompiledParts(model, "aot_eager")
    found = losses(model, compiled, [1.0, 2.0], statistics=True)
    assert_close(found, losses(plain, None, [1.0, 2.0], statistics=True), rtol=1e-5)
    assert_close(model.state_dict(), plain.state_dict(), rtol=1e-5)


class _Only(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        return maps[self.name]


@pytest.mark.slow
def test_inductor(caplog: pytest.LogCaptureFixture) -> None:
    """The real compiler, or its reason why not."""
    plain, model = Small(), Small()
    with caplog.at_level(logging.WARNING, "lucidet"):
        found = losses(model, CompiledParts(model), [1.0, 2.0], statistics=True)
    assert_close(found, losses(plain, None, [1.0, 2.0], statistics=True), rtol=1e-4)


@pytest.mark.slow
def test_from_a_config(tiny_cfg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Counter()
    patched = partial(CompiledParts, backend=backend)
    monkeypatch.setattr(acceleration, "CompiledParts", patched)
    tiny_cfg.SOLVER.COMPILE = True
    tiny_cfg.SOLVER.MAX_ITER = 2
    tiny_cfg.DATASETS.TEST = ()
    DefaultTrainer(tiny_cfg).train()
    assert backend.graphs >= 2


# ---------------------------------------------------------------------------------- memory format


@pytest.mark.parametrize(
    ("setting", "device", "mixed", "expected"),
    [
        ("auto", "cpu", False, False),
        ("auto", "cpu", True, False),  # 1.2 times as slow there
        ("auto", "cuda", False, False),
        ("auto", "cuda", True, True),
        ("auto", "mps", True, False),
        ("on", "cpu", False, True),
        ("off", "cuda", True, False),
    ],
)
def test_when_channels_last(setting: str, device: str, mixed: bool, expected: bool) -> None:
    assert wants_channels_last(setting, torch.device(device), mixed) is expected


def test_unknown_setting() -> None:
    with pytest.raises(ValueError, match=r"CHANNELS_LAST must be .* got 'true'"):
        wants_channels_last("true", torch.device("cpu"), False)


@pytest.mark.parametrize("parts", [FPN, RETINANET, ATSS, FCOS])
def test_channels_last_changes_no_number(parts: list[tuple[str, Any]]) -> None:
    plain, model = model_of(parts), model_of(parts)
    model.to(memory_format=torch.channels_last)
    found, expected = losses(model), losses(plain)
    for name, value in expected.items():
        if name.startswith("loss"):
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
        else:  # a ReLU at 0 may open or close: not each number, but the direction stays
            across = torch.cosine_similarity(found[name].flatten(), value.flatten(), dim=0)
            assert across > 0.99 or value.abs().max() < 1e-5, name


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_channels_last_from_a_config(setting: str, tiny_cfg: Any) -> None:
    tiny_cfg.SOLVER.CHANNELS_LAST = setting
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.SOLVER.MAX_ITER = 1
    tiny_cfg.DATASETS.TEST = ()
    built = DefaultTrainer(tiny_cfg)
    built.train()
    assert isinstance(built._trainer, AMPTrainer)
    weight = built.model.backbone.fpn_output2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is (setting == "on")


# ------------------------------------------------------------------------------------ CUDA graphs


@pytest.mark.parametrize(
    ("setting", "device", "graphs"),
    [("auto", "cpu", False), ("on", "cpu", False), ("off", "cuda", False), ("auto", "cuda", True)],
)
def test_when_cuda_graphs(
    setting: str, device: str, graphs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lucidet"):
        found = faster_parts(Small(), torch.device(device), compile=False, cuda_graphs=setting)
    assert isinstance(found, GraphedParts) is graphs
    told = setting == "on"
    assert ("training without CUDA graphs: the model is on 'cpu'" in caplog.text) is told


def test_compiling_goes_before_graphs() -> None:
    found = faster_parts(Small(), torch.device("cuda"), compile=True, cuda_graphs="on")
    assert isinstance(found, CompiledParts)


def test_unknown_setting_of_graphs() -> None:
    with pytest.raises(ValueError, match=r"CUDA_GRAPHS must be .* got 'yes'"):
        faster_parts(Small(), torch.device("cpu"), compile=False, cuda_graphs="yes")


def test_graphs_in_a_trainers_steps() -> None:
    """With a capture that computes eagerly: the losses and gradients of plain steps."""
    plain, model = Small(), Small()
    graphs = GraphedParts(model, training=True, capture=Eager)
    for step in range(4):
        batch = [1.0 + step, 2.0]
        found = losses(model, graphs, batch, statistics=True)  # type: ignore[arg-type]
        assert_close(found, losses(plain, None, batch, statistics=True), rtol=1e-6)
    assert all(part.capture.backwards == 2 for part in graphs.parts)
    assert_close(model.state_dict(), plain.state_dict(), rtol=1e-6)
