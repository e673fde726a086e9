"""The focal loss of one pass: the value and gradient of the formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lucidet.layers import sigmoid_focal_loss
from lucidet.layers.fast import focal_loss_sum as module
from lucidet.layers.fast.focal_loss_sum import focal_loss_sum, focal_loss_sum_plain
from tests.modeling.pretended_gpu import Watcher, pretended_gpu

# N, R_l of each level, K; positives as (image, row, class)
CASES = [
    (2, (5, 1), 3, [(0, 1, 2), (1, 4, 0), (0, 5, 1)]),
    (1, (5,), 3, []),
    (1, (0,), 3, []),
    (0, (5,), 3, []),
    (2, (300, 99, 0, 1), 91, [(1, 399, 90), (0, 299, 0), (0, 300, 0), (0, 300, 1)]),
]
ALPHA = 0.25
Rows = list[tuple[int, int, int]]


def columns(positives: Rows) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor(positives, dtype=torch.int64).reshape(-1, 3).unbind(1)  # type: ignore[return-value]


def expected(logits: list[Tensor], weights: Tensor, positives: Rows, gamma: float) -> Tensor:
    every = torch.cat(logits, dim=1)
    targets = torch.zeros_like(every)
    for at in positives:
        targets[at] = 1
    loss = sigmoid_focal_loss(every, targets, alpha=ALPHA, gamma=gamma)
    return (loss * weights[..., None]).sum()


def random_logits(n: int, sizes: tuple[int, ...], k: int) -> list[Tensor]:
    return [(torch.randn(n, size, k) * 4).requires_grad_() for size in sizes]


@pytest.mark.parametrize(("n", "sizes", "k", "positives"), CASES)
@pytest.mark.parametrize("gamma", [2.0, 1.5, 0.0])
@pytest.mark.parametrize("form", ["pieces", "small pieces", "gpu", "plain"])
def test_value_and_gradient(
    n: int,
    sizes: tuple[int, ...],
    k: int,
    positives: Rows,
    gamma: float,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SMALL", -1)
    if form == "small pieces":
        monkeypatch.setattr(module, "_CPU_PIECE", 7 * k)
    weights = torch.rand(n, sum(sizes)) * (torch.rand(n, sum(sizes)) > 0.2)
    ours = random_logits(n, sizes, k)
    theirs = [level.detach().clone().requires_grad_() for level in ours]
    function = focal_loss_sum_plain if form == "plain" else focal_loss_sum
    if form == "gpu":
        with pretended_gpu(monkeypatch, Watcher()):
            got = function(ours, weights, columns(positives), ALPHA, gamma)
            (2 * got).backward()
    else:
        got = function(ours, weights, columns(positives), ALPHA, gamma)
        (2 * got).backward()
    want = expected(theirs, weights, positives, gamma)
    (2 * want).backward()
    torch.testing.assert_close(got, want)
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("small", [-1, 1 << 17])
def test_half_precision_is_computed_in_float32(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients near 1e-7 are 0 in float16 before the loss scale comes in."""
    monkeypatch.setattr(module, "_SMALL", small)
    logits = torch.full((1, 1, 1), -6.0, dtype=torch.float16, requires_grad=True)
    total = focal_loss_sum([logits], torch.ones(1, 1), columns([]), ALPHA, 2.0)
    assert total.dtype == torch.float32
    (total * 65536).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float16
    assert logits.grad.item() > 0


@pytest.mark.parametrize("small", [-1, 1 << 17])
def test_extreme_logits_are_finite(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL", small)
    logits = torch.tensor([[[-1e4, 1e4, 0.0, 100.0]]], requires_grad=True)
    total = focal_loss_sum([logits], torch.ones(1, 1), columns([(0, 0, 1)]), ALPHA, 2.0)
    total.backward()
    assert total.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_compiled_form_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    monkeypatch.setattr(module, "_SMALL", -1)
    results = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda c=compiling: c)
        logits = torch.linspace(-3, 3, 12).view(2, 2, 3).requires_grad_()
        at = columns([(0, 1, 2), (1, 0, 1)])
        total = focal_loss_sum([logits], weights, at, ALPHA, 2.0)
        total.backward()
        results.append((total.detach(), logits.grad))
    torch.testing.assert_close(results[0], results[1])
