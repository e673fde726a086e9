"""The focal loss of one pass: the value and gradient of the formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lucidet.layers import sigmoid_focal_loss
from lucidet.layers.fast import focal_loss_sum
from lucidet.layers.fast.focal_loss_sum import focal_level_sum

# (N, R_l, K), positives as (image, row, class); row 9 belongs to another level
CASES = [
    ((2, 5, 3), [(0, 1, 2), (1, 4, 0), (0, 9, 1), (1, -3, 1)]),
    ((1, 5, 3), []),
    ((1, 0, 3), [(0, 2, 1)]),
    ((0, 5, 3), []),
    ((2, 400, 91), [(1, 399, 90)]),
]


def expected(
    logits: Tensor, part: Tensor, positives: list[tuple[int, ...]], gamma: float
) -> Tensor:
    targets = torch.zeros_like(logits)
    for image, row, k in positives:
        if 0 <= row < logits.shape[1]:
            targets[image, row, k] = 1
    loss = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=gamma)
    return (loss * part[..., None]).sum()


@pytest.mark.parametrize(("shape", "positives"), CASES)
@pytest.mark.parametrize("gamma", [2.0, 1.5, 0.0])
@pytest.mark.parametrize("piece", [1 << 15, 7])
def test_value_and_gradient(
    shape: tuple[int, int, int],
    positives: list[tuple[int, ...]],
    gamma: float,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(focal_loss_sum, "_CPU_PIECE", piece * (1 if shape[1] < 100 else 100))
    part = torch.rand(shape[:2]) > 0.2
    for image, row, _ in positives:
        if 0 <= row < shape[1]:
            part[image, row] = True
    columns = torch.tensor(positives, dtype=torch.int64).reshape(-1, 3).unbind(1)
    ours = (torch.randn(shape) * 4).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    got = focal_level_sum(ours, part, columns, (0.25, 0.75), gamma)
    want = expected(theirs, part, positives, gamma)
    torch.testing.assert_close(got, want)
    (2 * got).backward()
    (2 * want).backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_half_precision_is_computed_in_float32() -> None:
    """Gradients near 1e-7 are 0 in float16 before the loss scale comes in."""
    logits = torch.full((1, 1, 1), -6.0, dtype=torch.float16, requires_grad=True)
    none = (torch.zeros(0, dtype=torch.int64),) * 3
    total = focal_level_sum(logits, torch.ones(1, 1, dtype=torch.bool), none, (0.25, 0.75), 2.0)
    assert total.dtype == torch.float32
    (total * 65536).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float16
    assert logits.grad.item() > 0


def test_extreme_logits_are_finite() -> None:
    logits = torch.tensor([[[-1e4, 1e4, 0.0, 100.0]]], requires_grad=True)
    at = (torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    total = focal_level_sum(logits, torch.ones(1, 1, dtype=torch.bool), at, (0.25, 0.75), 2.0)
    total.backward()
    assert total.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_compiled_form_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    at = tuple(torch.tensor(v) for v in ([0, 1, 0], [1, 0, 7], [2, 1, 0]))
    part = torch.tensor([[True, True], [True, False]])
    results = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda c=compiling: c)
        logits = torch.linspace(-3, 3, 12).view(2, 2, 3).requires_grad_()
        total = focal_level_sum(logits, part, at, (0.25, 0.75), 2.0)  # type: ignore[arg-type]
        total.backward()
        results.append((total.detach(), logits.grad))
    torch.testing.assert_close(results[0], results[1])
