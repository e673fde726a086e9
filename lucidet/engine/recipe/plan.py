"""A config in the making: what was asked for, what is chosen, and the reason of each choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lucidet.config import CfgNode

__all__ = ["Plan", "Request", "count"]


def count(number: float, noun: str) -> str:
    """Return a number and a noun, in the plural unless it is 1.

    >>> count(1, "epoch"), count(0.78125, "epoch"), count(1282, "iteration")
    ('1 epoch', '0.78 epochs', '1282 iterations')
    """
    shown = f"{number:.2g}" if number < 1 else f"{round(number, 1):g}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Request:
    """What a command line asks for; None leaves the choice to the recipe.

    Attributes:
        model: name of the model, for messages.
        epochs: how often each image is seen.
        batch: images of one update.
        size: length of the images' longer side, pixels.
        weights: file or address; "" starts from random weights.
        processes: processes that train together.
    """

    model: str = ""
    epochs: float | None = None
    batch: int | None = None
    size: int | None = None
    weights: str | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        for option, value in (("--epochs", self.epochs), ("--batch", self.batch)):
            if value is not None and value <= 0:
                raise ValueError(f"{option} must be positive, got {value}")
        if self.size is not None and self.size < 32:
            raise ValueError(f"--size is the longer side in pixels, at least 32, got {self.size}")


@dataclass
class Plan:
    """The config that a recipe fills in.

    Attributes:
        cfg: changed in place.
        explicit: keys that the user has set: never changed here.
        reference_batch, reference_iterations: SOLVER.IMS_PER_BATCH and MAX_ITER of the model's
            config, which its rate and steps were chosen for; 0: those of `cfg`.
        lines: (topic, choice and reason), in the order of the choices.
        warnings: what the user should know before the training starts.
    """

    cfg: CfgNode
    explicit: frozenset[str] = frozenset()
    reference_batch: int = 0
    reference_iterations: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def is_explicit(self, key: str) -> bool:
        """Return whether the user has set this key."""
        return key in self.explicit

    def get(self, key: str) -> Any:
        """Return the present value of a key such as ``SOLVER.BASE_LR``."""
        node: Any = self.cfg
        for name in key.split("."):
            node = node[name]
        return node

    def set(self, key: str, value: Any) -> Any:
        """Set a key unless the user has set it; return the value that holds now."""
        if not self.is_explicit(key):
            section, _, name = key.rpartition(".")
            node = self.get(section) if section else self.cfg
            node[name] = value
        return self.get(key)

    def say(self, topic: str, text: str) -> None:
        """Add a line to the summary."""
        self.lines.append((topic, text))

    def text(self) -> str:
        """Return the summary, a line for each topic."""
        width = max((len(topic) for topic, _ in self.lines), default=0)
        lines = [f"  {topic:<{width}}  {text}" for topic, text in self.lines]
        return "\n".join([*lines, *(f"  warning: {text}" for text in self.warnings)])
