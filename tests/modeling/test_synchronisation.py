"""How often a training step makes the host wait for a GPU: a bound for each detector.

Each wait lets the GPU run dry, as the host queues nothing meanwhile. The numbers must depend on
nothing but the architecture and, in the two-stage case, the images of a batch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lucidet.engine import AMPTrainer, SimpleTrainer
from lucidet.solver import create_optimizer, get_default_optimizer_params
from lucidet.solver.optimizer import add_clipping
from lucidet.utils.events import EventStorage
from tests.modeling.host_waits import counted_host_waits, put_on_host
from tests.modeling.tiny import ATSS, FCOS, FPN, RETINANET, record, tiny_config, tiny_model

#: waits of a step, whatever the number of images. Every detector has to know how many positives
#: there are, as only these are encoded; Faster R-CNN also how many proposals were sampled.
WAITS = {"FasterRCNN": 2, "RetinaNet": 1, "ATSS": 1, "FCOS": 1}
PARTS = {"FasterRCNN": FPN, "RetinaNet": RETINANET, "ATSS": ATSS, "FCOS": FCOS}

ARCHITECTURES = pytest.mark.parametrize("name", WAITS)


def model_of(name: str, seed: int = 0) -> nn.Module:
    return tiny_model(tiny_config(PARTS[name]), seed).train()


def batch(objects: tuple[int, ...], seed: int = 0) -> list[dict[str, Any]]:
    """Return noise images with so many random objects each, on the host."""
    generator = torch.Generator().manual_seed(seed)
    records = []
    for image, count in enumerate(objects):
        low = 60 * torch.rand(count, 2, generator=generator)
        high = low + 10 + 26 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([low, high], dim=1).tolist()
        records.append(record((96, 128), boxes, seed=10 * seed + image))
    return put_on_host(records)


@ARCHITECTURES
@pytest.mark.parametrize("objects", [(0, 0), (1, 3), (0, 40)])
def test_forward_and_backward(
    name: str, objects: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name)
    for seed in range(2):
        images = batch(objects, seed)
        with counted_host_waits(monkeypatch) as waits:
            sum(model(images).values()).backward()
        assert len(waits) == WAITS[name], waits.places


@ARCHITECTURES
@pytest.mark.parametrize("amp", [False, True])
def test_step_of_the_trainers(name: str, amp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainers add none: losses are read when they are written, every 20 steps."""
    model = model_of(name)
    optimizer = "ADAMW" if name == "RetinaNet" else "SGD"
    groups = get_default_optimizer_params(model, base_lr=1e-4)
    chosen = create_optimizer(groups, name=optimizer, lr=1e-4)
    data = [batch((2, 3), seed) for seed in range(3)]
    trainer: SimpleTrainer
    if amp:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        trainer = AMPTrainer(model, data, chosen, 20, grad_scaler=scaler, precision=torch.bfloat16)
    else:
        trainer = SimpleTrainer(model, data, chosen, 20)
    trainer.max_iter = 100
    with EventStorage():
        trainer.run_step()  # the first step makes the optimiser's state
        with counted_host_waits(monkeypatch) as waits:
            for trainer.iter in (1,):
                trainer.run_step()
    assert len(waits) == WAITS[name], waits.places


@ARCHITECTURES
@pytest.mark.parametrize("more", [[], [("MODEL.CLASS_MAP", [1, -1, 0])]], ids=["", "class map"])
@torch.no_grad()
def test_inference(name: str, more: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when the results of a batch are looked at; and they are those of the CPU."""
    low = [(f"MODEL.{part}.SCORE_THRESH_TEST", 0.0) for part in ("RETINANET", "ATSS", "FCOS")]
    model = tiny_model(tiny_config(PARTS[name], low, more)).eval()
    expected = model([record((96, 128), None, seed=seed) for seed in range(3)])
    images = [record((96, 128), [[1.0, 1, 9, 9]], seed=seed) for seed in range(3)]
    with counted_host_waits(monkeypatch) as waits:
        found = model(put_on_host(images))
        assert [len(f["instances"]) for f in found] == [len(e["instances"]) for e in expected]
    assert len(waits) == 1, waits.places
    for got, want in zip(found, expected, strict=True):
        a, b = got["instances"], want["instances"]
        assert torch.equal(a.pred_classes, b.pred_classes)
        torch.testing.assert_close(a.scores, b.scores)
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor)


@pytest.mark.parametrize("kind", ["value", "norm", "full_model"])
def test_clipping(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of scaled gradients, with the decision whether to leave out the step."""
    model = nn.Linear(3, 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer = create_optimizer(get_default_optimizer_params(model, base_lr=0.1), lr=0.1)
    add_clipping(optimizer, kind, 1.0)
    with counted_host_waits(monkeypatch) as waits:
        scaler.scale(model(torch.ones(2, 3)).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert waits.places == []


class TestTheCounting:
    """The instrument itself: each way of waiting counts once, and nothing else does."""

    @pytest.mark.parametrize(
        "wait",
        [
            lambda x: x.sum().item(),
            lambda x: bool((x > 0).any()),
            lambda x: float(x[0]),
            lambda x: x.nonzero(),
            lambda x: torch.where(x > 0),
            lambda x: x[x > 0],
            lambda x: x.masked_select(x > 0),
            lambda x: x.unique(),
            lambda x: x.long().bincount(),
            lambda x: x.repeat_interleave(x.long()),
            lambda x: x.tolist(),
            lambda x: x.cpu(),
            lambda x: x.to("cpu"),
            lambda x: x[[0, 1]],
            lambda x: x.new_tensor([1.0]),
            lambda x: torch.tensor([1.0], device=x.device),
            lambda x: torch.equal(x, x),
        ],
    )
    def test_waits(self, wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        x = torch.tensor([1.0, 2.0])
        with counted_host_waits(monkeypatch) as waits:
            wait(x)
        assert len(waits) == 1, waits.places

    @pytest.mark.parametrize(
        "work",
        [
            lambda x: x.where(x > 1, 0.0).sort(),
            lambda x: x[torch.zeros(1, dtype=torch.int64)],
            lambda x: x.new_full((), 3.0),
            lambda x: x.repeat_interleave(2),
            lambda x: x.to("cpu", non_blocking=True),
            lambda x: torch.zeros(3, device=x.device) + x.sum(),
            lambda x: torch.tensor([1.0]).to(x.device, non_blocking=True),
            lambda x: x.topk(1),
        ],
    )
    def test_other_work(self, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        x = torch.tensor([1.0, 2.0, 3.0])
        with counted_host_waits(monkeypatch) as waits:
            work(x)
        assert waits.places == []

    def test_code_that_asks_sees_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x = torch.zeros(1)
        with counted_host_waits(monkeypatch):
            assert x.device.type == "cuda"
        assert x.device.type == "cpu"
