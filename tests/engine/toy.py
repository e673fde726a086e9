"""A model, data and a trainer small enough for tests of everything around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from lucidet.engine.hooks import LRScheduler, RandomState
from lucidet.engine.train_loop import SimpleTrainer
from lucidet.utils import comm


class ToyDetector(nn.Module):
    """Two losses, each a mean over the images of a batch; `noise` draws random numbers."""

    def __init__(self, noise: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.backbone = nn.Linear(4, 8)
            self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
            self.head = nn.Linear(8, 2)
        self.noise = noise
        self.metrics: dict[str, Any] = {}

    def forward(self, batch: Sequence[dict[str, Any]]) -> Any:
        x = torch.stack([record["image"] for record in batch])
        y = self.head(self.norm(self.backbone(x)).relu())
        if not self.training:
            return [{"score": float(row.sum())} for row in y]
        y = y + self.noise * torch.randn(y.shape)
        self.metrics = {"toy/images": len(batch), "toy/mean": y.detach().mean()}
        return {"loss_cls": (y[:, 0] - 1).square().mean(), "loss_box_reg": y[:, 1].abs().mean()}


def record(number: int) -> dict[str, Any]:
    """Image `number` of a fixed data set: 4 values."""
    generator = torch.Generator().manual_seed(number)
    return {"image": torch.randn(4, generator=generator), "file_name": f"{number}.jpg"}


class ToyLoader:
    """Endless batches of images 0, 1, 2 ...; each process takes its part of each batch."""

    def __init__(self, batch: int = 4, start: int = 0) -> None:
        self.batch = batch
        self.start = start

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        torch.rand(1)  # torch's DataLoader draws here too
        return self._batches()

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        rank, world = comm.get_rank(), comm.get_world_size()
        first = self.start * self.batch
        while True:
            numbers = range(first, first + self.batch)
            yield [record(n) for n in numbers[rank::world]]
            first += self.batch


def make_trainer(
    model: nn.Module | None = None, lr: float = 0.1, start: int = 0, batch: int = 4, **kwargs: Any
) -> SimpleTrainer:
    """A trainer with momentum and a schedule that halves the rate every 3 iterations."""
    model = ToyDetector() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    trainer = SimpleTrainer(model, ToyLoader(batch, start), optimizer, **kwargs)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    trainer.register_hooks([LRScheduler(optimizer, schedule), RandomState()])
    return trainer


def losses_of(trainer: Any) -> list[float]:
    """Total losses in the order of iterations."""
    return [value for value, _ in trainer.storage.history("total_loss").values()]
