"""Boxes of a batch in one tensor."""

from __future__ import annotations

import torch

from lucidet.structures import Boxes, PaddedBoxes, pad_rows


def test_pads_to_the_longest() -> None:
    padded = PaddedBoxes.from_boxes(
        [Boxes([[0, 0, 1, 1], [2, 2, 4, 4]]), Boxes(torch.zeros(0, 4)), Boxes([[5, 5, 9, 9]])]
    )
    assert padded.tensor.shape == (3, 2, 4)
    assert padded.valid.tolist() == [[True, True], [False, False], [True, False]]
    assert padded.tensor[2].tolist() == [[5, 5, 9, 9], [0, 0, 0, 0]]
    assert [len(padded.image(i)) for i in range(len(padded))] == [2, 0, 1]


def test_without_any_box() -> None:
    padded = PaddedBoxes.from_boxes([Boxes(torch.zeros(0, 4)), Boxes(torch.zeros(0, 4))])
    assert padded.tensor.shape == (2, 0, 4)
    assert padded.valid.shape == (2, 0)


def test_rows_keep_their_type_and_gradient() -> None:
    rows = [torch.ones(2, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)]
    pad_rows(rows).sum().backward()
    assert rows[1].grad is not None
    assert rows[1].grad.tolist() == [[1, 1, 1]]
    assert pad_rows([torch.tensor([7]), torch.tensor([], dtype=torch.int64)]).dtype == torch.int64
